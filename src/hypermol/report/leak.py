"""Does the state follow something it should not: viewing direction, defocus, contrast?

A motion is a property of the molecule, so a particle's state should not be predictable from how it
lay on the grid. It may be for honest reasons (a state that prefers an orientation at the
air-water interface); more often it says that views were mistaken for states. Correlations are of
ranks; the null band comes from permuting the states among particles.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hypermol.analysis.dependence import circle, orthonormal, rank_features, ranks, strength
from hypermol.analysis.knobs import Knob
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
        "viewing direction, x": ranks(direction[:, 0]),
        "viewing direction, y": ranks(direction[:, 1]),
        "viewing direction, z": ranks(direction[:, 2]),
        "viewing direction, any smooth pattern": _direction_harmonics(direction),
        "in-plane angle": circle(in_plane),
        "shift in the image": summary.shift_px,
        "contrast": ranks(summary.contrast),
    }
    if given is not None and given.defocus_um is not None and np.ptp(given.defocus_um) > 0:
        found["defocus"] = ranks(given.defocus_um)
    return found


def find_leaks(
    knob: Knob, state: np.ndarray, quantities: Mapping[str, np.ndarray], seed: int = 0
) -> list[Leak]:
    """Association of a knob's states [N] with each quantity, and its permutation band."""
    rng = np.random.default_rng(seed)
    target = orthonormal(rank_features(knob, state))
    bases = {name: orthonormal(features) for name, features in quantities.items()}
    null: dict[str, list[float]] = {name: [] for name in bases}
    for _ in range(_PERMUTATIONS):
        shuffled = target[rng.permutation(len(target))]
        for name, basis in bases.items():
            null[name].append(strength(basis, shuffled))
    return [
        Leak(name, strength(basis, target), float(np.quantile(null[name], _NULL_LEVEL)))
        for name, basis in bases.items()
    ]
