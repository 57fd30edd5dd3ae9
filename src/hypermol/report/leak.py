"""Does the state follow something it should not: viewing direction, defocus, contrast?

A motion is a property of the molecule, so a particle's state should not be predictable from how it
lay on the grid. It may be for honest reasons (a state that prefers an orientation at the
air-water interface); more often it says that views were mistaken for states. Correlations are of
ranks; the null band comes from permuting the states among particles.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from hypermol.analysis.particle_summary import ParticleSummary
from hypermol.report.particles import InputPoses

#: Above the band but weaker than this (share of variance 4 %) is noted and not warned about.
NOTABLE = 0.2
_PERMUTATIONS = 400
_NULL_LEVEL = 0.99


class Leak(NamedTuple):
    """Association of the state with one quantity.

    Attributes:
        name: of the quantity.
        strength: multiple correlation, 0 to 1.
        null: 99 % quantile under permutation.
    """

    name: str
    strength: float
    null: float

    @property
    def is_significant(self) -> bool:
        """Whether it leaves the permutation band."""
        return self.strength > self.null


def association(features: np.ndarray, target: np.ndarray) -> float:
    """Multiple correlation of two sets of features [N, p] and [N, q], 0 to 1.

    The root of Pillai's trace over min(p, q); |Pearson| for single columns.
    """
    return _strength(_orthonormal(features), _orthonormal(target))


def _orthonormal(features: np.ndarray) -> np.ndarray:
    """Orthonormal basis [N, rank] of centred columns."""
    centred = features - features.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, values > 1e-9 * max(values.max(initial=0.0), 1e-300)]


def _strength(left: np.ndarray, right: np.ndarray) -> float:
    size = min(left.shape[1], right.shape[1])
    if size == 0:
        return 0.0
    return float(np.sqrt(np.sum((left.T @ right) ** 2) / size))


def _ranks(values: np.ndarray) -> np.ndarray:
    return stats.rankdata(values)[:, None] / len(values)


def _circle(angle: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def state_features(state: np.ndarray, is_circle: bool) -> np.ndarray:
    """Ranks [N, 1] of the states; on a circle ranks spread evenly round it, [N, 2]."""
    ranks = _ranks(state)
    return _circle(2.0 * np.pi * ranks[:, 0]) if is_circle else ranks


def _direction_harmonics(direction: np.ndarray) -> np.ndarray:
    """Spherical harmonics of degree 1 and 2 (unnormalised), [N, 8]."""
    x, y, z = direction.T
    columns = [x, y, z, x * y, y * z, x * z, x * x - y * y, 3.0 * z * z - 1.0]
    return np.stack(columns, axis=-1)


def suspects(summary: ParticleSummary, given: InputPoses | None) -> dict[str, np.ndarray]:
    """Features [N, p] of everything that the state should not follow."""
    # the viewing direction in the molecule is R^T z, R's last row
    direction = summary.rotations[:, 2]
    in_plane = np.arctan2(summary.rotations[:, 1, 2], summary.rotations[:, 0, 2])
    found = {
        "viewing direction, x": _ranks(direction[:, 0]),
        "viewing direction, y": _ranks(direction[:, 1]),
        "viewing direction, z": _ranks(direction[:, 2]),
        "viewing direction, any smooth pattern": _direction_harmonics(direction),
        "in-plane angle": _circle(in_plane),
        "shift in the image": summary.shift_px,
        "contrast": _ranks(summary.contrast),
    }
    if given is not None and given.defocus_um is not None and np.ptp(given.defocus_um) > 0:
        found["defocus"] = _ranks(given.defocus_um)
    return found


def find_leaks(
    state: np.ndarray, is_circle: bool, quantities: Mapping[str, np.ndarray], seed: int = 0
) -> list[Leak]:
    """Association of states [N] with each quantity, and its permutation band."""
    rng = np.random.default_rng(seed)
    target = _orthonormal(state_features(state, is_circle))
    bases = {name: _orthonormal(features) for name, features in quantities.items()}
    null: dict[str, list[float]] = {name: [] for name in bases}
    for _ in range(_PERMUTATIONS):
        shuffled = target[rng.permutation(len(target))]
        for name, basis in bases.items():
            null[name].append(_strength(basis, shuffled))
    return [
        Leak(name, _strength(basis, target), float(np.quantile(null[name], _NULL_LEVEL)))
        for name, basis in bases.items()
    ]
