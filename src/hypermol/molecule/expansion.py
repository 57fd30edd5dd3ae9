"""The generic hyper-molecule of eq. 20-21: V(r, tau) = sum_q V_q(r) P_q(tau).

One class for every expansion: the homogeneous molecule has one term, linear-subspace models
(PPCA) have P_q = tau_q, continuous ones have cosines, polynomials or Fourier terms.
"""

from dataclasses import dataclass
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.molecule.protocol import Coefficients
from hypermol.molecule.spatial_basis.base import SpatialBasis
from hypermol.molecule.state_basis import StateBasis, principal_coordinates
from hypermol.space.fourier import crop_or_pad_volume
from hypermol.space.state_space import StateSpace


@final
@dataclass(frozen=True)
class Expansion:
    """V(r, tau) = sum_q P_q(tau) V_q(r), V_q in a spatial basis (eq. 21)."""

    basis: SpatialBasis
    state_basis: StateBasis

    @property
    def state_space(self) -> StateSpace:
        """The state basis' space."""
        return self.state_basis.space

    @property
    def turning(self) -> tuple[bool, ...]:
        """Features do not depend on the state."""
        return (False,) * self.state_space.dim

    @property
    def frame_is_free(self) -> bool:
        """Wherever there are states, up to what the bases resolve."""
        return self.state_space.dim > 0

    @property
    def n_terms(self) -> int:
        """Q, the terms of eq. 21."""
        return self.state_basis.n_terms

    @property
    def feature_terms(self) -> np.ndarray:
        """One feature a term."""
        return np.arange(self.n_terms)

    @property
    def feature_places(self) -> np.ndarray:
        """All in one place."""
        return np.zeros(self.n_terms, int)

    @property
    def term_labels(self) -> tuple[tuple[str, int], ...]:
        """One part: the whole."""
        return tuple(("", order) for order in range(self.n_terms))

    @property
    def whole_terms(self) -> np.ndarray:
        """Those of the state basis that sum to the constant."""
        return self.state_basis.constant_weights != 0.0

    @property
    def term_sizes(self) -> np.ndarray:
        """The basis' free coefficients."""
        return np.full(self.n_terms, self.basis.n_coefficients)

    @property
    def slice_gain(self) -> np.ndarray:
        """The basis', [n_shells, Q]."""
        return np.tile(self.basis.slice_gain[:, None], (1, self.n_terms))

    @property
    def power_gain(self) -> np.ndarray:
        """The basis', [Q]."""
        return np.full(self.n_terms, self.basis.power_gain)

    def init(self, key: Array) -> Coefficients:
        """Zero everywhere, as the paper starts (sec. 5)."""
        return Coefficients(jnp.zeros((self.n_terms, *self.basis.coefficient_shape)))

    def fourier(self, theta: Coefficients, k: Array, tau: Array) -> Array:
        """V-hat(k, tau), complex [n], at k [n, 3] in 1/Angstrom, in orthonormal image units."""
        return self.weights(tau) @ self.basis.fourier(theta.maps, k)

    def log_prior(self, theta: Coefficients) -> Array:
        """Unit-level Gaussian prior; its spectrum and level live in mu (`posterior.priors`)."""
        ones = jnp.ones((self.n_terms, self.basis.n_shells))
        return -0.5 * jnp.sum(theta.maps * self.basis.precision(theta.maps, ones))

    def prepare(self, theta: Coefficients) -> Array:
        """The basis' slicing grid of all terms."""
        return self.basis.prepare(theta.maps)

    def features(
        self, prepared: Array, rotations: Array, states: Array, frequencies: Array
    ) -> Array:
        """Slices of every V_q, complex [B, Q, K], whatever the states."""
        del states
        return self.basis.slices(prepared, rotations, frequencies)

    def weights(self, tau: Array) -> Array:
        """P_q(tau), [..., F]."""
        return self.state_basis(tau)

    def lattice(self, tau: Array, n: int) -> Array:
        """The state space's."""
        return self.state_space.lattice(tau, n)

    def precision(self, maps: Array, spectrum: Array) -> Array:
        """The prior's matrix times the maps."""
        return self.basis.precision(maps, spectrum)

    def precision_root(self, key: Array, spectrum: Array) -> Array:
        """A draw of N(0, precision)."""
        white = jax.random.normal(key, (self.n_terms, *self.basis.coefficient_shape))
        return self.basis.precision_root(white, spectrum)

    def term_products(self, first: Array, second: Array) -> Array:
        """Inner products, [Q]."""
        return jnp.sum((first * second).reshape(self.n_terms, -1), axis=-1)

    def shell_power(self, maps: Array) -> Array:
        """Per term and shell, [Q, n_shells]."""
        return self.basis.shell_power(maps)

    def multiply_shells(self, maps: Array, matrices: Array) -> Array:
        """Mix the terms shell by shell."""
        return self.basis.multiply_shells(maps, matrices)

    def density(self, theta: Coefficients, tau: Array) -> Array:
        """V(., tau) on the basis' grid, [n, n, n]."""
        return jnp.tensordot(self.weights(tau), self.basis.density(theta.maps), axes=1)

    def log_prior_motion(self, motion: Any) -> Array:
        """There are no trajectories."""
        return jnp.zeros(())

    def shown(self, theta: Coefficients) -> Array:
        """The V_q, [Q, n, n, n]."""
        return self.basis.density(theta.maps)

    def shown_weights(self, tau: Array) -> Array:
        """P_q(tau)."""
        return self.weights(tau)

    def mean(self, theta: Coefficients) -> np.ndarray:
        """Mean density over the states' base measure, [n, n, n] on the grid."""
        mean = jnp.asarray(self.state_basis.mean_of(theta.maps))
        return np.asarray(self.basis.density(mean[None]))[0]

    def first_states(
        self, key: Array, theta: Coefficients, states: np.ndarray, source: "Expansion"
    ) -> np.ndarray:
        """States [N, dim] to start from, given those [N, d] of another level.

        From a linear subspace by the space's own rule for principal coordinates, else draws from
        the base measure.
        """
        if not source.state_space.is_subspace:
            return np.asarray(self.state_space.sample_base(key, (len(states),)))
        coordinates = principal_coordinates(np.asarray(theta.maps[1:]), states)
        return self.state_space.from_subspace(coordinates)

    def resize(self, theta: Coefficients, source: "Expansion") -> Coefficients:
        """Carry coefficients from another level: other frequencies in space, terms in state.

        Frequency marching (sec. 5): on one state space shared frequencies keep their values and
        new ones start at zero; on another space every state starts at the mean density. Both
        expansions must span the same box.
        """
        old, new = source.state_basis, self.state_basis
        densities = np.asarray(jax.jit(source.basis.density)(theta.maps))
        densities = crop_or_pad_volume(densities, self.basis.n)
        if new.space == old.space:
            grown = np.tensordot(new.coefficients_of(old), densities, axes=1)
        else:
            grown = new.from_mean(old.mean_of(densities))
        return Coefficients(jax.jit(self.basis.expand)(jnp.asarray(grown, jnp.float32)))
