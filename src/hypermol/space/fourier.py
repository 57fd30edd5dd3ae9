"""The one centred FFT convention, and the half plane of Fourier pixels with its weights.

`V-hat(k) = sum_r V(r) exp(-2 pi i k.r)` with r counted from voxel n // 2 (CONVENTIONS.md).
Images use the orthonormal scaling, so white noise keeps its variance.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.fft
from jax import Array


class HalfPlane(NamedTuple):
    """Fourier pixels that stand for the whole plane of a real image.

    Attributes:
        frequencies: int32 [K, 2], (kx, ky) in units of 1/box.
        shells: int32 [K], round(|k|).
        box: the image's side in pixels.
        kmax: largest |k| in units of 1/box.
    """

    frequencies: np.ndarray
    shells: np.ndarray
    box: int
    kmax: int

    @property
    def n_shells(self) -> int:
        """Number of shells, counting the empty shell 0, so that arrays are indexed by shell."""
        return self.kmax + 1


#: Each half-plane term stands for two conjugate terms of the full plane (eq. 10).
FULL_PLANE_WEIGHT = 2.0


def half_plane(box: int, kmax: int) -> HalfPlane:
    """Fourier pixels with 0 < |k| <= kmax and (kx > 0, or kx = 0 and ky > 0).

    k = 0 is left out (the background's mean is not known), and kmax must be below Nyquist, so no
    pixel is self-conjugate and every term counts exactly `FULL_PLANE_WEIGHT` times.

    Raises:
        ValueError: kmax is not within 1 .. ceil(box / 2) - 1.
    """
    if not 1 <= kmax <= (box - 1) // 2:
        raise ValueError(
            f"kmax {kmax} does not fit a box of {box} pixels: choose 1 to {(box - 1) // 2}"
        )
    axis = np.arange(-kmax, kmax + 1)
    kx, ky = np.meshgrid(axis, axis, indexing="xy")
    radius = np.hypot(kx, ky)
    keep = (radius <= kmax) & ((kx > 0) | ((kx == 0) & (ky > 0)))
    frequencies = np.stack([kx[keep], ky[keep]], axis=-1).astype(np.int32)
    shells = np.rint(radius[keep]).astype(np.int32)
    order = np.lexsort((frequencies[:, 1], frequencies[:, 0]))
    return HalfPlane(frequencies[order], shells[order], box, kmax)


def centred_fft2(images: Array) -> Array:
    """Orthonormal centred 2-D transform of images [..., box, box]; zero frequency at box // 2."""
    axes = (-2, -1)
    return jnp.fft.fftshift(
        jnp.fft.fft2(jnp.fft.ifftshift(images, axes=axes), axes=axes, norm="ortho"), axes=axes
    )


def plane_columns(finer: HalfPlane, plane: HalfPlane) -> np.ndarray:
    """Where the pixels of a half plane are in a finer one of the same box, int [K]."""
    where = {tuple(k): i for i, k in enumerate(np.asarray(finer.frequencies).tolist())}
    return np.array([where[tuple(k)] for k in np.asarray(plane.frequencies).tolist()])


def image_to_half_plane(images: Array, plane: HalfPlane) -> Array:
    """Half-plane Fourier pixels [..., K] (orthonormal) of real images [..., box, box]."""
    transform = centred_fft2(images)
    centre = plane.box // 2
    kx, ky = plane.frequencies[:, 0], plane.frequencies[:, 1]
    return transform[..., centre + ky, centre + kx]


def half_plane_to_image(values: Array, plane: HalfPlane) -> Array:
    """Real images [..., box, box] of half-plane values [..., K]: inverse of `image_to_half_plane`
    for images band-limited to the plane's pixels.
    """
    centre = plane.box // 2
    kx, ky = plane.frequencies[:, 0], plane.frequencies[:, 1]
    full = jnp.zeros((*values.shape[:-1], plane.box, plane.box), dtype=values.dtype)
    full = full.at[..., centre + ky, centre + kx].set(values)
    full = full.at[..., centre - ky, centre - kx].set(jnp.conj(values))
    axes = (-2, -1)
    image = jnp.fft.ifft2(jnp.fft.ifftshift(full, axes=axes), axes=axes, norm="ortho")
    return jnp.fft.fftshift(image, axes=axes).real


def shift_phases(plane: HalfPlane, shifts_px: Array) -> Array:
    """Phases exp(-2 pi i k.s) (eq. 6) of shifts [..., 2] (x, y) in pixels: complex [..., K].

    One exponential per axis and integer frequency, then products: ten times fewer exponentials
    than one per pixel.
    """
    axis = jnp.arange(-plane.kmax, plane.kmax + 1, dtype=shifts_px.dtype)
    waves = jnp.exp((-2j * np.pi / plane.box) * shifts_px[..., None] * axis)
    x = jnp.take(waves[..., 0, :], plane.frequencies[:, 0] + plane.kmax, axis=-1)
    y = jnp.take(waves[..., 1, :], plane.frequencies[:, 1] + plane.kmax, axis=-1)
    return x * y


def crop_or_pad_volume(volume: np.ndarray, n: int) -> np.ndarray:
    """Resample a real volume [..., m, m, m] to [..., n, n, n] over the same box, in Fourier space.

    Densities keep their value (units per voxel-of-the-original). Nyquist planes of the smaller
    grid are dropped, so up and down again is the identity for band-limited volumes.
    """
    m = volume.shape[-1]
    if m == n:
        return volume
    axes = (-3, -2, -1)
    transform = scipy.fft.rfftn(np.fft.ifftshift(volume, axes=axes), axes=axes)
    half = (min(m, n) - 1) // 2
    shared = np.arange(-half, half + 1)
    planes, rows, columns = shared[:, None, None], shared[:, None], np.arange(half + 1)
    out = np.zeros((*volume.shape[:-3], n, n, n // 2 + 1), dtype=transform.dtype)
    out[..., planes, rows, columns] = transform[..., planes, rows, columns]
    out = np.fft.fftshift(scipy.fft.irfftn(out, s=(n, n, n), axes=axes), axes)
    return (out * (n / m) ** 3).astype(volume.dtype)


def frequency_radii(n: int) -> np.ndarray:
    """|k| in 1/box of the coefficients of `rfftn` on an n-cube, float64 [n, n, n // 2 + 1]."""
    full, half = np.fft.fftfreq(n, 1.0 / n), np.fft.rfftfreq(n, 1.0 / n)
    return np.sqrt(full[:, None, None] ** 2 + full[:, None] ** 2 + half**2)


def voxel_radii(n: int, side: float = 1.0) -> np.ndarray:
    """Distance from the origin voxel n // 2, of voxels with this side, float64 [n, n, n]."""
    axis = (np.arange(n) - n // 2) * side
    return np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)


def fast_even_size(minimum: int) -> int:
    """Smallest even size >= minimum whose prime factors are at most 11 (fast FFTs)."""
    n = minimum + minimum % 2
    while True:
        rest = n
        for prime in (2, 3, 5, 7, 11):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2
