"""Search for the gauge between two volumes: rotation, shift and hand of greatest correlation.

Volumes are compared in Fourier space over |k| <= kmax (k = 0 left out), which equals the
correlation of the low-passed maps: for each candidate rotation the moving volume's transform is
interpolated at G^T k, and all shifts are scored by one small FFT. The best candidates are refined
by quasi-Newton steps, at low resolution and then at full.
"""

from typing import Literal, NamedTuple

import numpy as np
from scipy import optimize
from scipy.spatial.transform import Rotation

from hypermol.analysis.gauge import Gauge, flip_hand
from hypermol.analysis.map_matching import (
    Interpolant,
    centred_transform,
    half_ball,
    interpolant,
    norms,
    reference_at,
    score_rotations,
)
from hypermol.analysis.masks import sphere_mask
from hypermol.space.rotation_grid import super_fibonacci

#: "local": near the identity, hand kept. "global": all rotations, both hands.
Search = Literal["local", "global"]

_LOCAL_RADIUS_DEG = 20.0
_LOCAL_STEP_DEG = 10.0
_GLOBAL_ROTATIONS = 4608  # about 15 degrees apart
_COARSE_SHELL = 7
#: The same where only the hand is asked for: about 20 degrees apart.
_HAND_ROTATIONS = 1728
_HAND_SHELL = 5
_MIDDLE_SHELL = 14
_FULL_SHELL = 32


class _Candidate(NamedTuple):
    """A rotation and shift with the hand they belong to."""

    score: float
    rotation: np.ndarray
    shift_px: np.ndarray
    flipped: bool


def _local_rotations() -> np.ndarray:
    """[m, 3, 3] rotations within 20 degrees of the identity on a cubic grid of vectors."""
    steps = int(_LOCAL_RADIUS_DEG / _LOCAL_STEP_DEG)
    axis = np.arange(-steps, steps + 1) * _LOCAL_STEP_DEG
    vectors = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    vectors = vectors[np.linalg.norm(vectors, axis=-1) <= _LOCAL_RADIUS_DEG + 1e-9]
    return Rotation.from_rotvec(np.radians(vectors)).as_matrix()


def _refine(
    candidate: _Candidate, moving: Interpolant, reference: np.ndarray, points: np.ndarray, box: int
) -> _Candidate:
    """Maximise the correlation over rotation and shift from a candidate (BFGS)."""
    norm = norms(moving, reference, points)
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
    points = half_ball(kmax)
    target = reference_at(centred_transform(reference, box), points)
    interpolants = {
        hand: interpolant(volumes[hand], kmax) for hand in {c.flipped for c in candidates}
    }
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
    corners = sphere_mask(reference.shape[0])  # corners hold no particle, only noise
    volumes = {False: corners * moving}
    rotations = _local_rotations()
    if search == "global":
        volumes[True] = flip_hand(volumes[False])
        rotations = _all_rotations(_GLOBAL_ROTATIONS)
    target = corners * reference
    refined = 4 if search == "global" else 2
    winners = _best_of_each_hand(volumes, target, rotations, _COARSE_SHELL, refined)
    final = _refine_at(winners[:1], volumes, target, _shell(_FULL_SHELL, target))[0]
    return _gauge(final, pixel_size)


class Hands(NamedTuple):
    """The best gauge between two volumes with the hand kept, and with the other hand."""

    kept: Gauge
    mirrored: Gauge


def align_both_hands(moving: np.ndarray, reference: np.ndarray, pixel_size: float) -> Hands:
    """The best of all rotations for each hand, to shell 14; arguments as of `align_volumes`."""
    corners = sphere_mask(reference.shape[0])
    volumes = {False: corners * moving, True: flip_hand(corners * moving)}
    gauges = _gauges_of_hands(volumes, corners * reference, pixel_size)
    return Hands(gauges[False], gauges[True])


def align_mirrored(moving: np.ndarray, reference: np.ndarray, pixel_size: float) -> Gauge:
    """The best of all rotations for the other hand alone: half of `align_both_hands`."""
    corners = sphere_mask(reference.shape[0])
    volumes = {True: flip_hand(corners * moving)}
    return _gauges_of_hands(volumes, corners * reference, pixel_size)[True]


def _gauges_of_hands(
    volumes: dict[bool, np.ndarray], target: np.ndarray, pixel_size: float
) -> dict[bool, Gauge]:
    """The best of all rotations of each volume, by whether it is mirrored."""
    rotations = _all_rotations(_HAND_ROTATIONS)
    winners = _best_of_each_hand(volumes, target, rotations, _HAND_SHELL, 4)
    return {winner.flipped: _gauge(winner, pixel_size) for winner in winners}


def _gauge(found: _Candidate, pixel_size: float) -> Gauge:
    return Gauge(found.rotation, found.shift_px * pixel_size, found.flipped, found.score)


def _all_rotations(n: int) -> np.ndarray:
    grid = super_fibonacci(n)
    return Rotation.from_quat(grid, scalar_first=True).as_matrix()


def _shell(wanted: int, volume: np.ndarray) -> int:
    """A shell, or Nyquist's."""
    return min(wanted, (volume.shape[0] - 1) // 2)


def _best_of_each_hand(
    volumes: dict[bool, np.ndarray],
    target: np.ndarray,
    rotations: np.ndarray,
    coarse_shell: int,
    refined: int,
) -> list[_Candidate]:
    """The best candidate of each hand, refined to the middle shell, the better first.

    Args:
        volumes: to be moved, by whether they are mirrored.
        target: what they are moved onto.
        rotations: [m, 3, 3] that are tried at the coarse shell.
        coarse_shell: where candidates are found.
        refined: how many candidates of each hand are refined there.
    """
    box, coarse = target.shape[0], _shell(coarse_shell, target)
    points = half_ball(coarse)
    values = reference_at(centred_transform(target, box), points)
    best: list[_Candidate] = []
    for hand, volume in volumes.items():
        moved = interpolant(volume, coarse)
        found = score_rotations(moved, values, points, rotations, box)
        candidates = [_Candidate(*scored, hand) for scored in found]
        best += _distinct(candidates, refined, 12.0)
    best = _refine_at(best, volumes, target, coarse)
    winners = [next(c for c in best if c.flipped == hand) for hand in volumes]
    return _refine_at(winners, volumes, target, _shell(_MIDDLE_SHELL, target))
