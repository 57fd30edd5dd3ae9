"""cryoSPARC's rows kept beside the particles, and written back as .cs files.

What is kept when a .cs file is read (`kept_blocks`): its rows and those of its passthrough file as
they are, and the columns that RELION wants and that have no place elsewhere.

- `location/micrograph_shape` is (height, width); `location/center_x_frac` and `center_y_frac` are
  fractions of width and height, counted as the rows of the micrograph's file are.
- `alignments3D/pose` is minus the rotation vector of R, `alignments3D/shift` minus the shift in
  pixels of `alignments3D/psize_A` (`io.cryosparc` says how this was checked).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from hypermol.io.atomic import replacing
from hypermol.io.errors import InputError
from hypermol.io.metadata import ParticleMetadata

#: Block of `ParticleMetadata.table` with the rows of a .cs file.
CS_ROWS = "cs"
_ALIGNED = "alignments3D"
_POSE, _SHIFT = f"{_ALIGNED}/pose", f"{_ALIGNED}/shift"


def kept_blocks(tables: Sequence[np.ndarray]) -> dict[str, Any]:
    """Blocks of `ParticleMetadata.table` for particles of a .cs file.

    Args:
        tables: rows [N] of the file and of each of its passthrough files, in one order.

    Returns:
        "cryosparc": text columns for a STAR file; `CS_ROWS`, and for each passthrough file a
        name that begins with it: the rows.
    """
    blocks: dict[str, Any] = {_block_name(place): rows for place, rows in enumerate(tables)}
    uid = _field(blocks, "uid")
    uids = np.arange(len(tables[0])) if uid is None else uid
    columns = {"cryosparcUid": [str(u) for u in uids]} | _locations(blocks)
    return blocks | {"cryosparc": pd.DataFrame(columns, dtype=object)}


def shift_unit(stated: np.ndarray, aligned: np.ndarray, pixel_size_angstrom: float) -> np.ndarray:
    """Angstrom [N] of one unit of alignments3D/shift: pixels of alignments3D/psize_A.

    A pixel size that overrides the file's stretches the alignment's pixels too.

    Args:
        stated: blob/psize_A [N], 0 where it is missing.
        aligned: alignments3D/psize_A [N], 0 where it is missing.
        pixel_size_angstrom: of the images.
    """
    known = (stated > 0.0) & (aligned > 0.0)
    ratio = np.divide(aligned, stated, out=np.ones(len(stated)), where=known)
    return np.where(known | (aligned <= 0.0), ratio * pixel_size_angstrom, aligned)


def write_particles_cs(
    path: str | Path,
    metadata: ParticleMetadata,
    rotations: np.ndarray | None = None,
    shifts_angstrom: np.ndarray | None = None,
) -> list[Path]:
    """Write particles that came from a .cs file as a .cs file: same fields, types and uids.

    Only `alignments3D/pose` and `alignments3D/shift` change, where new poses are given. Particles
    that were read with passthrough files get NAME_passthrough.cs, NAME_passthrough_2.cs, ... too.

    Args:
        path: the file to write.
        metadata: N particles.
        rotations: float [N, 3, 3], new poses.
        shifts_angstrom: float [N, 2], new shifts.

    Returns:
        Paths written.

    Raises:
        InputError: the particles came from another kind of file, or have no field for poses.
    """
    path = Path(path)
    if CS_ROWS not in metadata.table:
        raise InputError(
            f"{path}: the particles were read from {metadata.source or 'no file'} and not from a "
            "cryoSPARC .cs file: write a STAR file"
        )
    names = [name for name in metadata.table if name.startswith(CS_ROWS)]
    blocks = {name: metadata.table[name].copy() for name in sorted(names)}
    if rotations is not None:
        _set(blocks, _POSE, -Rotation.from_matrix(rotations).as_rotvec(), path)
    if shifts_angstrom is not None:
        stated, aligned = (
            _numbers(blocks, f"{of}/psize_A", len(metadata)) for of in ("blob", _ALIGNED)
        )
        unit = shift_unit(stated, aligned, metadata.pixel_size_angstrom)
        _set(blocks, _SHIFT, 0.0 - np.asarray(shifts_angstrom) / unit[:, None], path)
    written = []
    for name, rows in blocks.items():
        written.append(path.with_name(path.stem + name.removeprefix(CS_ROWS) + path.suffix))
        with replacing(written[-1]) as partial, open(partial, "wb") as file:
            np.save(file, rows, allow_pickle=False)
    return written


def _block_name(place: int) -> str:
    """Name of the rows of the file (number 0) or a passthrough file (1, 2, ...)."""
    number = f"_{place}" if place > 1 else ""
    return f"{CS_ROWS}_passthrough{number}" if place else CS_ROWS


def _field(blocks: dict[str, Any], name: str) -> np.ndarray | None:
    """A field of the first rows that have it, else None."""
    return next((rows[name] for rows in blocks.values() if name in rows.dtype.names), None)


def _set(blocks: dict[str, Any], name: str, values: np.ndarray, path: Path) -> None:
    """Put values into every block that has the field."""
    holders = [rows for rows in blocks.values() if name in rows.dtype.names]
    if not holders:
        raise InputError(
            f"{path}: the particles' .cs file has no field {name} that could hold new poses: "
            "write a STAR file"
        )
    for rows in holders:
        rows[name] = values


def _numbers(blocks: dict[str, Any], name: str, n: int) -> np.ndarray:
    """Values float64 [n] of a field, 0 where there is none."""
    found = _field(blocks, name)
    return np.zeros(n) if found is None else np.asarray(found, np.float64)


def _locations(blocks: dict[str, Any]) -> dict[str, list[str]]:
    """RELION's columns of where each particle lies, as far as the file says."""
    columns: dict[str, list[str]] = {}
    if (paths := _field(blocks, "location/micrograph_path")) is not None:
        texts = np.char.decode(paths, "utf-8") if paths.dtype.kind == "S" else paths.astype(str)
        names = np.char.lstrip(texts, ">").tolist()
        if all(names):
            columns["rlnMicrographName"] = names
    shape = _field(blocks, "location/micrograph_shape")
    for axis, side in (("x", 1), ("y", 0)):
        fraction = _field(blocks, f"location/center_{axis}_frac")
        if shape is not None and fraction is not None:
            places = fraction.astype(np.float64) * shape[:, side]
            columns[f"rlnCoordinate{axis.upper()}"] = [f"{place:.3f}" for place in places]
    return columns
