"""Priors on the densities V(., tau) themselves, beside the spectrum's Gaussian prior of theta.

They multiply it: P(theta, mu) ~ N(theta | mu) P(mu) exp(log_density(theta)), and they add up
with `+`. mu does not enter them, so every conjugate draw of mu stays what it was (P(mu) is then
no longer mu's marginal: a prior that makes small maps likely makes large levels likely as well).

A prior is a quadratic form of the maps, which keeps theta's conditional Gaussian and its draws
exact, plus a tilt, which does not:

    log_density(theta) = -<maps, precision(theta)> / 2 + sum(tilt(theta)).

Densities are those of `LinearMolecule.shown`: parts in free rigid motion are compared at rest, so
that what smooths the states does not hinder the motion, whose prior is its trajectory's.
The quadratic ones are in `state_smoothness`.
"""

import abc
import math
from dataclasses import dataclass
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.molecule.protocol import Coefficients, LinearMolecule


def zeros_like(maps: Any) -> Any:
    """Maps of zeros."""
    return jax.tree.map(jnp.zeros_like, maps)


class DensityPrior(abc.ABC):
    """A log prior of theta up to a constant, which must not grow faster than the Gaussian falls."""

    @property
    @abc.abstractmethod
    def is_quadratic(self) -> bool:
        """Whether there is no tilt: theta's conditional stays Gaussian."""

    @property
    def members(self) -> "tuple[DensityPrior, ...]":
        """What it is the sum of."""
        return (self,)

    def precision(self, molecule: LinearMolecule, theta: Coefficients) -> Any:
        """The quadratic form's matrix times theta's maps, its trajectories as they are."""
        return zeros_like(theta.maps)

    def precision_root(self, key: Array, molecule: LinearMolecule, theta: Coefficients) -> Any:
        """A draw of N(0, matrix), shaped like theta's maps; only the trajectories matter."""
        return zeros_like(theta.maps)

    def shell_precision(self, molecule: LinearMolecule, n_shells: int) -> Array:
        """The matrix as if it were one between terms per shell, [n_shells, T, T]: positive
        semi-definite, for preconditioners."""
        terms = len(molecule.term_sizes)
        return jnp.zeros((n_shells, terms, terms))

    def tilt(self, molecule: LinearMolecule, theta: Coefficients) -> Array:
        """What is not quadratic, as terms [any] whose differences a kernel sums."""
        return jnp.zeros(0)

    def log_density(self, molecule: LinearMolecule, theta: Coefficients) -> Array:
        """The log prior up to a constant, a scalar; differentiable in theta."""
        energy = molecule.term_products(theta.maps, self.precision(molecule, theta))
        return -0.5 * jnp.sum(energy) + jnp.sum(self.tilt(molecule, theta))

    def __add__(self, other: "DensityPrior") -> "DensityPrior":
        return Sum((*self.members, *other.members))


@final
@dataclass(frozen=True)
class Sum(DensityPrior):
    """Several priors at once: log densities add up, precisions and perturbations too."""

    parts: tuple[DensityPrior, ...]

    @property
    def is_quadratic(self) -> bool:
        """Whether all parts are."""
        return all(part.is_quadratic for part in self.parts)

    @property
    def members(self) -> tuple[DensityPrior, ...]:
        """The parts."""
        return self.parts

    def precision(self, molecule: LinearMolecule, theta: Coefficients) -> Any:
        """Sum of the parts'."""
        return self._sum(theta, [part.precision(molecule, theta) for part in self.parts])

    def precision_root(self, key: Array, molecule: LinearMolecule, theta: Coefficients) -> Any:
        """Sum of independent draws."""
        keys = jax.random.split(key, max(len(self.parts), 1))
        drawn = [
            part.precision_root(k, molecule, theta)
            for part, k in zip(self.parts, keys, strict=False)
        ]
        return self._sum(theta, drawn)

    def _sum(self, theta: Coefficients, terms: list[Any]) -> Any:
        return jax.tree.map(lambda zero, *values: sum(values, zero), zeros_like(theta.maps), *terms)

    def shell_precision(self, molecule: LinearMolecule, n_shells: int) -> Array:
        """Sum of the parts'."""
        zero = super().shell_precision(molecule, n_shells)
        return sum((part.shell_precision(molecule, n_shells) for part in self.parts), zero)

    def tilt(self, molecule: LinearMolecule, theta: Coefficients) -> Array:
        """All the parts' terms, [sum of theirs]."""
        terms = [jnp.ravel(part.tilt(molecule, theta)) for part in self.parts]
        return jnp.concatenate([jnp.zeros(0), *terms])


@final
@dataclass(frozen=True)
class NoPrior(DensityPrior):
    """Nothing beyond the Gaussian prior."""

    is_quadratic = True

    @property
    def members(self) -> tuple[DensityPrior, ...]:
        """None."""
        return ()


def known_weights(molecule: LinearMolecule, nodes: Array) -> np.ndarray:
    """`shown_weights` at states [J, dim] as numbers, float64 [J, G], inside a trace as well."""
    return np.asarray(molecule.shown_weights(nodes), np.float64)


def check_least(name: str, value: float, least: float) -> None:
    """Refuse a number below `least`."""
    if not (math.isfinite(value) and value >= least):
        raise ValueError(f"{name} is {value}: give a number of at least {least}")


def check_above_zero(name: str, value: float) -> None:
    """Refuse a number that is not above 0."""
    if not (math.isfinite(value) and value > 0.0):
        raise ValueError(f"{name} is {value}: give a number above 0")


@final
@dataclass(frozen=True)
class Positivity(DensityPrior):
    """Densities are seldom negative: -weight * mean over nodes of int softplus(-V / width)^2 dr.

    Smooth and convex in V: far below zero it is (V / width)^2, from about `width` above zero on
    it is flat. The integral is over cubic pixels, and empty space counts nothing.

    Attributes:
        weight: at least 0.
        width: density, in the molecule's units, over which the bound is soft.
        nodes: states in all at which it is asked, `StateSpace.nodes`.
        box: side of the images in pixels.
    """

    weight: float
    width: float
    nodes: int
    box: int

    is_quadratic = False

    def __post_init__(self) -> None:
        check_least("weight", self.weight, 0.0)
        check_least("nodes", self.nodes, 1)
        check_above_zero("width", self.width)

    def tilt(self, molecule: LinearMolecule, theta: Coefficients) -> Array:
        """One term a node and plane, [J, n]."""
        with jax.ensure_compile_time_eval():
            nodes = molecule.state_space.nodes(self.nodes)
            weights = known_weights(molecule, nodes).astype(np.float32)
        shown = molecule.shown(theta)
        unit = self.weight * (self.box / shown.shape[-1]) ** 3 / len(weights)

        @jax.checkpoint  # a gradient keeps no densities of all nodes at once
        def at(row: Array) -> Array:
            excess = jax.nn.softplus(-jnp.tensordot(row, shown, axes=1) / self.width) ** 2
            return jnp.sum(excess - np.float32(math.log(2.0) ** 2), axis=(-2, -1))

        return -unit * jax.lax.map(at, jnp.asarray(weights))


@final
@dataclass(frozen=True)
class UserPrior(DensityPrior):
    """Any log prior: a function (molecule, theta) -> scalar that JAX can trace and differentiate.

    It must have a finite integral against the Gaussian prior: bounded above is enough.
    """

    function: Any

    is_quadratic = False

    def tilt(self, molecule: LinearMolecule, theta: Coefficients) -> Array:
        """The function's value, [1]."""
        return jnp.reshape(self.function(molecule, theta), (1,))
