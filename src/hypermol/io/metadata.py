"""What a particle set says about each particle, as plain arrays."""

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class CtfParameters:
    """CTF parameters of N particles, each field float64 [N]."""

    defocus_u_angstrom: np.ndarray
    defocus_v_angstrom: np.ndarray
    defocus_angle_deg: np.ndarray
    voltage_kv: np.ndarray
    spherical_aberration_mm: np.ndarray
    amplitude_contrast: np.ndarray
    phase_shift_deg: np.ndarray
    b_factor_angstrom2: np.ndarray

    def __len__(self) -> int:
        return len(self.defocus_u_angstrom)

    def take(self, indices: np.ndarray) -> "CtfParameters":
        """The parameters of the particles `indices`."""
        return CtfParameters(*(getattr(self, f.name)[indices] for f in fields(self)))
