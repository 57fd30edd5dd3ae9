"""Two maps compared in Fourier space over |k| <= kmax: at any rotation, and at all shifts at once.

k = 0 is left out, which equals the correlation of the low-passed maps, their means taken out.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from hypermol.space.fourier import fast_even_size

_PADDING = 2
_CHUNK = 128


class Interpolant(NamedTuple):
    """Spline coefficients of a volume's padded Fourier transform."""

    real: np.ndarray
    imag: np.ndarray

    def at(self, points: np.ndarray) -> np.ndarray:
        """Complex [...] transform at points [..., 3] (kx, ky, kz) in 1/box."""
        index = _PADDING * np.moveaxis(points[..., ::-1], -1, 0) + self.real.shape[0] // 2
        real, imag = (
            ndimage.map_coordinates(part, index, order=3, prefilter=False) for part in self
        )
        return real + 1j * imag


def centred_transform(volume: np.ndarray, size: int) -> np.ndarray:
    """Centred transform [size]^3 of a cube zero-padded to `size`."""
    n = volume.shape[0]
    start = size // 2 - n // 2
    padded = np.zeros((size, size, size))
    padded[start : start + n, start : start + n, start : start + n] = volume
    return np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(padded)))


def interpolant(volume: np.ndarray, kmax: int) -> Interpolant:
    """Interpolant of a volume's transform for |k| <= kmax."""
    size = _PADDING * volume.shape[0]
    transform = centred_transform(volume, size)
    reach = min(_PADDING * kmax + 6, size // 2 - 1)
    keep = slice(size // 2 - reach, size // 2 + reach + 1)
    ball = transform[keep, keep, keep]
    return Interpolant(ndimage.spline_filter(ball.real), ndimage.spline_filter(ball.imag))


def half_ball(kmax: int) -> np.ndarray:
    """int [K, 3] (kx, ky, kz): one of each pair +-k with 0 < |k| <= kmax."""
    axis = np.arange(-kmax, kmax + 1)
    kz, ky, kx = np.meshgrid(axis, axis, axis, indexing="ij")
    half = (kx > 0) | ((kx == 0) & ((ky > 0) | ((ky == 0) & (kz > 0))))
    keep = half & (kx**2 + ky**2 + kz**2 <= kmax**2)
    return np.stack([kx[keep], ky[keep], kz[keep]], axis=-1)


def reference_at(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Complex [K] values of a centred transform [n]^3 at integer points [K, 3]."""
    kx, ky, kz = (points + transform.shape[0] // 2).T
    return transform[kz, ky, kx]


def norms(moving: Interpolant, reference: np.ndarray, points: np.ndarray) -> float:
    """Product of the two maps' norms over the points.

    Taken once, unrotated: the norm of an interpolated noisy transform falls off the grid points,
    and to divide by it would reward rotations away from them.
    """
    return float(np.linalg.norm(reference) * np.linalg.norm(moving.at(points)))


def score_rotations(
    moving: Interpolant, reference: np.ndarray, points: np.ndarray, rotations: np.ndarray, box: int
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Yield (score, rotation, shift_px) for each rotation, at its best shift on a coarse grid."""
    kmax = int(np.abs(points).max())
    size = fast_even_size(2 * kmax + 2)
    kx, ky, kz = (points % size).T
    norm = norms(moving, reference, points)
    for start in range(0, len(rotations), _CHUNK):
        chunk = rotations[start : start + _CHUNK]
        values = moving.at(points[None] @ chunk)
        cube = np.zeros((len(chunk), size, size, size), dtype=complex)
        cube[:, kz, ky, kx] = values * np.conj(reference)
        # sum_k P(k) exp(-2 pi i k.c / box) on the grid c = j box / size
        surface = np.fft.fftn(cube, axes=(1, 2, 3)).real.reshape(len(chunk), -1)
        best = surface.argmax(axis=1)
        scores = surface.max(axis=1) / norm
        for score, where, rotation in zip(scores, best, chunk, strict=True):
            index = np.array(np.unravel_index(where, (size, size, size)))[::-1]
            signed = (index + size // 2) % size - size // 2
            yield float(score), rotation, signed * (box / size)
