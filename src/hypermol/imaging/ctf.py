"""Contrast transfer function (the H-hat of eq. 6), as RELION defines it."""

from typing import Any, TypeVar

import numpy as np
from jax import Array

from hypermol.io.metadata import CtfParameters

#: Either library's.
Values = TypeVar("Values", Array, np.ndarray)


def electron_wavelength_angstrom(voltage_kv: Values) -> Values:
    """Relativistic electron wavelength in Angstrom."""
    volts = voltage_kv * 1e3
    return 12.2643247 * (volts * (1.0 + volts * 0.978466e-6)) ** -0.5


def ctf_values(parameters: CtfParameters, frequencies: Values) -> Values:
    """CTF with astigmatism, phase shift, Gaussian envelope and scale.

    `CTF = scale sin(-chi + phi_pc) exp(-B k^2 / 4)` with `chi = pi lambda dz(theta) k^2 -
    pi/2 Cs lambda^3 k^4` negated so that the value at k = 0 is `+sin(phi_pc)`, where
    `phi_pc = phase shift + asin(amplitude contrast)`: positive at zero frequency with white
    particles (RELION's `getCTF`).

    Args:
        parameters: fields of shape [N].
        frequencies: [K, 2] (kx, ky) in 1/Angstrom; NumPy's are taken in float64, where phases of
            hundreds of turns keep their digits, JAX's under its own rules.

    Returns:
        float [N, K].
    """
    xp = frequencies.__array_namespace__()

    def column(values: Any) -> Any:
        return values[:, None]

    wavelength = electron_wavelength_angstrom(column(parameters.voltage_kv))
    kx, ky = frequencies[:, 0], frequencies[:, 1]
    k2 = kx**2 + ky**2
    angle = xp.atan2(ky, kx) - xp.deg2rad(column(parameters.defocus_angle_deg))
    mean = 0.5 * (column(parameters.defocus_u_angstrom) + column(parameters.defocus_v_angstrom))
    half_difference = 0.5 * (
        column(parameters.defocus_u_angstrom) - column(parameters.defocus_v_angstrom)
    )
    defocus = mean + half_difference * xp.cos(2.0 * angle)
    aberration = column(parameters.spherical_aberration_mm) * 1e7
    phase = xp.deg2rad(column(parameters.phase_shift_deg)) + xp.asin(
        column(parameters.amplitude_contrast)
    )
    chi = np.pi * wavelength * defocus * k2 - 0.5 * np.pi * aberration * wavelength**3 * k2**2
    envelope = xp.exp(-0.25 * column(parameters.b_factor_angstrom2) * k2)
    return column(parameters.scale) * xp.sin(chi + phase) * envelope
