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

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hypermol.io.cryosparc_write import kept_blocks, shift_unit
from hypermol.io.cs_fields import CsFields
from hypermol.io.errors import InputError
from hypermol.io.euler import rotation_from_vector
from hypermol.io.image_paths import resolve_stacks
from hypermol.io.metadata import CtfParameters, ParticleMetadata
from hypermol.io.ranges import (
    ABERRATION,
    AMPLITUDE_CONTRAST,
    ANGLE_RAD,
    B_FACTOR,
    PIXEL_SIZE,
    SCALE,
    VOLTAGE,
    odd_optics,
    refuse_impossible,
    refuse_wrong_defocus,
)
from hypermol.io.star_read import check_allow_missing, chosen_pixel_size

_SIZE_TOLERANCE = 1e-3
#: Terms outside the imaging model; all are zero where there is none.
_UNMODELLED = {
    "ctf/tilt_A": "beam tilt",
    "ctf/trefoil_A": "trefoil",
    "ctf/tetra_A": "tetrafoil",
    "ctf/anisomag": "anisotropic magnification",
    "ctf/shift_A": "the CTF's image shift",
}
#: What each field may hold; the defocus has rules of its own.
_RANGES = {
    "ctf/accel_kv": VOLTAGE,
    "ctf/cs_mm": ABERRATION,
    "ctf/amp_contrast": AMPLITUDE_CONTRAST,
    "ctf/df_angle_rad": ANGLE_RAD,
    "ctf/phase_shift_rad": ANGLE_RAD,
    "ctf/bfactor": B_FACTOR,
    "ctf/scale": SCALE,
}
_WIDE_SCALES = 2.0
#: Fields that say that a file lists something else than particles.
_OTHER_KINDS = {
    "movie_blob/path": "movies",
    "micrograph_blob/path": "micrographs",
    "map/path": "volumes",
    "template/path": "templates",
}


def read_particles_cs(
    path: str | Path,
    image_dir: str | Path | None = None,
    passthrough: str | Path | Sequence[str | Path] = (),
    *,
    pixel_size_angstrom: float | None = None,
    allow_missing: Collection[str] = (),
) -> ParticleMetadata:
    """Read a cryoSPARC particle file.

    Args:
        path: the .cs file.
        image_dir: folder that the stacks are in, if not beside the file (see `io.image_paths`).
        passthrough: the job's passthrough file or files, for fields that `path` lacks; the first
            that has a field gives it, matched by uid.
        pixel_size_angstrom: overrides blob/psize_A.
        allow_missing: "poses" and "ctf", as in `read_particles_star`.

    Raises:
        InputError: naming the file, the row or the field, and the remedy.
    """
    path = Path(path)
    check_allow_missing(allow_missing)
    files = (passthrough,) if isinstance(passthrough, str | Path) else passthrough
    fields = CsFields(path, files)
    n = len(fields)
    _refuse_other_kinds(fields)
    psize = fields.numbers_or("blob/psize_A", 0.0)
    pixel_size = chosen_pixel_size(pixel_size_angstrom) or _pixel_size(path, psize)
    has_poses = fields.has("alignments3D/pose") or "poses" not in allow_missing
    has_ctf = fields.has("ctf/df1_A") or "ctf" not in allow_missing
    stacks = resolve_stacks(fields.text("blob/path"), path, image_dir)
    rotations = np.broadcast_to(np.eye(3), (n, 3, 3)).copy()
    shifts = np.zeros((n, 2))
    if has_poses:
        poses = fields.numbers("alignments3D/pose")
        turns = np.linalg.norm(poses, axis=-1)
        refuse_impossible(path, "the length of alignments3D/pose", turns, ANGLE_RAD)
        rotations = rotation_from_vector(-poses)
        pixels = fields.numbers("alignments3D/shift")
        shifts = 0.0 - pixels * _shift_unit(fields, pixel_size)[:, None]
    metadata = ParticleMetadata(
        stack_paths=stacks,
        stack_indices=_places(fields),
        rotations=rotations,
        shifts_angstrom=shifts,
        ctf=_ctf(fields) if has_ctf else CtfParameters.none(n),
        pixel_size_angstrom=pixel_size,
        box=_box(fields),
        half_set=_half_set(fields),
        optics_group=fields.numbers_or("ctf/exp_group_id", 1.0).astype(np.int64),
        table=kept_blocks(fields.tables),
        contrast_sign=_sign(fields),
        source=path.absolute(),
        has_poses=has_poses,
        has_ctf=has_ctf,
        remarks=_remarks(fields),
    )
    said = odd_optics(metadata) if has_ctf else ()
    return replace(metadata, remarks=(*metadata.remarks, *said))


def _refuse_other_kinds(fields: CsFields) -> None:
    if not fields.has("blob/path"):
        for name, what in _OTHER_KINDS.items():
            if fields.has(name):
                raise InputError(
                    f"{fields.path} lists {what} ({name}): give the particles .cs file of a job"
                )
    if fields.has("blob/shape") and fields.get("blob/shape").shape[1:] != (2,):
        raise InputError(
            f"{fields.path} row 1: blob/shape is {fields.get('blob/shape')[0]}, not two numbers: "
            "give particles that are 2-D images"
        )


def _pixel_size(path: Path, psize: np.ndarray) -> float:
    size = _one_value(path, "blob/psize_A", psize)
    refuse_impossible(path, "blob/psize_A", psize, PIXEL_SIZE)
    return size


def _shift_unit(fields: CsFields, pixel_size: float) -> np.ndarray:
    """Angstrom [N] of one unit of alignments3D/shift."""
    stated, aligned = (fields.numbers_or(f"{of}/psize_A", 0.0) for of in ("blob", "alignments3D"))
    unit = shift_unit(stated, aligned, pixel_size)
    refuse_impossible(fields.path, "the unit of alignments3D/shift", unit, PIXEL_SIZE)
    return unit


def _places(fields: CsFields) -> np.ndarray:
    places = fields.numbers("blob/idx")
    bad = np.flatnonzero((places < 0) | (places != np.rint(places)))
    if len(bad):
        raise InputError(
            f"{fields.path} row {bad[0] + 1}: blob/idx is {places[bad[0]]:g}: it must be an "
            "image's number in its stack, from 0"
        )
    return places.astype(np.int64)


def _half_set(fields: CsFields) -> np.ndarray:
    split = fields.numbers_or("alignments3D/split", -1.0)
    strange = np.flatnonzero(~np.isin(split, (-1.0, 0.0, 1.0)))
    if len(strange):
        raise InputError(
            f"{fields.path} row {strange[0] + 1}: alignments3D/split is {split[strange[0]]:g}: it "
            "must be 0 or 1"
        )
    return split.astype(np.int64) + 1


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
        remedy = "give --pixel-size, in Angstrom" if "psize" in name else "extract the images again"
        raise InputError(f"{path} row 1: {name} is missing or not positive: {remedy}")
    return first


def _box(fields: CsFields) -> int | None:
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


def _sign(fields: CsFields) -> np.ndarray:
    sign = fields.numbers_or("blob/sign", 1.0)
    strange = np.flatnonzero(np.abs(sign) != 1.0)
    if len(strange):
        raise InputError(
            f"{fields.path} row {strange[0] + 1}: blob/sign is {sign[strange[0]]:g}: it must be "
            "1 or -1"
        )
    return sign


def _remarks(fields: CsFields) -> tuple[str, ...]:
    said = []
    found = [
        term
        for name, term in _UNMODELLED.items()
        if fields.has(name) and np.any(fields.numbers(name) != 0.0)
    ]
    if found:
        said.append(
            f"{fields.path} has {', '.join(found)}, which the imaging model leaves out: the "
            "highest shells may suffer"
        )
    if fields.has("alignments3D/alpha"):
        low, high = np.quantile(fields.numbers("alignments3D/alpha"), [0.05, 0.95])
        if not (low > 0.0 and high <= _WIDE_SCALES * low):
            said.append(
                f"{fields.path} has scales of the particles (alignments3D/alpha) from {low:g} to "
                f"{high:g} (5 % to 95 %), by which nothing is multiplied: each image's contrast "
                "takes up what it can"
            )
    if any(name.startswith("filament/") for name in fields.names):
        said.append(
            f"{fields.path} has helical segments (filament/...): they are taken as single "
            "particles, without helical symmetry, and overlapping segments as independent"
        )
    broken = [name for name in fields.names if not _is_finite(fields.get(name))]
    if broken:
        said.append(
            f"{fields.path} has values that are not finite in {', '.join(broken)}, which the fit "
            "does not use"
        )
    return tuple(said)


def _is_finite(values: np.ndarray) -> bool:
    return values.dtype.kind != "f" or bool(np.all(np.isfinite(values)))


def _ctf(fields: CsFields) -> CtfParameters:
    defocus_u = fields.numbers("ctf/df1_A")
    for name, quantity in _RANGES.items():
        if fields.has(name):
            refuse_impossible(fields.path, name, fields.numbers(name), quantity)
    phase_shift_deg = np.rad2deg(fields.numbers_or("ctf/phase_shift_rad", 0.0))
    for name in ("ctf/df1_A", "ctf/df2_A"):
        defocus = fields.numbers_or(name, defocus_u)
        refuse_wrong_defocus(fields.path, name, defocus, phase_shift_deg)
    return CtfParameters(
        defocus_u_angstrom=defocus_u,
        defocus_v_angstrom=fields.numbers_or("ctf/df2_A", defocus_u),
        defocus_angle_deg=np.rad2deg(fields.numbers_or("ctf/df_angle_rad", 0.0)),
        voltage_kv=fields.numbers("ctf/accel_kv"),
        spherical_aberration_mm=fields.numbers("ctf/cs_mm"),
        amplitude_contrast=fields.numbers("ctf/amp_contrast"),
        phase_shift_deg=phase_shift_deg,
        b_factor_angstrom2=fields.numbers_or("ctf/bfactor", 0.0),
        scale=fields.numbers_or("ctf/scale", 1.0),
    )
