"""Where the state tau lives: the knobs a person can turn (sec. 3.2)."""

import abc
from dataclasses import dataclass, replace
from typing import NamedTuple, Self, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from typing_extensions import override


class Neighbours(NamedTuple):
    """States along the knobs, and which of them stand next to each other.

    `sum_e weights[e] |f(second_e) - f(first_e)|^2` is, summed over the knobs that have an extent,
    the mean of |df/dtau|^2 along the knob: it does not depend on how fine the nodes are, once
    they resolve f.

    Attributes:
        nodes: [J, dim] states.
        pairs: int [E, 2] (first, second) rows of `nodes`; none where states have no neighbours.
        weights: float64 [E].
    """

    nodes: Array
    pairs: np.ndarray
    weights: np.ndarray


class StateSpace(abc.ABC):
    """A set of states with a base measure, a grid of nodes and a reflection rule.

    Coordinates are [..., dim]; every space here is scaled to [0, 1].
    """

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """Number of state variables."""

    @property
    @abc.abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the knobs, one per variable."""

    @property
    def simple_spaces(self) -> tuple["StateSpace", ...]:
        """The spaces that this one is a product of, in the order of the coordinates."""
        return (self,)

    @abc.abstractmethod
    def wrap(self, tau: Array) -> Array:
        """Bring coordinates moved by a symmetric proposal back into the space, reversibly."""

    def holds(self, tau: Array) -> Array:
        """Whether a walk may go to these coordinates [..., dim], bool [...].

        Not beyond an end: a step that is correlated with other unknowns' steps does not come back
        reflected as it went, so that a walk of such steps is refused there.
        """
        return jnp.ones(tau.shape[:-1], bool)

    @abc.abstractmethod
    def lattice(self, tau: Array, n: int) -> Array:
        """The lattice of about n states that contains `tau`.

        The lattice is the same whichever of its members it was built from: choosing among its
        members by posterior weight is therefore an exact Gibbs step.

        Args:
            tau: [dim] one state.
            n: number of members.

        Returns:
            [n, dim]; the first member is `tau` itself.
        """

    @abc.abstractmethod
    def nodes(self, n: int) -> Array:
        """[n, dim] evenly spaced states for display; a finite set gives all its members."""

    def neighbours(self, n: int) -> Neighbours:
        """About n nodes along every knob, with their pairs of neighbours.

        No pairs here: classes have no order, and along the unbounded coordinates of subspaces and
        rigid motions there is no path to follow.
        """
        return Neighbours(self.nodes(n), np.zeros((0, 2), int), np.zeros(0))

    def propose(self, key: Array, tau: Array, width: Array | float) -> Array:
        """Other states [..., dim] near `tau`, drawn so that there and back are equally likely.

        Args:
            key: of the draw.
            tau: [..., dim].
            width: largest step, as a share of the space's extent.
        """
        step = jax.random.uniform(key, tau.shape, minval=-1.0, maxval=1.0)
        return self.wrap(tau + width * step)

    def difference(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """first - second [..., dim], the short way round where there are two ways."""
        return first - second

    def renamed(self, names: tuple[str, ...]) -> "StateSpace":
        """The same space with its knobs under other names.

        Raises:
            ValueError: its knobs have names of their own.
        """
        if names != self.names:
            raise ValueError(f"{type(self).__name__} names its knobs {self.names} and no other way")
        return self

    @property
    def has_occupancy(self) -> bool:
        """Whether bins of the space carry learned probabilities."""
        return self.n_bins(2) > 1

    def n_bins(self, wanted: int) -> int:
        """Number of bins of equal base measure where `wanted` are asked for a knob; 1 is none."""
        return 1

    def bin_shape(self, n_bins: int) -> tuple[int, ...]:
        """How `n_bins` bins in all are shared by the knobs that have any.

        Occupancies [n_bins] reshaped to it have an axis a knob.
        """
        return (n_bins,)

    def bin(self, tau: Array, n_bins: int) -> Array:
        """Bin int [...] of states [..., dim], out of `n_bins` in all."""
        return jnp.zeros(tau.shape[:-1], jnp.int32)

    @property
    def is_periodic(self) -> bool:
        """Whether the one knob's states are modulo 1."""
        return False

    @property
    def has_ends(self) -> bool:
        """Whether the one knob runs from one end to another."""
        return False

    @property
    def state_labels(self) -> tuple[str, ...]:
        """What to call the one knob's states, where they are a finite set; else none."""
        return ()

    @property
    def is_subspace(self) -> bool:
        """Whether states are Gaussian coordinates that enter the density linearly."""
        return False

    @property
    def n_axes(self) -> int:
        """Principal axes that `from_subspace` reads at least."""
        return self.dim

    def from_subspace(self, coordinates: np.ndarray) -> np.ndarray:
        """First states [N, dim] from principal coordinates [N, d] of a linear subspace.

        Raises:
            ValueError: the space has no rule.
        """
        raise ValueError(f"{type(self).__name__} has no rule to start from a linear subspace")

    def log_base(self, tau: Array) -> Array:
        """Log density [...] of the base measure; zero where it is uniform."""
        return jnp.zeros(tau.shape[:-1])

    def sample_base(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Draws [*shape, dim] from the base measure."""
        return jax.random.uniform(key, (*shape, self.dim))


def fold(tau: Array) -> Array:
    """Reflect at 0 and 1: a fold of the circle of length 2."""
    return 1.0 - jnp.abs(1.0 - jnp.mod(tau, 2.0))


def _path(nodes: Array, closed: bool) -> Neighbours:
    """Evenly spaced nodes [n, 1] whose path spans an extent of 1."""
    first = np.arange(len(nodes) if closed else len(nodes) - 1)
    pairs = np.stack([first, (first + 1) % len(nodes)], axis=-1)
    # the mean over E pairs of |difference|^2 / spacing^2, with spacing 1 / E
    return Neighbours(nodes, pairs, np.full(len(pairs), float(len(pairs))))


@final
@dataclass(frozen=True)
class Point(StateSpace):
    """One state: the rigid (homogeneous) molecule."""

    dim = 0
    names = ()

    @override
    def wrap(self, tau: Array) -> Array:
        return tau

    @override
    def lattice(self, tau: Array, n: int) -> Array:
        return tau[None]

    @override
    def nodes(self, n: int) -> Array:
        """The one state, [1, 0]."""
        return jnp.zeros((1, 0))


@dataclass(frozen=True)
class OneKnob(StateSpace):
    """States with one coordinate in [0, 1].

    Attributes:
        name: of the knob.
    """

    name: str

    dim = 1

    @override
    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    @override
    def renamed(self, names: tuple[str, ...]) -> Self:
        (name,) = names
        return replace(self, name=name)

    @override
    def bin(self, tau: Array, n_bins: int) -> Array:
        """Equal parts of [0, 1], int [...]."""
        return jnp.clip((tau[..., 0] * n_bins).astype(jnp.int32), 0, n_bins - 1)


@final
@dataclass(frozen=True)
class Interval(OneKnob):
    """States in [0, 1] with ends. Proposals that leave are reflected."""

    name: str = "state"

    @override
    def wrap(self, tau: Array) -> Array:
        """Reflect at both ends (a fold of the circle of length 2)."""
        return fold(tau)

    @override
    def holds(self, tau: Array) -> Array:
        """Within both ends."""
        return (tau[..., 0] >= 0.0) & (tau[..., 0] <= 1.0)

    @override
    @property
    def has_ends(self) -> bool:
        return True

    @override
    def n_bins(self, wanted: int) -> int:
        return wanted

    @override
    def from_subspace(self, coordinates: np.ndarray) -> np.ndarray:
        """Ranks along the first principal axis, evenly spread."""
        order = np.argsort(np.argsort(coordinates[:, 0]))
        return ((order + 0.5) / len(order))[:, None]

    @override
    def lattice(self, tau: Array, n: int) -> Array:
        """Points of an even lattice on the circle of length 2, folded at the ends."""
        return self.wrap(tau + 2.0 * jnp.arange(n)[:, None] / n)

    @override
    def neighbours(self, n: int) -> Neighbours:
        """n nodes from end to end."""
        return _path(jnp.linspace(0.0, 1.0, n)[:, None], closed=False)

    @override
    def nodes(self, n: int) -> Array:
        """Centres of n equal bins."""
        return ((jnp.arange(n) + 0.5) / n)[:, None]


@final
@dataclass(frozen=True)
class Circle(OneKnob):
    """Periodic states in [0, 1)."""

    name: str = "phase"

    @override
    def wrap(self, tau: Array) -> Array:
        """Modulo one turn."""
        return jnp.mod(tau, 1.0)

    @override
    @property
    def is_periodic(self) -> bool:
        return True

    @override
    def difference(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Turns between -1/2 and 1/2."""
        turns = first - second
        return turns - np.rint(turns)

    @override
    def n_bins(self, wanted: int) -> int:
        return wanted

    @override
    @property
    def n_axes(self) -> int:
        """The plane that the circle lies in."""
        return 2

    @override
    def from_subspace(self, coordinates: np.ndarray) -> np.ndarray:
        """The angle in the plane of the first two principal axes, each standardised."""
        plane = coordinates[:, :2] / coordinates[:, :2].std(axis=0)
        return np.mod(np.arctan2(plane[:, 1], plane[:, 0]) / (2.0 * np.pi), 1.0)[:, None]

    @override
    def lattice(self, tau: Array, n: int) -> Array:
        """n points evenly round the circle."""
        return self.wrap(tau + jnp.arange(n)[:, None] / n)

    @override
    def neighbours(self, n: int) -> Neighbours:
        """n nodes once round; the last is next to the first."""
        return _path(self.nodes(n), closed=True)

    @override
    def nodes(self, n: int) -> Array:
        """n points evenly round the circle, at bin centres."""
        return ((jnp.arange(n) + 0.5) / n)[:, None]
