"""A finite set of states: classes, landmarks."""

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.cluster.vq import kmeans2
from typing_extensions import override

from hypermol.space.state_space import OneKnob, fold


@final
@dataclass(frozen=True)
class Discrete(OneKnob):
    """n classes without order; class c is the state (c + 1/2) / n.

    The base measure gives every class 1 / n. The lattice of any state is all the classes, so
    that the class of a particle is drawn from its whole conditional at once.

    Attributes:
        name: of the knob.
        n_states: number of classes.
        labels: names of the classes, for display; 1, 2, ... if not given.
    """

    name: str = "class"
    n_states: int = 2
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.n_states < 1:
            raise ValueError(f"n_states is {self.n_states} in Discrete: give at least 1")
        if self.labels and len(self.labels) != self.n_states:
            raise ValueError(
                f"Discrete has {self.n_states} states and {len(self.labels)} labels: "
                "give a label for every state, or none"
            )

    def index(self, tau: Array) -> Array:
        """Class int [...] of states [..., 1]: the n-th part of [0, 1] that they lie in."""
        return self.bin(tau, self.n_states)

    def state(self, index: Array) -> Array:
        """States [..., 1] of classes int [...]."""
        # in float32 from the start: a weak type would make every caller compile twice
        return ((jnp.asarray(index, jnp.float32) + 0.5) / self.n_states)[..., None]

    @override
    @property
    def state_labels(self) -> tuple[str, ...]:
        return self.labels or tuple(str(index + 1) for index in range(self.n_states))

    @override
    def wrap(self, tau: Array) -> Array:
        """Reflect at 0 and 1, then the state of the class whose part of [0, 1] that is."""
        return self.state(self.index(fold(tau)))

    @override
    def propose(self, key: Array, tau: Array, width: Array | float) -> Array:
        """Any class, all equally likely: classes have no neighbours, so `width` says nothing."""
        return self.sample_base(key, tau.shape[:-1])

    @override
    def lattice(self, tau: Array, n: int) -> Array:
        """All classes [n_states, 1] whatever n, the state's own first."""
        return self.state(jnp.mod(self.index(tau) + jnp.arange(self.n_states), self.n_states))

    @override
    def nodes(self, n: int) -> Array:
        """All classes [n_states, 1], whatever n."""
        return self.state(jnp.arange(self.n_states))

    @override
    def n_bins(self, wanted: int) -> int:
        """One a class, unless the occupancy is not to be learned (wanted 1)."""
        return self.n_states if wanted > 1 else 1

    @override
    def from_subspace(self, coordinates: np.ndarray) -> np.ndarray:
        """Clusters in the leading n_states - 1 principal axes, which is all that n classes span.

        Classes are numbered along the first axis.
        """
        points = np.asarray(coordinates, np.float64)[:, : max(self.n_states - 1, 1)]
        index = _clusters(points, self.n_states)
        return (index[:, None] + 0.5) / self.n_states

    @override
    def sample_base(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Classes [*shape, 1], all equally likely."""
        return self.state(jax.random.randint(key, shape, 0, self.n_states))


#: Starts of k-means, which finds the nearest local optimum only; the best is kept.
_KMEANS_STARTS = 8


def _clusters(points: np.ndarray, n: int) -> np.ndarray:
    """k-means clusters int [N] of points [N, d], in the order of their first coordinate."""
    order = np.argsort(np.argsort(points[:, 0]))
    bins = order * n // len(points)
    if len(points) <= n:
        return bins
    # equal shares along the first axis: a start that always is there, and has no empty cluster
    best = bins
    smallest = _scatter(points, bins, n)
    for seed in range(_KMEANS_STARTS):
        _, found = kmeans2(points, n, minit="++", rng=np.random.default_rng(seed))
        scatter = _scatter(points, found, n)
        if scatter < smallest:
            best, smallest = found, scatter
    means = [points[best == c, 0].mean() if np.any(best == c) else np.inf for c in range(n)]
    return np.argsort(np.argsort(means))[best]


def _scatter(points: np.ndarray, index: np.ndarray, n: int) -> float:
    """Sum of squared distances of points [N, d] to their clusters' means."""
    members = [points[index == c] for c in range(n)]
    return float(sum(((m - m.mean(axis=0)) ** 2).sum() for m in members if len(m)))
