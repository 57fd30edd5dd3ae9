"""Bases whose terms each belong to some states: hats between nodes, classes, trees of classes."""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from typing_extensions import override

from hypermol.molecule.state_basis.base import StateBasis
from hypermol.space.discrete import Discrete
from hypermol.space.state_space import Circle, Interval


@final
@dataclass(frozen=True)
class Hats(StateBasis):
    """Linear interpolation between the densities at n evenly spaced, sorted states.

    Term q is 1 at its own node and 0 at all others; on a circle the last node leads back to the
    first. The terms sum to 1, so a density that does not move has the same map in every term.
    """

    n_terms: int = 8
    space: Interval | Circle = Interval()

    def __post_init__(self) -> None:
        if self.n_terms < 2:
            raise ValueError(f"n_terms is {self.n_terms} for hats: give at least 2 nodes")

    @property
    def nodes(self) -> np.ndarray:
        """[n_terms, 1] states of the maps: both ends of an interval, or once round a circle."""
        index = np.arange(self.n_terms)
        return (index / self._links)[:, None]

    @property
    def _links(self) -> int:
        """Segments between neighbouring nodes."""
        return self.n_terms if isinstance(self.space, Circle) else self.n_terms - 1

    @override
    @property
    def frequencies(self) -> np.ndarray:
        """[n_terms] zero: every term is a whole density, as large as any other."""
        return np.zeros(self.n_terms)

    def __call__(self, tau: Array) -> Array:
        """Values [..., n_terms]; gradients are constant between nodes."""
        away = tau[..., :1] - jnp.asarray(self.nodes[:, 0], tau.dtype)
        if isinstance(self.space, Circle):
            away = away - jnp.round(away)
        return jnp.maximum(1.0 - self._links * jnp.abs(away), 0.0)

    @override
    @property
    def constant_weights(self) -> np.ndarray:
        """[n_terms] ones."""
        return np.ones(self.n_terms)

    @override
    @property
    def mean_weights(self) -> np.ndarray:
        """[n_terms] areas: a hat at an end of the interval is half a hat."""
        weights = np.full(self.n_terms, 1.0 / self._links)
        if isinstance(self.space, Interval):
            weights[[0, -1]] /= 2.0
        return weights

    @override
    def coefficients_of(self, source: StateBasis) -> np.ndarray:
        """The source's values at the nodes."""
        return np.asarray(source(jnp.asarray(self.nodes, jnp.float32)), np.float64)


@final
@dataclass(frozen=True)
class OneHot(StateBasis):
    """One map a class: 3-D classification as a hyper-molecule. Term q is 1 in class q, else 0.

    The prior of each class' map is its own. With `Haar` the same molecules are written as a mean
    and differences, whose priors are learned apart: take that where classes are alike.
    """

    space: Discrete = Discrete()

    @override
    @property
    def n_terms(self) -> int:
        return self.space.n_states

    @override
    @property
    def frequencies(self) -> np.ndarray:
        """[n_terms] zero: every term is a whole density."""
        return np.zeros(self.n_terms)

    def __call__(self, tau: Array) -> Array:
        """Values [..., n_terms]; no gradient, for classes have no neighbours."""
        return jax.nn.one_hot(self.space.index(tau), self.n_terms)

    @override
    @property
    def constant_weights(self) -> np.ndarray:
        """[n_terms] ones."""
        return np.ones(self.n_terms)

    @override
    @property
    def mean_weights(self) -> np.ndarray:
        """[n_terms] 1 / n_terms."""
        return np.full(self.n_terms, 1.0 / self.n_terms)

    @override
    def coefficients_of(self, source: StateBasis) -> np.ndarray:
        """The source's values in each class."""
        return np.asarray(source(self.space.nodes(self.n_terms)), np.float64)


@final
@dataclass(frozen=True)
class Haar(StateBasis):
    """Mean and differences of classes, orthonormal over n equally likely classes, any n.

    P_0 = 1. The classes are halved again and again (the first half one larger where the number
    is odd); every halving is a term, positive on the first half, negative on the second, zero
    elsewhere. Neighbouring classes thus share their differences from all others.
    """

    space: Discrete = Discrete()

    @override
    @property
    def n_terms(self) -> int:
        return self.space.n_states

    @cached_property
    def table(self) -> np.ndarray:
        """[n_states, n_terms] values in each class; table.T @ table = n_states times identity."""
        n = self.n_terms
        table = np.zeros((n, n))
        table[:, 0] = 1.0
        for term, (start, middle, end) in enumerate(_halvings(n), start=1):
            first, second = middle - start, end - middle
            scale = np.sqrt(n / (first + second))
            table[start:middle, term] = scale * np.sqrt(second / first)
            table[middle:end, term] = -scale * np.sqrt(first / second)
        return table

    @override
    @property
    def frequencies(self) -> np.ndarray:
        """[n_terms] 0, then 1, 2, 4, ... parts that a level's halvings split the classes into."""
        n = self.n_terms
        parts = [2.0 ** np.round(np.log2(n / (end - start))) for start, _, end in _halvings(n)]
        return np.array([0.0, *parts])

    def __call__(self, tau: Array) -> Array:
        """Values [..., n_terms]; no gradient, for classes have no neighbours."""
        return jnp.asarray(self.table, jnp.float32)[self.space.index(tau)]

    @override
    def coefficients_of(self, source: StateBasis) -> np.ndarray:
        """Projections of the source's values in each class."""
        values = np.asarray(source(self.space.nodes(self.n_terms)), np.float64)
        return self.table.T @ values / self.n_terms


def _halvings(n: int) -> list[tuple[int, int, int]]:
    """(start, middle, end) of every halving of 0..n, level by level."""
    found, level = [], [(0, n)]
    while level:
        parts = [(a, (a + b + 1) // 2, b) for a, b in level if b - a > 1]
        found += parts
        level = [half for a, m, b in parts for half in ((a, m), (m, b))]
    return found
