"""Noise of a given spectrum and total variance, one independent stream a particle."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.io.errors import InputError
from hypermol.simulation.settings import NoiseSpectrum, Settings

_CORNER_OF_NYQUIST = 0.25
_FLOOR = 0.15


def falling_spectrum(k: np.ndarray, nyquist: float) -> np.ndarray:
    """The named spectrum "coloured": 0.15 + 0.85 / (1 + (4 k / k_Nyquist)^2).

    It is 1 at low frequency, 0.58 at a quarter and 0.2 at Nyquist, as the noise of real
    micrographs falls with the detector's response.
    """
    return _FLOOR + (1.0 - _FLOOR) / (1.0 + (k / (_CORNER_OF_NYQUIST * nyquist)) ** 2)


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """Noise with a mean variance of 1 a pixel.

    Attributes:
        power: float32 [box, box // 2 + 1], relative power of each Fourier pixel in `rfft2`'s
            order, or None for white noise.
        shell_power: float64 [box // 2 + 1], its mean over each shell round(|k|), k in 1/box.
    """

    power: np.ndarray | None
    shell_power: np.ndarray


def noise_model(settings: Settings) -> NoiseModel:
    """The settings' noise, scaled to unit variance."""
    box = settings.box
    axis = np.fft.fftfreq(box, 1.0 / box)
    radius = np.hypot(axis[:, None], axis[None, :])
    spectrum = settings.noise.spectrum
    if spectrum == "white":
        return NoiseModel(None, np.ones(box // 2 + 1))
    power = _evaluate(spectrum, radius / (box * settings.pixel_size_angstrom), settings)
    power = power / power.mean()
    shells = np.rint(radius).astype(int)
    inside = shells <= box // 2
    counts = np.bincount(shells[inside], minlength=box // 2 + 1)
    shell_power = np.bincount(shells[inside], power[inside], minlength=box // 2 + 1) / counts
    return NoiseModel(power[:, : box // 2 + 1].astype(np.float32), shell_power)


def _evaluate(spectrum: str | NoiseSpectrum, k: np.ndarray, settings: Settings) -> np.ndarray:
    if isinstance(spectrum, str):
        return falling_spectrum(k, 0.5 / settings.pixel_size_angstrom)
    power = np.broadcast_to(np.asarray(spectrum(k), dtype=np.float64), k.shape)
    if not (np.all(np.isfinite(power)) and np.all(power >= 0) and power.max() > 0):
        raise InputError(
            "the noise spectrum is negative, not finite or zero everywhere: give a function that "
            f"is positive for |k| from 0 to {k.max():g} 1/Angstrom"
        )
    return power


def noise_image(key: Array, index: Array, box: int, power: Array | None) -> Array:
    """Noise [box, box] of unit variance for the particle `index`.

    It depends on the key and the index only, not on the other particles of a block.
    """
    white = jax.random.normal(jax.random.fold_in(key, index), (box, box))
    if power is None:
        return white
    return jnp.fft.irfft2(jnp.fft.rfft2(white) * jnp.sqrt(power), s=(box, box))
