"""Several knobs at once: products of state spaces."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from typing_extensions import override

from hypermol.space.state_space import Neighbours, StateSpace

#: Largest grid of nodes that `Product.neighbours` makes.
_MOST_NODES = 4096


@final
@dataclass(frozen=True)
class Product(StateSpace):
    """Independent states of several spaces, side by side in one row of coordinates.

    Products among the factors are taken apart: `factors` are all simple spaces.

    Attributes:
        factors: in the order of the coordinates; no two knobs may share a name.
    """

    factors: tuple[StateSpace, ...]

    def __post_init__(self) -> None:
        flat = tuple(simple for factor in self.factors for simple in factor.simple_spaces)
        object.__setattr__(self, "factors", flat)
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise ValueError(
                f"knob {repeated[0]!r} appears {self.names.count(repeated[0])} times in a Product: "
                f"give every factor its own name, such as Interval({repeated[0] + '_1'!r}) and "
                f"Interval({repeated[0] + '_2'!r})"
            )

    @override
    @property
    def dim(self) -> int:
        return sum(factor.dim for factor in self.factors)

    @override
    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for factor in self.factors for name in factor.names)

    @override
    @property
    def simple_spaces(self) -> tuple[StateSpace, ...]:
        return self.factors

    def split(self, tau: Array) -> list[Array]:
        """Each factor's own states [..., factor.dim]."""
        ends = np.cumsum([factor.dim for factor in self.factors])
        starts = ends - [factor.dim for factor in self.factors]
        return [tau[..., a:b] for a, b in zip(starts, ends, strict=True)]

    @override
    def wrap(self, tau: Array) -> Array:
        parts = zip(self.factors, self.split(tau), strict=True)
        return jnp.concatenate([factor.wrap(part) for factor, part in parts], axis=-1)

    @override
    def holds(self, tau: Array) -> Array:
        parts = zip(self.factors, self.split(tau), strict=True)
        return jnp.stack([factor.holds(part) for factor, part in parts]).all(axis=0)

    @override
    def propose(self, key: Array, tau: Array, width: Array | float) -> Array:
        """Move one factor, drawn at random for every state, by its own rule.

        A step of all factors at once would be refused whenever one of them does not fit, and
        another class seldom does.
        """
        keys = jax.random.split(key, len(self.factors) + 1)
        moves = [i for i, factor in enumerate(self.factors) if factor.dim]
        if not moves:
            return tau
        turn = jax.random.choice(keys[-1], jnp.asarray(moves), tau.shape[:-1])
        parts = [
            jnp.where((turn == i)[..., None], factor.propose(keys[i], part, width), part)
            for i, (factor, part) in enumerate(zip(self.factors, self.split(tau), strict=True))
        ]
        return jnp.concatenate(parts, axis=-1)

    @override
    def lattice(self, tau: Array, n: int) -> Array:
        """The product of the factors' lattices, at most about n members, `tau` first.

        A factor that is a finite set has all its members; the others share what is left of n
        evenly. A product of sets that do not depend on the member they were built from does not
        either.
        """
        side = self._side(n, _lattice_size)
        parts = zip(self.factors, self.split(tau), strict=True)
        return _grid([factor.lattice(part, side) for factor, part in parts])

    @override
    def nodes(self, n: int) -> Array:
        """The grid of the factors' nodes, at most about n of them."""
        side = self._side(n, _node_count)
        return _grid([factor.nodes(side) for factor in self.factors])

    @override
    def neighbours(self, n: int) -> Neighbours:
        """The grid of the factors' nodes; neighbours differ in one factor, and the mean along it
        is also the mean over the other factors' nodes.

        Many knobs get fewer than n nodes each, so that the grid stays below a few thousand.
        """
        side = min(n, max(self._side(_MOST_NODES, _node_count), 2))
        factors = [factor.neighbours(side) for factor in self.factors]
        rows = np.arange(math.prod(len(f.nodes) for f in factors))
        rows = rows.reshape([len(f.nodes) for f in factors])
        pairs, weights = [np.zeros((0, 2), int)], [np.zeros(0)]
        for axis, factor in enumerate(factors):
            along = np.moveaxis(rows, axis, 0)[factor.pairs]  # [E, 2, others...]
            pairs.append(np.moveaxis(along, 1, -1).reshape(-1, 2))
            others = rows.size // rows.shape[axis]
            weights.append(np.repeat(factor.weights / others, others))
        nodes = _grid([factor.nodes for factor in factors])
        return Neighbours(nodes, np.concatenate(pairs), np.concatenate(weights))

    def _side(self, n: int, count: Callable[[StateSpace, int], int]) -> int:
        """What to ask each factor for, so that n members come of it in all."""
        finite = math.prod(count(factor, 1) for factor in self.factors)
        growing = sum(count(factor, 2) > count(factor, 1) for factor in self.factors)
        # a root that should be whole may come out just below
        return max(int((n / finite) ** (1.0 / max(growing, 1)) + 1e-9), 1)

    @override
    def difference(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        ends = np.cumsum([factor.dim for factor in self.factors])[:-1]
        pairs = zip(
            self.factors,
            np.split(first, ends, axis=-1),
            np.split(second, ends, axis=-1),
            strict=True,
        )
        return np.concatenate([factor.difference(a, b) for factor, a, b in pairs], axis=-1)

    @override
    def n_bins(self, wanted: int) -> int:
        """Of the joint grid: the product over the factors."""
        return math.prod(factor.n_bins(wanted) for factor in self.factors)

    @override
    def bin_shape(self, n_bins: int) -> tuple[int, ...]:
        """Bins of each factor; joint bins are counted with the last factor's running fastest.

        Raises:
            ValueError: no number of bins a knob makes `n_bins` in all.
        """
        wanted = 1
        while self.n_bins(wanted) < n_bins and wanted < n_bins:
            wanted += 1
        if self.n_bins(wanted) != n_bins:
            raise ValueError(
                f"{n_bins} bins cannot be shared by {', '.join(self.names)}: take n_bins(wanted)"
            )
        return tuple(factor.n_bins(wanted) for factor in self.factors)

    @override
    def bin(self, tau: Array, n_bins: int) -> Array:
        """Of the joint grid."""
        joint = jnp.zeros(tau.shape[:-1], jnp.int32)
        sizes = self.bin_shape(n_bins)
        for factor, part, size in zip(self.factors, self.split(tau), sizes, strict=True):
            joint = joint * size + factor.bin(part, size)
        return joint

    @override
    @property
    def n_axes(self) -> int:
        return sum(factor.n_axes for factor in self.factors)

    @override
    def from_subspace(self, coordinates: np.ndarray) -> np.ndarray:
        """Every factor from principal axes of its own, in order.

        Raises:
            ValueError: the subspace has too few axes, or a factor has no rule.
        """
        if coordinates.shape[1] < self.n_axes:
            raise ValueError(
                f"the subspace has {coordinates.shape[1]} components and the states "
                f"{', '.join(self.names)} need {self.n_axes}: give the subspace more terms"
            )
        states, start = [np.zeros((len(coordinates), 0))], 0
        for factor in self.factors:
            if factor.dim:
                states.append(factor.from_subspace(coordinates[:, start : start + factor.n_axes]))
            start += factor.n_axes
        return np.concatenate(states, axis=1)

    @override
    def log_base(self, tau: Array) -> Array:
        parts = zip(self.factors, self.split(tau), strict=True)
        return sum((f.log_base(part) for f, part in parts), jnp.zeros(tau.shape[:-1]))

    @override
    def sample_base(self, key: Array, shape: tuple[int, ...]) -> Array:
        keys = jax.random.split(key, len(self.factors))
        draws = [f.sample_base(k, shape) for f, k in zip(self.factors, keys, strict=True)]
        return jnp.concatenate(draws, axis=-1)


def _lattice_size(space: StateSpace, n: int) -> int:
    """Members of the lattice that a space makes when asked for n."""
    state = jax.ShapeDtypeStruct((space.dim,), jnp.float32)
    return jax.eval_shape(lambda tau: space.lattice(tau, n), state).shape[0]


def _node_count(space: StateSpace, n: int) -> int:
    """Nodes that a space gives when asked for n."""
    return jax.eval_shape(lambda: space.nodes(n)).shape[0]


def _grid(parts: list[Array]) -> Array:
    """All combinations of the rows of [n_i, d_i]: [prod n_i, sum d_i], the last fastest."""
    places = np.indices([len(part) for part in parts]).reshape(len(parts), -1)
    return jnp.concatenate([part[at] for part, at in zip(parts, places, strict=True)], axis=-1)
