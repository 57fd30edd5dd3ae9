"""Reading RELION particle files, versions 3.0 to 5.

Defaults of optional columns: origins 0; rlnDefocusV = rlnDefocusU; rlnDefocusAngle, rlnPhaseShift
and rlnCtfBfactor 0; rlnCtfScalefactor 1; rlnRandomSubset 0 (no half set); rlnOpticsGroup 1.
Columns that the imaging model leaves out are kept in the table, and remarked (`star_kinds`).
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hypermol.io.errors import InputError
from hypermol.io.euler import rotation_from_euler
from hypermol.io.image_paths import resolve_stacks, split_image_name
from hypermol.io.metadata import CtfParameters, ParticleMetadata
from hypermol.io.mrc import read_header
from hypermol.io.ranges import (
    ABERRATION,
    AMPLITUDE_CONTRAST,
    ANGLE_DEG,
    B_FACTOR,
    PIXEL_SIZE,
    SCALE,
    VOLTAGE,
    odd_euler_angles,
    odd_optics,
    refuse_impossible,
    refuse_wrong_defocus,
)
from hypermol.io.star_kinds import refuse_other_kinds, star_remarks
from hypermol.io.star_tables import (
    IMAGE_NAME,
    ParticleColumns,
    as_frame,
    find_particles,
    read_blocks,
)

EULER_COLUMNS = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
ORIGIN_ANGSTROM_COLUMNS = ("rlnOriginXAngst", "rlnOriginYAngst")
ORIGIN_PIXEL_COLUMNS = ("rlnOriginX", "rlnOriginY")
CONTRAST_SIGN_COLUMN = "hypermolContrastSign"

#: What `allow_missing` may name.
OPTIONAL_PARTS = ("poses", "ctf")

#: What each column may hold; the defocus has rules of its own.
_RANGES = {
    "rlnVoltage": VOLTAGE,
    "rlnSphericalAberration": ABERRATION,
    "rlnAmplitudeContrast": AMPLITUDE_CONTRAST,
    "rlnDefocusAngle": ANGLE_DEG,
    "rlnPhaseShift": ANGLE_DEG,
    "rlnCtfBfactor": B_FACTOR,
    "rlnCtfScalefactor": SCALE,
}
_DEFOCUS = ("rlnDefocusU", "rlnDefocusV")

_PIXEL_SIZE_COLUMNS = ("rlnImagePixelSize", "rlnPixelSize")
_SIZE_TOLERANCE = 1e-3
_OLD_PIXEL_COLUMNS = ("rlnDetectorPixelSize", "rlnMagnification")


def read_particles_star(
    path: str | Path,
    image_dir: str | Path | None = None,
    *,
    pixel_size_angstrom: float | None = None,
    allow_missing: Collection[str] = (),
) -> ParticleMetadata:
    """Read a RELION particle file (3.0: one block; 3.1 to 5: data_optics and data_particles).

    Args:
        path: the STAR file.
        image_dir: folder that the stacks are in, if not beside the file (see `io.image_paths`).
        pixel_size_angstrom: overrides the file. Without it the pixel size is rlnImagePixelSize,
            else rlnPixelSize, else rlnDetectorPixelSize / rlnMagnification, else the header of
            the first stack.
        allow_missing: "poses" accepts files without angles (rotations are identities, shifts 0),
            "ctf" files without any defocus (the CTF is 1).

    Raises:
        InputError: naming the file, the row or the column, and the remedy.
    """
    path = Path(path)
    check_allow_missing(allow_missing)
    block_name, table = _tables(path)
    columns = ParticleColumns(path, table["particles"], table.get("optics"))
    if len(columns) == 0:
        raise InputError(f"{path} lists no particles: give a file with at least one row")
    refuse_other_kinds(columns)
    names, indices, numbered = _split_image_names(columns)
    stacks = resolve_stacks(names, path, image_dir)
    _refuse_words_before_at(columns, stacks, numbered)
    pixel_size = chosen_pixel_size(pixel_size_angstrom) or _pixel_size(columns, stacks)
    has_poses, has_ctf = _parts_present(columns, allow_missing)
    metadata = ParticleMetadata(
        stack_paths=stacks,
        stack_indices=indices,
        rotations=_rotations(columns, has_poses),
        shifts_angstrom=_shifts(columns, pixel_size),
        ctf=_ctf(columns) if has_ctf else CtfParameters.none(len(columns)),
        pixel_size_angstrom=pixel_size,
        box=_box(columns),
        half_set=_half_set(columns),
        optics_group=columns.groups,
        table=table,
        particle_block=block_name,
        contrast_sign=_contrast_sign(columns),
        numbered=numbered,
        source=path.absolute(),
        has_poses=has_poses,
        has_ctf=has_ctf,
        remarks=star_remarks(columns),
    )
    said = (*_pose_remarks(columns, has_poses), *(odd_optics(metadata) if has_ctf else ()))
    return replace(metadata, remarks=(*metadata.remarks, *said))


def _tables(path: Path) -> tuple[str, dict[str, Any]]:
    """The name of the particles' block in the file, and all blocks, that one as `particles`."""
    blocks = read_blocks(path)
    block_name = find_particles(path, blocks)
    table = {
        "particles" if name == block_name else name: (
            as_frame(block) if name in (block_name, "optics") else block
        )
        for name, block in blocks.items()
    }
    return block_name, table


def check_allow_missing(allow_missing: Collection[str]) -> None:
    """Refuse names that are no optional parts (shared with `io.cryosparc`)."""
    unknown = set(allow_missing) - set(OPTIONAL_PARTS)
    if unknown:
        raise ValueError(f"allow_missing knows {OPTIONAL_PARTS}, not {sorted(unknown)}")


def chosen_pixel_size(pixel_size_angstrom: float | None) -> float | None:
    """The option as given, once it is known to be a size (shared with `io.cryosparc`)."""
    if pixel_size_angstrom is None:
        return None
    if not PIXEL_SIZE.low <= pixel_size_angstrom <= PIXEL_SIZE.high:
        raise InputError(
            f"--pixel-size is {pixel_size_angstrom:g}: give a number of Angstrom between "
            f"{PIXEL_SIZE.low:g} and {PIXEL_SIZE.high:g}"
        )
    return pixel_size_angstrom


def _parts_present(columns: ParticleColumns, allow_missing: Collection[str]) -> tuple[bool, bool]:
    has_poses = any(columns.has(name) for name in EULER_COLUMNS)
    has_ctf = columns.has("rlnDefocusU") or columns.has("rlnDefocusV")
    return has_poses or "poses" not in allow_missing, has_ctf or "ctf" not in allow_missing


def _split_image_names(columns: ParticleColumns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stack names str [N], places int64 [N] from 0 and whether a place is given, bool [N].

    `000012@stack.mrcs` is the twelfth image of a stack, `image.mrc` a file with one image.
    """
    names: list[str] = []
    indices = np.zeros(len(columns), dtype=np.int64)
    numbered = np.zeros(len(columns), dtype=bool)
    for row, text in enumerate(columns.text(IMAGE_NAME)):
        number, name = split_image_name(str(text))
        numbered[row] = bool(number)
        indices[row] = int(number or "1") - 1
        if not name or indices[row] < 0:
            raise _misnamed(columns, row)
        names.append(name)
    return np.array(names), indices, numbered


def _refuse_words_before_at(
    columns: ParticleColumns, stacks: np.ndarray, numbered: np.ndarray
) -> None:
    """Refuse `x@stack.mrcs`, unless a file has that name."""
    for row in np.flatnonzero(~numbered):
        if "@" in stacks[row] and not Path(stacks[row]).is_file():
            raise _misnamed(columns, int(row))


def _misnamed(columns: ParticleColumns, row: int) -> InputError:
    return InputError(
        f"{columns.path} row {row + 1}: {IMAGE_NAME} is {columns.text(IMAGE_NAME)[row]!r}: write "
        "it as number@stack with number 1 or more"
    )


def _pixel_size(columns: ParticleColumns, stacks: np.ndarray) -> float:
    name = columns.first_present(_PIXEL_SIZE_COLUMNS)
    if name is not None:
        sizes = columns.numbers_or(name, 0.0)
    elif all(columns.has(name) for name in _OLD_PIXEL_COLUMNS):
        detector_um = columns.numbers_or(_OLD_PIXEL_COLUMNS[0], 0.0)
        magnification = columns.numbers_or(_OLD_PIXEL_COLUMNS[1], 0.0)
        if np.any(magnification <= 0.0):
            row = int(np.argmax(magnification <= 0.0)) + 1
            raise InputError(
                f"{columns.path} row {row}: rlnMagnification is not positive: correct it or add "
                "a column rlnImagePixelSize in Angstrom"
            )
        name = "rlnDetectorPixelSize / rlnMagnification"
        sizes = detector_um * 1e4 / magnification
    else:
        return _pixel_size_of_header(columns, Path(stacks[0]))
    size = _one_value(columns, name, sizes)
    refuse_impossible(columns.path, name, sizes, PIXEL_SIZE)
    return size


def _pixel_size_of_header(columns: ParticleColumns, stack: Path) -> float:
    size = read_header(stack).voxel_size_angstrom[0] if stack.is_file() else 0.0
    if size <= 0.0 or size == 1.0:
        where = "is missing"
        if stack.is_file():
            where = f"has voxel size {size:g} in its header, which programs write by default"
        raise InputError(
            f"{columns.path} gives no pixel size (rlnImagePixelSize, or rlnDetectorPixelSize with "
            f"rlnMagnification) and {stack} {where}: add rlnImagePixelSize in Angstrom or give "
            "--pixel-size"
        )
    refuse_impossible(stack, "the header's voxel size", np.full(1, size), PIXEL_SIZE)
    return size


def _one_value(columns: ParticleColumns, name: str, values: np.ndarray) -> float:
    """The common value of a column that must be positive and the same for all particles."""
    first = float(values[0])
    other = np.flatnonzero(np.abs(values - first) > _SIZE_TOLERANCE * abs(first))
    if len(other):
        row = other[0]
        raise InputError(
            f"{columns.path} row {row + 1}: {name} is {values[row]:g} (optics group "
            f"{columns.groups[row]}) but {first:g} in row 1 (optics group {columns.groups[0]}): "
            "rescale the particles to one pixel size and box, or select one optics group"
        )
    if first <= 0.0:
        or_option = "" if name == "rlnImageSize" else ", or --pixel-size"
        raise InputError(
            f"{columns.path} row 1: {name} is {first:g}: give a positive number{or_option}"
        )
    return first


def _box(columns: ParticleColumns) -> int | None:
    if not columns.has("rlnImageSize"):
        return None
    box = _one_value(columns, "rlnImageSize", columns.numbers_or("rlnImageSize", 0.0))
    if box != int(box):
        raise InputError(
            f"{columns.path} row 1: rlnImageSize is {box:g}: give the side of the images in pixels"
        )
    return int(box)


def _contrast_sign(columns: ParticleColumns) -> np.ndarray:
    sign = columns.numbers_or(CONTRAST_SIGN_COLUMN, 1.0)
    strange = np.flatnonzero(np.abs(sign) != 1.0)
    if len(strange):
        raise InputError(
            f"{columns.path} row {strange[0] + 1}: {CONTRAST_SIGN_COLUMN} is "
            f"{sign[strange[0]]:g}: it must be 1 or -1"
        )
    return sign


def _rotations(columns: ParticleColumns, has_poses: bool) -> np.ndarray:
    if not has_poses:
        return np.broadcast_to(np.eye(3), (len(columns), 3, 3)).copy()
    angles = [
        columns.numbers(
            name,
            "an Euler angle of the particle",
            "give a file written by a refinement, with poses",
        )
        for name in EULER_COLUMNS
    ]
    for name, values in zip(EULER_COLUMNS, angles, strict=True):
        refuse_impossible(columns.path, name, values, ANGLE_DEG)
    return rotation_from_euler(*angles)


def _pose_remarks(columns: ParticleColumns, has_poses: bool) -> tuple[str, ...]:
    said: list[str] = []
    for angstrom, pixels in zip(ORIGIN_ANGSTROM_COLUMNS, ORIGIN_PIXEL_COLUMNS, strict=True):
        if columns.has(angstrom) and columns.has(pixels):
            said.append(f"{columns.path} has {angstrom}, which is used, and {pixels}, which is not")
    if has_poses:
        angles = np.stack([columns.numbers_or(name, 0.0) for name in EULER_COLUMNS], axis=-1)
        said += odd_euler_angles(columns.path, angles)
    return tuple(said)


def _shifts(columns: ParticleColumns, pixel_size: float) -> np.ndarray:
    """Shifts [N, 2] in Angstrom: minus RELION's origin, which moves the image to the centre."""
    origins = []
    for angstrom, pixels in zip(ORIGIN_ANGSTROM_COLUMNS, ORIGIN_PIXEL_COLUMNS, strict=True):
        if columns.has(angstrom):
            origins.append(columns.numbers_or(angstrom, 0.0))
        else:
            origins.append(columns.numbers_or(pixels, 0.0) * pixel_size)
    return 0.0 - np.stack(origins, axis=-1)


def _ctf(columns: ParticleColumns) -> CtfParameters:
    again = "give a file written by a job after CTF estimation"

    def required(name: str, purpose: str, remedy: str = again) -> np.ndarray:
        return columns.numbers(name, purpose, remedy)

    defocus_u = required("rlnDefocusU", "the defocus in Angstrom")
    for name, quantity in _RANGES.items():
        if columns.has(name):
            refuse_impossible(columns.path, name, columns.numbers_or(name, 0.0), quantity)
    phase_shift = columns.numbers_or("rlnPhaseShift", 0.0)
    for name in _DEFOCUS:
        defocus = columns.numbers_or(name, defocus_u)
        refuse_wrong_defocus(columns.path, name, defocus, phase_shift)
    return CtfParameters(
        defocus_u_angstrom=defocus_u,
        defocus_v_angstrom=columns.numbers_or("rlnDefocusV", defocus_u),
        defocus_angle_deg=columns.numbers_or("rlnDefocusAngle", 0.0),
        voltage_kv=required("rlnVoltage", "the voltage in kV", "add it, 300 for most microscopes"),
        spherical_aberration_mm=required(
            "rlnSphericalAberration", "Cs in mm", "add it, 2.7 for most microscopes"
        ),
        amplitude_contrast=required(
            "rlnAmplitudeContrast",
            "the fraction of amplitude contrast",
            "add it with the value that the CTF was estimated with, 0.1 for most",
        ),
        phase_shift_deg=phase_shift,
        b_factor_angstrom2=columns.numbers_or("rlnCtfBfactor", 0.0),
        scale=columns.numbers_or("rlnCtfScalefactor", 1.0),
    )


def _half_set(columns: ParticleColumns) -> np.ndarray:
    values = columns.numbers_or("rlnRandomSubset", 0.0)
    strange = np.flatnonzero(~np.isin(values, (0.0, 1.0, 2.0)))
    if len(strange):
        raise InputError(
            f"{columns.path} row {strange[0] + 1}: rlnRandomSubset is {values[strange[0]]:g}: "
            "use 1 and 2 for the half sets and 0 for neither"
        )
    return values.astype(np.int64)
