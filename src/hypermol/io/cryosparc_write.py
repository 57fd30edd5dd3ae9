"""cryoSPARC's rows kept beside the particles, and written back as .cs files.

What is kept when a .cs file is read (`kept_blocks`): its rows and those of its passthrough file as
they are, and the columns that RELION wants and that have no place elsewhere.

- `location/micrograph_shape` is (height, width); `location/center_x_frac` and `center_y_frac` are
  fractions of width and height, counted as the rows of the micrograph's file are.
- `alignments3D/pose` is minus the rotation vector of R, `alignments3D/shift` minus the shift in
  pixels of `alignments3D/psize_A` (`io.cryosparc` says how this was checked).
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from hypermol.io.atomic import replacing
from hypermol.io.errors import InputError
from hypermol.io.metadata import CS_PASSTHROUGH, CS_ROWS, ParticleMetadata

_POSE, _SHIFT = "alignments3D/pose", "alignments3D/shift"


def kept_blocks(rows: np.ndarray, passthrough: np.ndarray | None) -> dict[str, Any]:
    """Blocks of `ParticleMetadata.table` for particles of a .cs file.

    Args:
        rows: [N] as read.
        passthrough: [N] rows of the passthrough file in the same order, or None.

    Returns:
        "cryosparc": text columns for a STAR file; CS_ROWS and CS_PASSTHROUGH: the rows.
    """
    blocks: dict[str, Any] = {CS_ROWS: rows}
    if passthrough is not None:
        blocks[CS_PASSTHROUGH] = passthrough
    uid = _field(blocks, "uid")
    columns = {"cryosparcUid": [str(u) for u in (np.arange(len(rows)) if uid is None else uid)]}
    blocks["cryosparc"] = pd.DataFrame(columns | _locations(blocks), dtype=object)
    return blocks


def write_particles_cs(
    path: str | Path,
    metadata: ParticleMetadata,
    rotations: np.ndarray | None = None,
    shifts_angstrom: np.ndarray | None = None,
) -> list[Path]:
    """Write particles that came from a .cs file as a .cs file: same fields, types and uids.

    Only `alignments3D/pose` and `alignments3D/shift` change, where new poses are given. Particles
    that were read with a passthrough file get a second file, NAME_passthrough.cs.

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
    names = {CS_ROWS: path, CS_PASSTHROUGH: path.with_name(f"{path.stem}_passthrough.cs")}
    blocks = {name: metadata.table[name].copy() for name in names if name in metadata.table}
    if rotations is not None:
        _set(blocks, _POSE, -Rotation.from_matrix(rotations).as_rotvec(), path)
    if shifts_angstrom is not None:
        sizes = _sizes(blocks, metadata)
        _set(blocks, _SHIFT, 0.0 - np.asarray(shifts_angstrom) / sizes[:, None], path)
    for name, rows in blocks.items():
        with replacing(names[name]) as partial, open(partial, "wb") as file:
            np.save(file, rows, allow_pickle=False)
    return [names[name] for name in blocks]


def _field(blocks: dict[str, Any], name: str) -> np.ndarray | None:
    """A field of the rows, else of the passthrough rows, else None."""
    for block in (CS_ROWS, CS_PASSTHROUGH):
        if block in blocks and name in (blocks[block].dtype.names or ()):
            return blocks[block][name]
    return None


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


def _sizes(blocks: dict[str, Any], metadata: ParticleMetadata) -> np.ndarray:
    """Pixel sizes [N] that shifts are counted in, as the reader takes them."""
    for name in ("alignments3D/psize_A", "blob/psize_A"):
        if (found := _field(blocks, name)) is not None:
            return np.asarray(found, np.float64)
    return np.full(len(metadata), metadata.pixel_size_angstrom)


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
