"""Search for the gauge between two volumes: rotation, shift and hand of greatest correlation.

Volumes are compared in Fourier space over |k| <= kmax (k = 0 left out), which equals the
correlation of the low-passed maps: for each candidate rotation the moving volume's transform is
interpolated at G^T k, and all shifts are scored by one small FFT. The best candidates are refined
by quasi-Newton steps, at low resolution and then at full.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from hypermol.analysis.gauge import Gauge, flip_hand
from hypermol.analysis.masks import sphere_mask
from hypermol.space.fourier import fast_even_size

#: "local": near the identity, hand kept. "global": all rotations, both hands.
Search = Literal["local", "global"]

_LOCAL_RADIUS_DEG = 20.0
_LOCAL_STEP_DEG = 10.0
_GLOBAL_ROTATIONS = 4608  # about 15 degrees apart
_COARSE_SHELL = 7
_MIDDLE_SHELL = 14
_FULL_SHELL = 32
_PADDING = 2
_CHUNK = 128


class _Moving(NamedTuple):
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


class _Candidate(NamedTuple):
    """A rotation and shift with the hand they belong to."""

    score: float
    rotation: np.ndarray
    shift_px: np.ndarray
    flipped: bool


def _centred_transform(volume: np.ndarray, size: int) -> np.ndarray:
    """Centred transform [size]^3 of a cube zero-padded to `size`."""
    n = volume.shape[0]
    start = size // 2 - n // 2
    padded = np.zeros((size, size, size))
    padded[start : start + n, start : start + n, start : start + n] = volume
    return np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(padded)))


def _moving(volume: np.ndarray, kmax: int) -> _Moving:
    """Interpolant of a volume's transform for |k| <= kmax."""
    size = _PADDING * volume.shape[0]
    transform = _centred_transform(volume, size)
    reach = min(_PADDING * kmax + 6, size // 2 - 1)
    keep = slice(size // 2 - reach, size // 2 + reach + 1)
    ball = transform[keep, keep, keep]
    return _Moving(ndimage.spline_filter(ball.real), ndimage.spline_filter(ball.imag))


def _half_ball(kmax: int) -> np.ndarray:
    """int [K, 3] (kx, ky, kz): one of each pair +-k with 0 < |k| <= kmax."""
    axis = np.arange(-kmax, kmax + 1)
    kz, ky, kx = np.meshgrid(axis, axis, axis, indexing="ij")
    half = (kx > 0) | ((kx == 0) & ((ky > 0) | ((ky == 0) & (kz > 0))))
    keep = half & (kx**2 + ky**2 + kz**2 <= kmax**2)
    return np.stack([kx[keep], ky[keep], kz[keep]], axis=-1)


def _reference_at(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Complex [K] values of a centred transform [n]^3 at integer points [K, 3]."""
    kx, ky, kz = (points + transform.shape[0] // 2).T
    return transform[kz, ky, kx]


def _norms(moving: _Moving, reference: np.ndarray, points: np.ndarray) -> float:
    """Product of the two maps' norms over the points.

    Taken once, unrotated: the norm of an interpolated noisy transform falls off the grid points,
    and to divide by it would reward rotations away from them.
    """
    return float(np.linalg.norm(reference) * np.linalg.norm(moving.at(points)))


def _local_rotations() -> np.ndarray:
    """[m, 3, 3] rotations within 20 degrees of the identity on a cubic grid of vectors."""
    steps = int(_LOCAL_RADIUS_DEG / _LOCAL_STEP_DEG)
    axis = np.arange(-steps, steps + 1) * _LOCAL_STEP_DEG
    vectors = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    vectors = vectors[np.linalg.norm(vectors, axis=-1) <= _LOCAL_RADIUS_DEG + 1e-9]
    return Rotation.from_rotvec(np.radians(vectors)).as_matrix()


def _global_rotations(n: int) -> np.ndarray:
    """[n, 3, 3] rotations spread evenly over SO(3): a super-Fibonacci spiral (Alexa 2022)."""
    s = np.arange(n) + 0.5
    alpha = 2 * np.pi * s / np.sqrt(2.0)
    beta = 2 * np.pi * s / 1.533751168755204288118041
    inner, outer = np.sqrt(s / n), np.sqrt(1.0 - s / n)
    parts = [inner * np.sin(alpha), inner * np.cos(alpha)]
    parts += [outer * np.sin(beta), outer * np.cos(beta)]
    return Rotation.from_quat(np.stack(parts, axis=-1)).as_matrix()


def _score_rotations(
    moving: _Moving, reference: np.ndarray, points: np.ndarray, rotations: np.ndarray, box: int
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Yield (score, rotation, shift_px) for each rotation, at its best shift on a coarse grid."""
    kmax = int(np.abs(points).max())
    size = fast_even_size(2 * kmax + 2)
    kx, ky, kz = (points % size).T
    norm = _norms(moving, reference, points)
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


def _refine(
    candidate: _Candidate, moving: _Moving, reference: np.ndarray, points: np.ndarray, box: int
) -> _Candidate:
    """Maximise the correlation over rotation and shift from a candidate (BFGS)."""
    norm = _norms(moving, reference, points)
    lever = box / 4.0  # a rotation of 1 / lever moves a typical voxel by one pixel

    def rotation(x: np.ndarray) -> np.ndarray:
        return Rotation.from_rotvec(x[:3] / lever).as_matrix() @ candidate.rotation

    def loss(x: np.ndarray) -> float:
        values = moving.at(points @ rotation(x))
        phase = np.exp((-2j * np.pi / box) * (points @ x[3:]))
        cross = np.vdot(reference, values * phase).real
        return -float(cross / norm)

    start = np.concatenate([np.zeros(3), candidate.shift_px])
    result = optimize.minimize(
        loss, start, method="BFGS", options={"gtol": 1e-5, "eps": 1e-5, "maxiter": 30}
    )
    return _Candidate(-float(result.fun), rotation(result.x), result.x[3:], candidate.flipped)


def _refine_at(
    candidates: list[_Candidate], volumes: dict[bool, np.ndarray], reference: np.ndarray, kmax: int
) -> list[_Candidate]:
    """Refine candidates against the reference at |k| <= kmax, best first."""
    box = reference.shape[0]
    points = _half_ball(kmax)
    target = _reference_at(_centred_transform(reference, box), points)
    interpolants = {hand: _moving(volumes[hand], kmax) for hand in {c.flipped for c in candidates}}
    refined = [_refine(c, interpolants[c.flipped], target, points, box) for c in candidates]
    return sorted(refined, key=lambda c: -c.score)


def _distinct(candidates: list[_Candidate], n: int, apart_deg: float) -> list[_Candidate]:
    """The n best candidates whose rotations differ by more than `apart_deg`."""
    kept: list[_Candidate] = []
    for candidate in sorted(candidates, key=lambda c: -c.score):
        turns = [Rotation.from_matrix(candidate.rotation @ k.rotation.T).magnitude() for k in kept]
        if all(np.degrees(t) > apart_deg for t in turns):
            kept.append(candidate)
        if len(kept) == n:
            break
    return kept


def align_volumes(
    moving: np.ndarray, reference: np.ndarray, pixel_size: float, search: Search = "local"
) -> Gauge:
    """Gauge (rotation, shift, hand) that takes one volume onto another.

    The correlation of the low-passed maps is maximised: first on a grid of rotations to shell 7,
    the best candidates refined to shell 14 and the winner to shell 32 (or Nyquist). "local" tries
    rotations up to 20 degrees and keeps the hand (seconds at 64^3); "global" tries 4608 rotations
    of both hands (about ten seconds at 64^3).

    Args:
        moving: real [n, n, n], the estimate.
        reference: real [n, n, n].
        pixel_size: Angstrom per voxel of both.
        search: how far to look.

    Returns:
        The gauge, its `score` the correlation reached (k = 0 left out).
    """
    if moving.shape != reference.shape:
        raise ValueError(
            f"cannot align volumes of shapes {moving.shape} and {reference.shape}: resample one"
        )
    box = reference.shape[0]
    nyquist = (box - 1) // 2
    corners = sphere_mask(box)  # corners hold no particle, only noise
    target = corners * reference
    volumes = {False: corners * moving}
    rotations = _local_rotations()
    if search == "global":
        volumes[True] = flip_hand(volumes[False])
        rotations = _global_rotations(_GLOBAL_ROTATIONS)
    coarse = min(_COARSE_SHELL, nyquist)
    points = _half_ball(coarse)
    values = _reference_at(_centred_transform(target, box), points)
    best: list[_Candidate] = []
    for hand, volume in volumes.items():
        interpolant = _moving(volume, coarse)
        found = _score_rotations(interpolant, values, points, rotations, box)
        candidates = [_Candidate(*scored, hand) for scored in found]
        best += _distinct(candidates, 4 if search == "global" else 2, 12.0)
    best = _refine_at(best, volumes, target, coarse)
    winners = [next(c for c in best if c.flipped == hand) for hand in volumes]
    middle = _refine_at(winners, volumes, target, min(_MIDDLE_SHELL, nyquist))[:1]
    final = _refine_at(middle, volumes, target, min(_FULL_SHELL, nyquist))[0]
    return Gauge(final.rotation, final.shift_px * pixel_size, final.flipped, final.score)
