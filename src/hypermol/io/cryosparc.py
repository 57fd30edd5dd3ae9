"""Reading cryoSPARC particle files (.cs).

How the fields were checked, on files with known readings (tests/io/test_cryosparc.py):

- `alignments3D/pose` is a rotation vector; its matrix, counter-clockwise about the vector, takes
  microscope to molecule coordinates, so R is its TRANSPOSE (largest difference from the expected
  poses of 2,019 particles: 5e-7; without the transpose: 2.0).
- `alignments3D/shift` is in pixels of `alignments3D/psize_A` and moves the image to the centre,
  as RELION's origin does: `s = -shift`.
- `ctf/df1_A`, `ctf/df2_A` are rlnDefocusU and rlnDefocusV, `ctf/df_angle_rad` is
  rlnDefocusAngle in radians.
- `blob/sign` is the factor that makes particles white: images are multiplied by it.
- `alignments3D/split` 0 and 1 are half sets 1 and 2.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from hypermol.io.cryosparc_write import kept_blocks
from hypermol.io.errors import InputError
from hypermol.io.euler import rotation_from_vector
from hypermol.io.image_paths import resolve_stacks
from hypermol.io.metadata import CtfParameters, ParticleMetadata
from hypermol.io.star_read import check_allow_missing, chosen_pixel_size

_SIZE_TOLERANCE = 1e-3
#: Terms outside the imaging model; all are zero where there is none.
_UNMODELLED = {
    "ctf/tilt_A": "beam tilt",
    "ctf/trefoil_A": "trefoil",
    "ctf/tetra_A": "tetrafoil",
    "ctf/anisomag": "anisotropic magnification",
}


def read_particles_cs(
    path: str | Path,
    image_dir: str | Path | None = None,
    passthrough: str | Path | None = None,
    *,
    pixel_size_angstrom: float | None = None,
    allow_missing: Collection[str] = (),
) -> ParticleMetadata:
    """Read a cryoSPARC particle file.

    Args:
        path: the .cs file.
        image_dir: folder that the stacks are looked for in first (see `io.image_paths`).
        passthrough: the job's passthrough file, for fields that `path` lacks; matched by uid.
        pixel_size_angstrom: overrides blob/psize_A.
        allow_missing: "poses" and "ctf", as in `read_particles_star`.

    Raises:
        InputError: naming the file, the row or the field, and the remedy.
    """
    path = Path(path)
    check_allow_missing(allow_missing)
    fields = _Fields(path, passthrough)
    n = len(fields)
    psize = fields.numbers_or("blob/psize_A", 0.0)
    pixel_size = chosen_pixel_size(pixel_size_angstrom) or _one_value(path, "blob/psize_A", psize)
    has_poses = fields.has("alignments3D/pose") or "poses" not in allow_missing
    has_ctf = fields.has("ctf/df1_A") or "ctf" not in allow_missing
    stacks = resolve_stacks(fields.text("blob/path"), path, image_dir)
    rotations = np.broadcast_to(np.eye(3), (n, 3, 3)).copy()
    shifts = np.zeros((n, 2))
    if has_poses:
        rotations = rotation_from_vector(-fields.numbers("alignments3D/pose"))
        pixels = fields.numbers("alignments3D/shift")
        shifts = 0.0 - pixels * fields.numbers_or("alignments3D/psize_A", psize)[:, None]
    return ParticleMetadata(
        stack_paths=stacks,
        stack_indices=fields.numbers("blob/idx").astype(np.int64),
        rotations=rotations,
        shifts_angstrom=shifts,
        ctf=_ctf(fields) if has_ctf else CtfParameters.none(n),
        pixel_size_angstrom=pixel_size,
        box=_box(fields),
        half_set=fields.numbers_or("alignments3D/split", -1.0).astype(np.int64) + 1,
        optics_group=fields.numbers_or("ctf/exp_group_id", 1.0).astype(np.int64),
        table=fields.kept_blocks(),
        contrast_sign=_sign(fields),
        ctf_scale=fields.numbers_or("ctf/scale", 1.0),
        source=path.absolute(),
        has_poses=has_poses,
        has_ctf=has_ctf,
        remarks=_remarks(fields),
    )


class _Fields:
    """Fields of N particles, from the file or else from its passthrough file."""

    def __init__(self, path: Path, passthrough: str | Path | None) -> None:
        self.path = path
        self._main = _load(path)
        self._extra: np.ndarray | None = None
        if passthrough is not None:
            self._extra = _match_uids(path, self._main, Path(passthrough))

    def __len__(self) -> int:
        return len(self._main)

    def kept_blocks(self) -> dict[str, Any]:
        """What is kept of the rows for writing; see `io.cryosparc_write`."""
        return kept_blocks(self._main, self._extra)

    def has(self, name: str) -> bool:
        """Whether either file has the field."""
        return name in _names(self._main) or (
            self._extra is not None and name in _names(self._extra)
        )

    def get(self, name: str) -> np.ndarray:
        """Values as stored.

        Raises:
            InputError: neither file has the field.
        """
        if name in _names(self._main):
            return self._main[name]
        if self._extra is not None and name in _names(self._extra):
            return self._extra[name]
        raise InputError(
            f"{self.path} has no field {name}: give the job's passthrough file too, or the output "
            "of a refinement"
        )

    def text(self, name: str) -> np.ndarray:
        """Values as str [N]; cryoSPARC marks linked paths with a leading '>'."""
        values = self.get(name)
        decoded = np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
        return np.char.lstrip(decoded.astype(str), ">")

    def numbers(self, name: str) -> np.ndarray:
        """Values as float64 [N, ...], all finite."""
        values = self.get(name).astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
        if len(bad):
            raise InputError(
                f"{self.path} row {bad[0] + 1}: {name} is not finite ({len(bad)} such rows): "
                "remove these particles"
            )
        return values

    def numbers_or(self, name: str, default: float | np.ndarray) -> np.ndarray:
        """Values as float64 [N], `default` where neither file has the field."""
        if self.has(name):
            return self.numbers(name)
        return np.broadcast_to(np.asarray(default, dtype=np.float64), (len(self),)).copy()


def _names(array: np.ndarray) -> tuple[str, ...]:
    return array.dtype.names or ()


def _load(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"{path} does not exist: check the path")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(
            f"{path} cannot be read as a cryoSPARC .cs file ({error}): export it again"
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.names is None or array.ndim != 1:
        raise InputError(
            f"{path} is not a table of particles: give the particles .cs file of a job"
        )
    if len(array) == 0:
        raise InputError(f"{path} lists no particles: give a file with at least one row")
    return array


def _match_uids(path: Path, main: np.ndarray, other_path: Path) -> np.ndarray:
    """Rows of the passthrough file in the order of the main file's uids."""
    other = _load(other_path)
    for name, array in ((path, main), (other_path, other)):
        if "uid" not in _names(array):
            raise InputError(f"{name} has no field uid: give .cs files of one cryoSPARC job")
    order = np.argsort(other["uid"])
    place = np.searchsorted(other["uid"][order], main["uid"])
    rows = order[np.clip(place, 0, len(other) - 1)]
    lost = np.flatnonzero(other["uid"][rows] != main["uid"])
    if len(lost):
        raise InputError(
            f"{path} row {lost[0] + 1}: its uid is not in {other_path} ({len(lost)} such rows): "
            "give the passthrough file of the same job"
        )
    return other[rows]


def _one_value(path: Path, name: str, values: np.ndarray) -> float:
    first = float(values[0])
    other = np.flatnonzero(np.abs(values - first) > _SIZE_TOLERANCE * abs(first))
    if len(other):
        row = other[0]
        raise InputError(
            f"{path} row {row + 1}: {name} is {values[row]:g} but {first:g} in row 1: rescale the "
            "particles to one pixel size and box, or select those of one"
        )
    if first <= 0.0:
        raise InputError(
            f"{path} row 1: {name} is missing or not positive: pass pixel_size_angstrom"
        )
    return first


def _box(fields: _Fields) -> int | None:
    if not fields.has("blob/shape"):
        return None
    shape = fields.numbers("blob/shape")
    oblong = np.flatnonzero(shape[:, 0] != shape[:, 1])
    if len(oblong):
        row = oblong[0]
        raise InputError(
            f"{fields.path} row {row + 1}: the image is {shape[row, 0]:g} x {shape[row, 1]:g} "
            "pixels (blob/shape): extract square images"
        )
    return int(_one_value(fields.path, "blob/shape", shape[:, 0]))


def _sign(fields: _Fields) -> np.ndarray:
    sign = fields.numbers_or("blob/sign", 1.0)
    strange = np.flatnonzero(np.abs(sign) != 1.0)
    if len(strange):
        raise InputError(
            f"{fields.path} row {strange[0] + 1}: blob/sign is {sign[strange[0]]:g}: it must be "
            "1 or -1"
        )
    return sign


def _remarks(fields: _Fields) -> tuple[str, ...]:
    found = [
        term
        for name, term in _UNMODELLED.items()
        if fields.has(name) and np.any(fields.numbers(name) != 0.0)
    ]
    if not found:
        return ()
    return (
        f"{fields.path} has {', '.join(found)}, which the imaging model leaves out: the highest "
        "shells may suffer",
    )


def _ctf(fields: _Fields) -> CtfParameters:
    defocus_u = fields.numbers("ctf/df1_A")
    return CtfParameters(
        defocus_u_angstrom=defocus_u,
        defocus_v_angstrom=fields.numbers_or("ctf/df2_A", defocus_u),
        defocus_angle_deg=np.rad2deg(fields.numbers_or("ctf/df_angle_rad", 0.0)),
        voltage_kv=fields.numbers("ctf/accel_kv"),
        spherical_aberration_mm=fields.numbers("ctf/cs_mm"),
        amplitude_contrast=fields.numbers("ctf/amp_contrast"),
        phase_shift_deg=np.rad2deg(fields.numbers_or("ctf/phase_shift_rad", 0.0)),
        b_factor_angstrom2=fields.numbers_or("ctf/bfactor", 0.0),
    )
