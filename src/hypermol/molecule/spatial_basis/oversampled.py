"""From a density on a small grid to the zero-padded transform that `slicing` interpolates."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.space.fourier import fast_even_size

#: Largest support radius as a fraction of the padded box: sets the interpolation error.
_RADIUS_TO_PADDED_BOX = 0.175


def padded_size(n: int, radius: float) -> int:
    """Side of the zero-padded grid, in voxels, for a support of `radius` boxes about the origin."""
    return fast_even_size(int(np.ceil(n * max(1.2, radius / _RADIUS_TO_PADDED_BOX))))


def compensation(n: int, padded: int) -> np.ndarray:
    """float64 [n, n, n]: the inverse of the trilinear interpolation's attenuation."""
    axis = np.sinc((np.arange(n) - n // 2) / padded) ** 2
    return 1.0 / (axis[:, None, None] * axis[None, :, None] * axis[None, None, :])


def padded_transform(volumes: Array, padded: int, radius: int) -> Array:
    """Transforms of real volumes [F, n, n, n] on the padded grid, cropped to `radius` steps.

    One volume and one axis after another, each cropped before the next: no more than the result
    and a few planes of the padded grid exist at a time.

    Returns:
        float [2 radius + 1, 2 radius + 1, radius + 1, 2 F]: z and y centred, x from 0, F real
        parts and then F imaginary parts (see `slicing`).
    """
    steps = np.arange(-radius, radius + 1)
    # the origin is voxel n // 2
    shift = np.exp(2j * np.pi * (volumes.shape[-1] // 2) / padded * steps).astype(np.complex64)

    # a radius may lie one step beyond Nyquist, where slices have no weight
    missing = max(radius - padded // 2, 0)

    def one(volume: Array) -> Array:
        half = jnp.fft.rfft(volume, n=padded, axis=-1)[..., : radius + 1]
        transform = jnp.pad(half, ((0, 0), (0, 0), (0, missing))) * shift[radius:]
        for axis in (1, 0):
            along = jnp.fft.fft(transform, n=padded, axis=axis)
            ramp = np.expand_dims(shift, tuple(range(1, 3 - axis)))
            transform = jnp.take(along, steps % padded, axis=axis) * ramp
        return jnp.stack([transform.real, transform.imag])

    floats = jax.lax.map(one, volumes)
    return jnp.moveaxis(floats, (1, 0), (-2, -1)).reshape(*floats.shape[2:], -1)
