"""Whether two knobs depend on each other: one number with its error, and the joint occupancy.

Every kind of knob is turned into features (ranks; ranks spread round the circle; membership in
classes), and two sets of features have a multiple correlation, the root of Pillai's trace over the
smaller number of features. For two intervals that is Spearman's rho, for two circles Jupp and
Mardia's circular correlation of ranks (1980), for two sets of classes Cramer's V.
"""

from typing import NamedTuple

import numpy as np
import scipy

from hypermol.analysis.chains import pooled_states, run_knobs
from hypermol.analysis.knobs import Knob, bin_edges, numbers
from hypermol.analysis.run import Run

_PERMUTATIONS = 200
_NULL_LEVEL = 0.99
#: Draws that the number is taken of at most, evenly spread.
_MAX_DRAWS = 200
#: Bins a knob of the joint occupancy: fewer than of one knob's, for each holds fewer particles.
_BINS = 8


class Dependence(NamedTuple):
    """How strongly the states of two knobs go together over the particles.

    Attributes:
        first, second: the knobs.
        measure: what the number is called.
        mean: posterior mean; with a sign for two knobs that have a direction, else 0 to 1.
        sd: posterior standard deviation.
        chance: 99 % of random assignments of states to particles stay below, in absolute value.
    """

    first: Knob
    second: Knob
    measure: str
    mean: float
    sd: float
    chance: float

    @property
    def is_significant(self) -> bool:
        """Whether it is beyond chance, and further from zero than its own uncertainty."""
        return abs(self.mean) > max(self.chance, 2.0 * self.sd)


class JointOccupancy(NamedTuple):
    """Shares of particles in joint bins of two knobs.

    Attributes:
        first, second: the knobs.
        edges: bin edges of each, [B_1 + 1] and [B_2 + 1].
        share: [B_1, B_2] posterior mean, sums to 1.
        apart: [B_1, B_2] what it would be if the knobs were independent.
    """

    first: Knob
    second: Knob
    edges: tuple[np.ndarray, np.ndarray]
    share: np.ndarray
    apart: np.ndarray


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks [N, 1] over their number."""
    return scipy.stats.rankdata(values)[:, None] / len(values)


def circle(angle: np.ndarray) -> np.ndarray:
    """Cosine and sine [N, 2]."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def rank_features(knob: Knob, state: np.ndarray) -> np.ndarray:
    """Features [N, p] of states [N] that no monotone map of the knob changes."""
    if knob.kind == "classes":
        return numbers(knob, state)
    spread = ranks(np.mod(state, 1.0) if knob.kind == "circle" else state)
    return circle(2.0 * np.pi * spread[:, 0]) if knob.kind == "circle" else spread


def orthonormal(features: np.ndarray) -> np.ndarray:
    """Orthonormal basis [N, rank] of centred columns."""
    centred = features - features.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, values > 1e-9 * max(values.max(initial=0.0), 1e-300)]


def strength(left: np.ndarray, right: np.ndarray) -> float:
    """Multiple correlation, 0 to 1, of two orthonormal bases [N, p] and [N, q]."""
    size = min(left.shape[1], right.shape[1])
    if size == 0:
        return 0.0
    return float(np.sqrt(np.sum((left.T @ right) ** 2) / size))


def association(features: np.ndarray, target: np.ndarray) -> float:
    """Multiple correlation of two sets of features [N, p] and [N, q], 0 to 1."""
    return strength(orthonormal(features), orthonormal(target))


_MEASURES = {
    ("circle", "circle"): "circular correlation",
    ("classes", "classes"): "Cramer's V",
    ("ordered", "ordered"): "rank correlation",
}


def measure_of(first: Knob, second: Knob) -> str:
    """What the multiple correlation of these kinds of knobs is called."""
    return _MEASURES.get((_order(first), _order(second)), "multiple correlation")


def _order(knob: Knob) -> str:
    return knob.kind if knob.kind in ("circle", "classes") else "ordered"


def correlation(first: Knob, second: Knob, a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of states [N] and [N] of two knobs; signed where both have a direction."""
    if measure_of(first, second) == "rank correlation":
        x, y = (ranks(states)[:, 0] - 0.5 * (1.0 + 1.0 / len(states)) for states in (a, b))
        return float(x @ y / max(float(np.sqrt((x @ x) * (y @ y))), 1e-30))
    return association(rank_features(first, a), rank_features(second, b))


def dependence(first: Knob, second: Knob, a: np.ndarray, b: np.ndarray) -> Dependence:
    """Dependence of two knobs, from sampled states [S, N] of each, draw by draw."""
    thin = max(-(-len(a) // _MAX_DRAWS), 1)
    draws = [correlation(first, second, x, y) for x, y in zip(a[::thin], b[::thin], strict=True)]
    left, right = (orthonormal(rank_features(k, s[-1])) for k, s in ((first, a), (second, b)))
    rng = np.random.default_rng(0)
    null = [strength(left[rng.permutation(len(left))], right) for _ in range(_PERMUTATIONS)]
    return Dependence(
        first,
        second,
        measure_of(first, second),
        float(np.mean(draws)),
        float(np.std(draws, ddof=min(1, len(draws) - 1))),
        float(np.quantile(null, _NULL_LEVEL)),
    )


def knob_pairs(run: Run) -> list[tuple[Knob, Knob]]:
    """Every two knobs of a run, the earlier first."""
    knobs = run_knobs(run)
    return [(a, b) for i, a in enumerate(knobs) for b in knobs[i + 1 :]]


def run_dependences(run: Run) -> list[Dependence]:
    """The dependence of every two knobs."""
    pairs = knob_pairs(run)
    if not pairs:
        return []
    states = pooled_states(run)
    return [dependence(a, b, states[..., a.column], states[..., b.column]) for a, b in pairs]


def joint_occupancies(run: Run) -> list[JointOccupancy]:
    """The joint occupancy of every two knobs, from the particles' sampled states."""
    pairs = knob_pairs(run)
    if not pairs:
        return []
    states = pooled_states(run)
    return [joint_occupancy(a, b, states[..., a.column], states[..., b.column]) for a, b in pairs]


def joint_occupancy(first: Knob, second: Knob, a: np.ndarray, b: np.ndarray) -> JointOccupancy:
    """Shares of joint bins, from sampled states [S, N] of two knobs.

    If the knobs were independent in every draw, shares would be the products of one knob's each.
    """
    edges = bin_edges(first, a, _BINS), bin_edges(second, b, _BINS)
    share = np.histogram2d(a.ravel(), b.ravel(), edges)[0] / a.size
    apart = share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True)
    return JointOccupancy(first, second, edges, share, apart)
