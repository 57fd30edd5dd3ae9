"""Writing RELION particle files: the input's columns as they were, new poses and new columns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hypermol.io.atomic import write_text
from hypermol.io.euler import euler_from_rotation
from hypermol.io.image_paths import name_from, split_image_name
from hypermol.io.metadata import ParticleMetadata
from hypermol.io.star_output import star_text
from hypermol.io.star_read import (
    CONTRAST_SIGN_COLUMN,
    EULER_COLUMNS,
    ORIGIN_ANGSTROM_COLUMNS,
    ORIGIN_PIXEL_COLUMNS,
)
from hypermol.io.star_tables import IMAGE_NAME, OPTICS_GROUP


def write_particles_star(
    path: str | Path,
    metadata: ParticleMetadata,
    extra_columns: Mapping[str, np.ndarray] | None = None,
    rotations: np.ndarray | None = None,
    shifts_angstrom: np.ndarray | None = None,
) -> None:
    """Write particles as a STAR file with every block and column of the input.

    What is not replaced is written with the input's own text. Origins keep the input's unit
    (rlnOriginX in pixels or rlnOriginXAngst). Priors of replaced angles and origins, which
    RELION keeps for helices, become the new values. Stack names stay if they lead to the same
    stack from the new folder or one above it, where a RELION project may begin, and are
    absolute otherwise. Particles that came from no STAR file get RELION 3.1 blocks.

    Args:
        path: the file to write.
        metadata: N particles.
        extra_columns: name to values [N] of columns to add (or replace).
        rotations: float [N, 3, 3], new poses.
        shifts_angstrom: float [N, 2], new shifts (the origin written is minus these).

    Raises:
        InputError: a text cannot be written in a STAR file, or the file system refused.
    """
    path = Path(path)
    from_star = "particles" in metadata.table
    tables = dict(metadata.table) if from_star else relion_tables(metadata)
    particles = tables["particles"].copy()
    if rotations is not None:
        _set_rotations(particles, rotations)
    if shifts_angstrom is not None:
        _set_shifts(particles, shifts_angstrom, metadata.pixel_size_angstrom)
    particles[IMAGE_NAME] = _image_names(path, metadata, particles[IMAGE_NAME])
    for name, values in (extra_columns or {}).items():
        if np.shape(values) != (len(metadata),):
            raise ValueError(
                f"column {name} has shape {np.shape(values)} for {len(metadata)} particles"
            )
        particles[name] = column_text(np.asarray(values))
    tables["particles"] = particles
    named = {
        metadata.particle_block if from_star and name == "particles" else name: block
        for name, block in tables.items()
    }
    write_text(path, star_text(named))


def relion_tables(metadata: ParticleMetadata) -> dict[str, Any]:
    """RELION 3.1 blocks (text) of particles that came from no STAR file.

    Each combination of optics group, voltage, aberration and amplitude contrast becomes an
    optics group. Columns of `table["cryosparc"]` are added to the particles. Images that must be
    multiplied by -1 get a phase shift of half a turn more, which does the same to the CTF, in
    RELION's own column; without a CTF they get the column hypermolContrastSign.
    """
    ctf = metadata.ctf
    keys = np.stack(
        [
            metadata.optics_group.astype(np.float64),
            ctf.voltage_kv,
            ctf.spherical_aberration_mm,
            ctf.amplitude_contrast,
        ],
        axis=-1,
    )
    unique, groups = np.unique(keys, axis=0, return_inverse=True)
    n_groups = len(unique)
    optics = {
        OPTICS_GROUP: np.arange(1, n_groups + 1),
        "rlnOpticsGroupName": np.array([f"opticsGroup{g + 1}" for g in range(n_groups)]),
        "rlnVoltage": unique[:, 1],
        "rlnSphericalAberration": unique[:, 2],
        "rlnAmplitudeContrast": unique[:, 3],
        "rlnImagePixelSize": np.full(n_groups, metadata.pixel_size_angstrom),
        "rlnImageDimensionality": np.full(n_groups, 2),
    }
    if metadata.box is not None:
        optics["rlnImageSize"] = np.full(n_groups, metadata.box)
    pairs = zip(metadata.stack_indices, metadata.stack_paths, strict=True)
    particles: dict[str, np.ndarray] = {
        IMAGE_NAME: np.array([f"{index + 1:06d}@{stack}" for index, stack in pairs], dtype=object),
    }
    if metadata.has_ctf:
        particles |= {
            "rlnDefocusU": ctf.defocus_u_angstrom,
            "rlnDefocusV": ctf.defocus_v_angstrom,
            "rlnDefocusAngle": ctf.defocus_angle_deg,
            "rlnPhaseShift": _signed_phase_deg(metadata),
            "rlnCtfBfactor": ctf.b_factor_angstrom2,
            "rlnCtfScalefactor": ctf.scale,
        }
    particles[OPTICS_GROUP] = groups.ravel() + 1
    if np.any(metadata.half_set > 0):
        particles["rlnRandomSubset"] = metadata.half_set
    if not metadata.has_ctf and np.any(metadata.contrast_sign != 1.0):
        particles[CONTRAST_SIGN_COLUMN] = metadata.contrast_sign.astype(np.int64)
    frame = _text_frame(particles)
    if metadata.has_poses:
        _set_rotations(frame, metadata.rotations)
        _set_shifts(frame, metadata.shifts_angstrom, metadata.pixel_size_angstrom)
    extra = metadata.table.get("cryosparc")
    if extra is not None:
        frame = pd.concat([frame, extra.reset_index(drop=True)], axis=1)
    return {"optics": _text_frame(optics), "particles": frame}


def _signed_phase_deg(metadata: ParticleMetadata) -> np.ndarray:
    """Phase shifts [N] in (-180, 180], half a turn further where the contrast sign is -1."""
    turned = metadata.ctf.phase_shift_deg + 180.0 * (metadata.contrast_sign < 0.0)
    return np.where(turned > 180.0, turned - 360.0, turned)


def column_text(values: np.ndarray) -> np.ndarray:
    """Values as text: integers and booleans in full, floats to 9 digits, strings as they are."""
    if values.dtype.kind == "f":
        return np.array([f"{value:.9g}" for value in values], dtype=object)
    if values.dtype.kind == "b":
        values = values.astype(np.int64)
    return np.array([str(value) for value in values], dtype=object)


def _text_frame(columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    return pd.DataFrame({name: column_text(values) for name, values in columns.items()})


def _fixed(values: np.ndarray) -> np.ndarray:
    return np.array([f"{value:.6f}" for value in values], dtype=object)


def _set_rotations(particles: pd.DataFrame, rotations: np.ndarray) -> None:
    """Write angles, and let priors of angles say the same.

    Whether an angle was flipped against its prior no longer means anything.
    """
    for name, angle in zip(EULER_COLUMNS, euler_from_rotation(rotations), strict=True):
        particles[name] = _fixed(angle)
        if f"{name}Prior" in particles:
            particles[f"{name}Prior"] = particles[name]
        if f"{name}Flip" in particles:
            del particles[f"{name}Flip"]


def _set_shifts(particles: pd.DataFrame, shifts: np.ndarray, pixel_size: float) -> None:
    """Write origins in each unit that the table has (in Angstrom if it has none), and priors."""
    origins = 0.0 - np.asarray(shifts, dtype=np.float64)
    in_pixels = any(name in particles for name in ORIGIN_PIXEL_COLUMNS)
    in_angstrom = any(name in particles for name in ORIGIN_ANGSTROM_COLUMNS)
    for axis, (pixels, angstrom) in enumerate(
        zip(ORIGIN_PIXEL_COLUMNS, ORIGIN_ANGSTROM_COLUMNS, strict=True)
    ):
        values = {pixels: origins[:, axis] / pixel_size, angstrom: origins[:, axis]}
        for name in (pixels,) * in_pixels + (angstrom,) * (in_angstrom or not in_pixels):
            particles[name] = _fixed(values[name])
        for name, value in values.items():
            prior = f"{name.removesuffix('Angst')}Prior{'Angst' * name.endswith('Angst')}"
            if prior in particles:
                particles[prior] = _fixed(value)


def _image_names(path: Path, metadata: ParticleMetadata, names: pd.Series) -> np.ndarray:
    """Image names as a file at `path` must write them; the numbers keep their text."""
    folder = path.absolute().parent
    known: dict[tuple[str, str], str] = {}
    written = []
    for text, stack in zip(names, metadata.stack_paths, strict=True):
        number, name = split_image_name(str(text))
        key = (name, str(stack))
        if key not in known:
            known[key] = name_from(folder, *key)
        written.append(f"{number}{'@' * bool(number)}{known[key]}")
    return np.array(written, dtype=object)
