"""Contrast transfer function (the H-hat of eq. 6), as RELION defines it."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.io.metadata import CtfParameters


def electron_wavelength_angstrom(voltage_kv: Array | np.ndarray) -> Array:
    """Relativistic electron wavelength in Angstrom."""
    volts = jnp.asarray(voltage_kv) * 1e3
    return 12.2643247 / jnp.sqrt(volts * (1.0 + volts * 0.978466e-6))


def ctf_values(parameters: CtfParameters, frequencies: Array | np.ndarray) -> Array:
    """CTF with astigmatism, phase shift, Gaussian envelope and scale.

    `CTF = scale sin(-chi + phi_pc) exp(-B k^2 / 4)` with `chi = pi lambda dz(theta) k^2 -
    pi/2 Cs lambda^3 k^4` negated so that the value at k = 0 is `+sin(phi_pc)`, where
    `phi_pc = phase shift + asin(amplitude contrast)`: positive at zero frequency with white
    particles (RELION's `getCTF`).

    Args:
        parameters: fields of shape [N].
        frequencies: [K, 2] (kx, ky) in 1/Angstrom.

    Returns:
        float [N, K].
    """

    def column(values: np.ndarray) -> Array:
        return jnp.asarray(values)[:, None]

    wavelength = electron_wavelength_angstrom(column(parameters.voltage_kv))
    kx, ky = jnp.asarray(frequencies)[:, 0], jnp.asarray(frequencies)[:, 1]
    k2 = kx**2 + ky**2
    angle = jnp.arctan2(ky, kx) - jnp.deg2rad(column(parameters.defocus_angle_deg))
    mean = 0.5 * (column(parameters.defocus_u_angstrom) + column(parameters.defocus_v_angstrom))
    half_difference = 0.5 * (
        column(parameters.defocus_u_angstrom) - column(parameters.defocus_v_angstrom)
    )
    defocus = mean + half_difference * jnp.cos(2.0 * angle)
    aberration = column(parameters.spherical_aberration_mm) * 1e7
    phase = jnp.deg2rad(column(parameters.phase_shift_deg)) + jnp.arcsin(
        column(parameters.amplitude_contrast)
    )
    chi = jnp.pi * wavelength * defocus * k2 - 0.5 * jnp.pi * aberration * wavelength**3 * k2**2
    envelope = jnp.exp(-0.25 * column(parameters.b_factor_angstrom2) * k2)
    return column(parameters.scale) * jnp.sin(chi + phase) * envelope
