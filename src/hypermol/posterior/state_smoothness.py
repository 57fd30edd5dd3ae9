"""Quadratic priors on how a density changes along the knobs (eq. 24 and what goes beyond it).

Both charge the mean along every knob of ||dV/dtau||^2, and differ in the norm; see
`density_priors` for how they join theta's posterior.
"""

import abc
from dataclasses import dataclass
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.molecule.protocol import Coefficients, LinearMolecule
from hypermol.posterior.density_priors import (
    DensityPrior,
    check_above_zero,
    check_least,
    known_weights,
    zeros_like,
)
from hypermol.space.fourier import frequency_radii
from hypermol.space.state_space import StateSpace


def _differences(values: np.ndarray, space: StateSpace, nodes: int) -> np.ndarray:
    """Rows sqrt(w_e) (values at second - at first), [E, ...], from values [J, ...] at the nodes."""
    known = space.neighbours(nodes)
    step = values[known.pairs[:, 1]] - values[known.pairs[:, 0]]
    return np.sqrt(known.weights)[:, None] * step


class NeighbourPrior(DensityPrior):
    """-(weight / 2) sum over knobs of the mean along the knob of ||dV/dtau||^2, some norm of it.

    The mean is over pairs of neighbouring nodes, of ||V(tau') - V(tau)||^2 / |tau' - tau|^2, so
    that it does not depend on the number of nodes; knobs run from 0 to 1, and along each the
    others take all their nodes in turn. The norm is ||D||^2 = <D, C D> on the grid of `shown`,
    C a Fourier multiplier.
    """

    weight: float
    nodes: int

    is_quadratic = True

    @abc.abstractmethod
    def multiplier(self, n: int, frequency: np.ndarray) -> np.ndarray:
        """C(k) at frequencies |k| in 1/box, on a grid of n^3 voxels."""

    def _filter(self, densities: Array, power: float) -> Array:
        """weight^power C^power applied to densities [..., n, n, n]."""
        n = densities.shape[-1]
        multiplier = self.multiplier(n, frequency_radii(n))
        factor = jnp.asarray((self.weight * multiplier) ** power, jnp.float32)
        axes = (-3, -2, -1)
        return jnp.fft.irfftn(jnp.fft.rfftn(densities, axes=axes) * factor, (n,) * 3, axes)

    def _rows(self, molecule: LinearMolecule) -> np.ndarray:
        """float32 [r, G]: a root of the states' part, ||D||^2 summed over pairs being the sum over
        rows of ||row . shown||^2. As few rows as can be, by QR in float64."""
        # nothing here depends on what is traced, and QR in float32 would lose the constant's zero
        with jax.ensure_compile_time_eval():
            space = molecule.state_space
            weights = known_weights(molecule, space.neighbours(self.nodes).nodes)
            differences = _differences(weights, space, self.nodes)
        if not len(differences):
            return np.zeros((1, weights.shape[1]), np.float32)
        return np.asarray(np.linalg.qr(differences, mode="r"), np.float32)

    def _seen(self, molecule: LinearMolecule, theta: Coefficients) -> Any:
        """maps -> weighted differences of densities [r, n, n, n]: linear."""
        rows = self._rows(molecule)
        return lambda maps: jnp.tensordot(rows, molecule.shown(theta._replace(maps=maps)), axes=1)

    def precision(self, molecule: LinearMolecule, theta: Coefficients) -> Any:
        """weight S' C S maps, S the weighted differences."""
        seen, transpose = jax.vjp(self._seen(molecule, theta), theta.maps)
        return transpose(self._filter(seen, 1.0))[0]

    def precision_root(self, key: Array, molecule: LinearMolecule, theta: Coefficients) -> Any:
        """S' (weight C)^(1/2) white noise on the grid."""
        seen, transpose = jax.vjp(self._seen(molecule, theta), zeros_like(theta.maps))
        white = jax.random.normal(key, seen.shape, seen.dtype)
        return transpose(self._filter(white, 0.5))[0]

    def shell_precision(self, molecule: LinearMolecule, n_shells: int) -> Array:
        """From the features' weights alone: the motion of parts that trajectories carry is left
        out, which only costs the solver iterations."""
        with jax.ensure_compile_time_eval():
            space = molecule.state_space
            weights = np.asarray(molecule.weights(space.neighbours(self.nodes).nodes), np.float64)
            differences = _differences(weights, space, self.nodes)
        places = molecule.feature_places
        normal = differences.T @ differences * (places[:, None] == places)
        terms = np.eye(len(molecule.term_sizes))[molecule.feature_terms]
        normal = terms.T @ normal @ terms
        n = jax.eval_shape(lambda: molecule.shown(molecule.init(jax.random.key(0)))).shape[-1]
        # mean squared density per white coefficient
        unit = molecule.power_gain / (molecule.term_sizes * self._scale(n) ** 2)
        normal = normal * np.sqrt(unit[:, None] * unit)
        shells = self.weight * self.multiplier(n, np.arange(n_shells))
        return jnp.asarray(shells[:, None, None] * normal, jnp.float32)

    @abc.abstractmethod
    def _scale(self, n: int) -> float:
        """See `SpatialBasis.scale`."""


@final
@dataclass(frozen=True)
class AdjacentStates(NeighbourPrior):
    """Neighbouring states are alike (eq. 24): ||D||^2 = sum over k of |D-hat(k)|^2.

    k runs over the lattice of 1/box and D-hat is in image units (orthonormal coefficients, where
    the noise's variance is sigma_k^2): weight 1 weighs as if every coefficient of dV/dtau had been
    measured to be zero, with a standard deviation of 1. By Parseval this is box (box / n)^3 times
    the sum of squared voxels. With T nodes on an interval it is T - 1 times eq. 24.

    Attributes:
        weight: at least 0.
        nodes: along each knob; at least twice as many as the state basis has terms.
        box: side of the images in pixels.
    """

    weight: float
    nodes: int
    box: int

    def __post_init__(self) -> None:
        check_least("weight", self.weight, 0.0)
        check_least("nodes", self.nodes, 2)

    def multiplier(self, n: int, frequency: np.ndarray) -> np.ndarray:
        """The same at every frequency."""
        return np.full(np.shape(frequency), self.box * (self.box / n) ** 3)

    def _scale(self, n: int) -> float:
        return (self.box / n) ** 3 / self.box


@final
@dataclass(frozen=True)
class MassFlow(NeighbourPrior):
    """Little mass moves far between neighbouring states: a Wasserstein-type smoothness.

    ||D||^2 is the squared Wasserstein distance (unbalanced: Wasserstein-Fisher-Rao) between
    neighbouring densities to lowest order. A small change D of a density rho costs
    min int rho (|u|^2 + length^2 g^2) over flows u and growth rates g with D = -div(rho u) + rho g;
    with rho replaced by a constant `reference` that is, in Fourier space,

        ||D||^2 = int |D-hat(k)|^2 / (4 pi^2 |k|^2 + 1 / length^2) dk / reference,

    a quadratic form (a negative Sobolev norm). The term 1 / length^2 balances mass: what would
    have to come from farther than about `length` is created instead. Of two changes of one size
    in eq. 24 a local rearrangement costs less than mass that comes or goes.

    How good it is: a Gaussian blob of mass m and standard deviation s moved by d has W2^2 = m d^2.
    With `reference = translation_reference(rho)` and x = d / (2 s) the norm gives
    12 m s^2 (1 - sqrt(pi) erf(x) / (2 x)) = m d^2 (1 - 0.075 (d / s)^2 + ...), less at most a share
    of 2 (s / length)^2: within 10 % up to d = 1.1 s, then too little, towards 12 m s^2 (eq. 24 in
    the same scale ends at 4 m s^2). So nodes should be close enough that no step between
    neighbours is longer than what moves is wide. Being a quadratic form it can not tell a flow
    from a cross-fade between the same two ends, which is straight and so the cheaper of the two,
    and blobs denser than the reference are charged in proportion.

    Attributes:
        weight: at least 0; in 1 / (mass Angstrom^2), mass being the sum over voxels of density
            times (box / n)^3, what an image of the molecule sums to.
        nodes: along each knob; see `AdjacentStates`.
        box: side of the images in pixels.
        pixel_size_angstrom: of the images.
        length_angstrom: mass is carried less far than this; below half the box.
        reference: constant density that stands for the molecule's, in its units; only
            weight / reference matters.
    """

    weight: float
    nodes: int
    box: int
    pixel_size_angstrom: float
    length_angstrom: float
    reference: float = 1.0

    def __post_init__(self) -> None:
        check_least("weight", self.weight, 0.0)
        check_least("nodes", self.nodes, 2)
        check_above_zero("length_angstrom", self.length_angstrom)
        check_above_zero("reference", self.reference)

    def multiplier(self, n: int, frequency: np.ndarray) -> np.ndarray:
        """Falls as 1 / |k|^2: what is fine in space may change fast with the state."""
        wave = 2.0 * np.pi * frequency / (self.box * self.pixel_size_angstrom)
        return (self.box / n) ** 3 / (self.reference * (wave**2 + self.length_angstrom**-2.0))

    def _scale(self, n: int) -> float:
        return (self.box / n) ** 3 / self.box


def translation_reference(density: np.ndarray) -> float:
    """The `reference` with which `MassFlow` gives translations of a density [n, n, n] their W2^2.

    Moving rho by d changes it by -d . grad rho, whose squared norm, on the mean over directions of
    d, is |d|^2 sum((rho - mean)^2) / (3 reference); it should be |d|^2 sum(rho). The mean over the
    box is what a move of all the box would not change.
    """
    values = np.asarray(density, np.float64)
    return float(np.sum((values - values.mean()) ** 2) / (3.0 * np.sum(values)))
