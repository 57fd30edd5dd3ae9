"""What a particle set says about each particle, as plain arrays."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class CtfParameters:
    """CTF parameters of N particles, each field float64 [N].

    `scale` is a factor of the whole CTF (rlnCtfScalefactor, ctf/scale), 1 where it is left out.
    """

    defocus_u_angstrom: np.ndarray
    defocus_v_angstrom: np.ndarray
    defocus_angle_deg: np.ndarray
    voltage_kv: np.ndarray
    spherical_aberration_mm: np.ndarray
    amplitude_contrast: np.ndarray
    phase_shift_deg: np.ndarray
    b_factor_angstrom2: np.ndarray
    scale: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        if len(self.scale) == 0 and len(self) > 0:
            object.__setattr__(self, "scale", np.ones(len(self)))

    def __len__(self) -> int:
        return len(self.defocus_u_angstrom)

    def take(self, indices: np.ndarray) -> "CtfParameters":
        """The parameters of the particles `indices`."""
        return CtfParameters(*(getattr(self, f.name)[indices] for f in fields(self)))

    @staticmethod
    def none(n: int) -> "CtfParameters":
        """Parameters of `n` images without a CTF: the CTF is 1 at every frequency.

        The amplitude contrast is 1 and defocus and aberration are 0, so the phase is pi/2.
        """
        zero = np.zeros(n)
        return CtfParameters(
            defocus_u_angstrom=zero,
            defocus_v_angstrom=zero,
            defocus_angle_deg=zero,
            voltage_kv=np.full(n, 300.0),
            spherical_aberration_mm=zero,
            amplitude_contrast=np.ones(n),
            phase_shift_deg=zero,
            b_factor_angstrom2=zero,
        )


@dataclass(frozen=True, eq=False)
class ParticleMetadata:
    """N particles: where their images are, their poses and their CTFs.

    The first eight fields and `pixel_size_angstrom` are what a program that writes particles must
    give; the others have defaults.

    Attributes:
        stack_paths: str [N], absolute path of the stack that holds the image.
        stack_indices: int64 [N], the image's number in its stack, from 0.
        rotations: float64 [N, 3, 3], R from molecule to microscope (RELION's Euler matrix).
        shifts_angstrom: float64 [N, 2], (x, y): the particle lies at +s (RELION's origin is -s).
        ctf: CTF parameters of N particles.
        pixel_size_angstrom: one pixel size for all images.
        box: side of the images in pixels; None where the file does not say.
        half_set: int64 [N]: 1 or 2, and 0 for particles in no half set.
        optics_group: int64 [N].
        table: the input's own blocks as text, for the round trip: `particles` (DataFrame of N
            rows), `optics` (absent in older files), and any other block under its own name; of .cs
            files what `io.cryosparc_write` keeps.
        particle_block: name in the file of the block kept as `table["particles"]`.
        row_numbers: int64 [N], the particle's row in the input file, from 1 (for messages).
        contrast_sign: float64 [N], +1 or -1: factor that makes particles white.
        numbered: bool [N], False where the input names a file without the image's number in it,
            so that the file must hold a single image.
        source: the file that was read, or None.
        has_poses: False where the file has no angles and `rotations` are identities.
        remarks: sentences about things in the file that the imaging model leaves out.
        has_ctf: False where the file has no CTF and `ctf` is `CtfParameters.none`.
    """

    stack_paths: np.ndarray
    stack_indices: np.ndarray
    rotations: np.ndarray
    shifts_angstrom: np.ndarray
    ctf: CtfParameters
    pixel_size_angstrom: float
    box: int | None
    half_set: np.ndarray
    optics_group: np.ndarray
    table: dict[str, Any] = field(default_factory=dict)
    particle_block: str = "particles"
    row_numbers: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    contrast_sign: np.ndarray = field(default_factory=lambda: np.zeros(0))
    numbered: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    source: Path | None = None
    has_poses: bool = True
    has_ctf: bool = True
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.stack_paths)
        defaults = {
            "row_numbers": np.arange(1, n + 1),
            "contrast_sign": np.ones(n),
            "numbered": np.ones(n, dtype=bool),
        }
        for name, value in defaults.items():
            if len(getattr(self, name)) == 0 and n > 0:
                object.__setattr__(self, name, value)
        for name in _PER_PARTICLE:
            if len(getattr(self, name)) != n:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries for {n} particles")

    def __len__(self) -> int:
        return len(self.stack_paths)

    def take(self, indices: np.ndarray) -> "ParticleMetadata":
        """The particles `indices` (integers or a mask), in that order, with their table rows."""
        chosen = np.arange(len(self))[np.asarray(indices)]
        changes: dict[str, Any] = {
            name: getattr(self, name)[chosen] for name in _PER_PARTICLE if name != "ctf"
        }
        changes["ctf"] = self.ctf.take(chosen)
        changes["table"] = {
            name: _take_rows(name, block, chosen) for name, block in self.table.items()
        }
        return replace(self, **changes)


#: Tables of text in `ParticleMetadata.table` that have one row a particle; arrays have too.
PER_PARTICLE_BLOCKS = ("particles", "cryosparc")

_PER_PARTICLE = (
    "stack_paths",
    "stack_indices",
    "rotations",
    "shifts_angstrom",
    "ctf",
    "half_set",
    "optics_group",
    "row_numbers",
    "contrast_sign",
    "numbered",
)


def _take_rows(name: str, block: Any, rows: np.ndarray) -> Any:
    if isinstance(block, np.ndarray):
        return block[rows]
    return block.iloc[rows].reset_index(drop=True) if name in PER_PARTICLE_BLOCKS else block
