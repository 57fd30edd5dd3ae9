"""Central slices of a density map, by interpolation in its oversampled transform.

The map is padded to twice its size; a slice's Fourier pixels are interpolated with a kernel of
4 x 4 x 4 pixels (the "exponential of semicircle" window), whose effect in real space is divided
out beforehand. The error is below 0.1 % for maps with empty corners (measured by a test against
Gaussians whose slices are known).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jax import Array

from hypermol.space.fourier import fast_even_size

_WIDTH = 4
_BETA = 2.30 * _WIDTH
_IMAGES_AT_ONCE = 4


def padded_transform(volume: np.ndarray) -> np.ndarray:
    """Transform of a map for `slices_of_transform`: complex64 [P, P, P], frequency 0 first.

    Args:
        volume: float [N, N, N], (z, y, x), origin at N // 2.
    """
    n = volume.shape[-1]
    padded = fast_even_size(2 * n)
    correction = 1.0 / _window_transform((np.arange(n) - n // 2) / padded)
    x = correction.astype(np.float32)
    weighted = np.asarray(volume, np.float32) * x[:, None, None] * x[:, None] * x
    out = np.zeros((padded, padded, padded), np.float32)
    places = (np.arange(n) - n // 2) % padded
    out[np.ix_(places, places, places)] = weighted
    return scipy.fft.fftn(out, overwrite_x=True).astype(np.complex64)


@partial(jax.jit, static_argnames="box")
def slices_of_transform(transform: Array, rotations: Array, frequencies: Array, box: int) -> Array:
    """Slices `sum_r V(r) exp(-2 pi i k.r)` at k = R^T (kx, ky, 0).

    Args:
        transform: complex64 [P, P, P] from `padded_transform`.
        rotations: [B, 3, 3].
        frequencies: [K, 2] (kx, ky) in units of 1/box.
        box: side of the images, in pixels of the map's voxel size.

    Returns:
        complex64 [B, K].
    """
    padded = transform.shape[0]
    offsets = jnp.arange(_WIDTH)
    flat = transform.reshape(-1)

    def one(rotation: Array) -> Array:
        plane = jnp.matmul(frequencies, rotation[:2], precision=jax.lax.Precision.HIGHEST)
        place = plane * (padded / box)
        first = jnp.ceil(place - 0.5 * _WIDTH)
        weights = _window(place[..., None] - first[..., None] - offsets)
        index = jnp.mod(first.astype(jnp.int32)[..., None] + offsets, padded)
        x, y, z = index[:, 0], index[:, 1], index[:, 2]
        rows = (z[:, :, None] * padded + y[:, None, :]) * padded
        values = flat.at[rows[..., None] + x[:, None, None, :]].get(mode="promise_in_bounds")
        return jnp.einsum("kzyx,kz,ky,kx->k", values, weights[:, 2], weights[:, 1], weights[:, 0])

    return jax.lax.map(one, rotations, batch_size=_IMAGES_AT_ONCE)


def _window(u: Array) -> Array:
    """The interpolation window at distances u in pixels; 0 beyond half its width."""
    inside = jnp.maximum(1.0 - (2.0 * u / _WIDTH) ** 2, 0.0)
    return jnp.where(inside > 0.0, jnp.exp(_BETA * (jnp.sqrt(inside) - 1.0)), 0.0)


def _window_transform(x: np.ndarray) -> np.ndarray:
    """Integral of the window times cos(2 pi u x), by Gauss-Legendre quadrature in float64."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    u = 0.5 * _WIDTH * nodes
    window = np.exp(_BETA * (np.sqrt(1.0 - nodes**2) - 1.0))
    return 0.5 * _WIDTH * np.cos(2.0 * np.pi * np.outer(x, u)) @ (weights * window)
