"""Reading RELION particle files, versions 3.0 to 5.

Defaults of optional columns: origins 0; rlnDefocusV = rlnDefocusU; rlnDefocusAngle, rlnPhaseShift
and rlnCtfBfactor 0; rlnCtfScalefactor 1; rlnRandomSubset 0 (no half set); rlnOpticsGroup 1.
Beam tilt, higher aberrations and anisotropic magnification are kept in the table but are no part
of the imaging model.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from hypermol.io.errors import InputError
from hypermol.io.euler import rotation_from_euler
from hypermol.io.image_paths import resolve_stacks
from hypermol.io.metadata import CtfParameters, ParticleMetadata
from hypermol.io.mrc import read_header
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

#: Terms outside the imaging model: their columns, each with the value that means "none".
_UNMODELLED = {
    "beam tilt": {"rlnBeamTiltX": 0.0, "rlnBeamTiltY": 0.0},
    "odd aberrations": {"rlnOddZernike": 0.0},
    "even aberrations": {"rlnEvenZernike": 0.0},
    "anisotropic magnification": {
        "rlnMagMat00": 1.0,
        "rlnMagMat01": 0.0,
        "rlnMagMat10": 0.0,
        "rlnMagMat11": 1.0,
    },
}
_NEUTRAL_TOLERANCE = 1e-9

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
        image_dir: folder that the stacks are looked for in first (see `io.image_paths`).
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
    blocks = read_blocks(path)
    block_name = find_particles(path, blocks)
    table = {
        "particles" if name == block_name else name: (
            as_frame(block) if name in (block_name, "optics") else block
        )
        for name, block in blocks.items()
    }
    columns = ParticleColumns(path, table["particles"], table.get("optics"))
    if len(columns) == 0:
        raise InputError(f"{path} lists no particles: give a file with at least one row")
    _refuse_unsupported(columns)
    names, indices = _split_image_names(columns)
    stacks = resolve_stacks(names, path, image_dir)
    pixel_size = chosen_pixel_size(pixel_size_angstrom) or _pixel_size(columns, stacks)
    has_poses, has_ctf = _parts_present(columns, allow_missing)
    return ParticleMetadata(
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
        contrast_sign=columns.numbers_or(CONTRAST_SIGN_COLUMN, 1.0),
        ctf_scale=columns.numbers_or("rlnCtfScalefactor", 1.0),
        source=path.absolute(),
        has_poses=has_poses,
        has_ctf=has_ctf,
        remarks=_remarks(columns),
    )


def check_allow_missing(allow_missing: Collection[str]) -> None:
    """Refuse names that are no optional parts (shared with `io.cryosparc`)."""
    unknown = set(allow_missing) - set(OPTIONAL_PARTS)
    if unknown:
        raise ValueError(f"allow_missing knows {OPTIONAL_PARTS}, not {sorted(unknown)}")


def chosen_pixel_size(pixel_size_angstrom: float | None) -> float | None:
    """The option as given, once it is known to be a size (shared with `io.cryosparc`)."""
    if pixel_size_angstrom is not None and not 0.0 < pixel_size_angstrom < np.inf:
        raise InputError(
            f"pixel_size_angstrom is {pixel_size_angstrom:g}: give a positive number of Angstrom"
        )
    return pixel_size_angstrom


def _parts_present(columns: ParticleColumns, allow_missing: Collection[str]) -> tuple[bool, bool]:
    has_poses = any(columns.has(name) for name in EULER_COLUMNS)
    has_ctf = columns.has("rlnDefocusU") or columns.has("rlnDefocusV")
    return has_poses or "poses" not in allow_missing, has_ctf or "ctf" not in allow_missing


def _refuse_unsupported(columns: ParticleColumns) -> None:
    if np.any(columns.numbers_or("rlnImageDimensionality", 2.0) == 3.0):
        raise InputError(
            f"{columns.path} lists 3-D subtomograms (rlnImageDimensionality 3): give 2-D particles"
        )
    if np.any(columns.numbers_or("rlnCtfDataAreCtfPremultiplied", 0.0) == 1.0):
        raise InputError(
            f"{columns.path} lists images premultiplied by the CTF "
            "(rlnCtfDataAreCtfPremultiplied 1): extract them again without premultiplication"
        )


def _remarks(columns: ParticleColumns) -> tuple[str, ...]:
    """One sentence that lists the optical terms that the file has and the model leaves out."""
    found = [
        term
        for term, neutral in _UNMODELLED.items()
        for name, value in neutral.items()
        if columns.has(name) and any(_differs(text, value) for text in set(columns.text(name)))
    ]
    if not found:
        return ()
    terms = ", ".join(dict.fromkeys(found))
    return (
        f"{columns.path} has {terms}, which the imaging model leaves out: the highest shells may "
        "suffer",
    )


def _differs(text: object, neutral: float) -> bool:
    """Whether a number, or any number of a list such as [0.1,0,-0.3], is not `neutral`."""
    numbers = str(text).strip("[]").split(",")
    try:
        return any(abs(float(number) - neutral) > _NEUTRAL_TOLERANCE for number in numbers)
    except ValueError:
        return False


def _split_image_names(columns: ParticleColumns) -> tuple[np.ndarray, np.ndarray]:
    """Stack names str [N] and places int64 [N] from 0, of `000012@stack.mrcs` or `image.mrc`."""
    names: list[str] = []
    indices = np.zeros(len(columns), dtype=np.int64)
    for row, text in enumerate(columns.text(IMAGE_NAME)):
        number, separator, name = str(text).partition("@")
        if not separator:
            name, number = number, "1"
        if not number.isdigit() or int(number) < 1 or not name:
            raise InputError(
                f"{columns.path} row {row + 1}: {IMAGE_NAME} is {text!r}: write it as "
                "number@stack with number 1 or more"
            )
        names.append(name)
        indices[row] = int(number) - 1
    return np.array(names), indices


def _pixel_size(columns: ParticleColumns, stacks: np.ndarray) -> float:
    name = columns.first_present(_PIXEL_SIZE_COLUMNS)
    if name is not None:
        return _one_value(columns, name, columns.numbers_or(name, 0.0))
    if all(columns.has(name) for name in _OLD_PIXEL_COLUMNS):
        detector_um = columns.numbers_or(_OLD_PIXEL_COLUMNS[0], 0.0)
        magnification = columns.numbers_or(_OLD_PIXEL_COLUMNS[1], 0.0)
        if np.any(magnification <= 0.0):
            row = int(np.argmax(magnification <= 0.0)) + 1
            raise InputError(
                f"{columns.path} row {row}: rlnMagnification is not positive: correct it or add "
                "a column rlnImagePixelSize in Angstrom"
            )
        sizes = detector_um * 1e4 / magnification
        return _one_value(columns, "rlnDetectorPixelSize / rlnMagnification", sizes)
    return _pixel_size_of_header(columns, Path(stacks[0]))


def _pixel_size_of_header(columns: ParticleColumns, stack: Path) -> float:
    size = read_header(stack).voxel_size_angstrom[0] if stack.is_file() else 0.0
    if size <= 0.0:
        where = "has voxel size 0 in its header" if stack.is_file() else "is missing"
        raise InputError(
            f"{columns.path} gives no pixel size (rlnImagePixelSize, or rlnDetectorPixelSize with "
            f"rlnMagnification) and {stack} {where}: add rlnImagePixelSize in Angstrom or pass "
            "pixel_size_angstrom"
        )
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
        raise InputError(
            f"{columns.path} row 1: {name} is {first:g}: give a positive number, or pass "
            "pixel_size_angstrom"
        )
    return first


def _box(columns: ParticleColumns) -> int | None:
    if not columns.has("rlnImageSize"):
        return None
    return int(_one_value(columns, "rlnImageSize", columns.numbers_or("rlnImageSize", 0.0)))


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
    return rotation_from_euler(*angles)


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
        phase_shift_deg=columns.numbers_or("rlnPhaseShift", 0.0),
        b_factor_angstrom2=columns.numbers_or("rlnCtfBfactor", 0.0),
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
