"""The generic hyper-molecule of eq. 20-21: V(r, tau) = sum_q V_q(r) P_q(tau).

One class for every expansion: the homogeneous molecule has one term, linear-subspace models
(PPCA) have P_q = tau_q, continuous ones have cosines, polynomials or Fourier terms.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.molecule.spatial_basis.base import SpatialBasis
from hypermol.molecule.state_basis import StateBasis
from hypermol.space.fourier import crop_or_pad_volume
from hypermol.space.state_space import StateSpace


class Coefficients(NamedTuple):
    """theta: coefficients of each V_q, [F, *basis.coefficient_shape]."""

    maps: Array


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
    def n_features(self) -> int:
        """F = Q, one feature a term."""
        return self.state_basis.n_terms

    def init(self, key: Array) -> Coefficients:
        """Zero everywhere, as the paper starts (sec. 5)."""
        return Coefficients(jnp.zeros((self.n_features, *self.basis.coefficient_shape)))

    def fourier(self, theta: Coefficients, k: Array, tau: Array) -> Array:
        """V-hat(k, tau), complex [n], at k [n, 3] in 1/Angstrom, in orthonormal image units."""
        return self.weights(tau) @ self.basis.fourier(theta.maps, k)

    def log_prior(self, theta: Coefficients) -> Array:
        """Unit-level Gaussian prior; its spectrum and level live in mu (`posterior.priors`)."""
        ones = jnp.ones((self.n_features, self.basis.n_shells))
        return -0.5 * jnp.sum(theta.maps * self.basis.precision(theta.maps, ones))

    def prepare(self, theta: Coefficients) -> Array:
        """The basis' slicing grid of all terms."""
        return self.basis.prepare(theta.maps)

    def features(self, prepared: Array, rotations: Array, frequencies: Array) -> Array:
        """Slices of every V_q, complex [B, F, K]."""
        return self.basis.slices(prepared, rotations, frequencies)

    def weights(self, tau: Array) -> Array:
        """P_q(tau), [..., F]."""
        return self.state_basis(tau)

    def density(self, theta: Coefficients, tau: Array) -> Array:
        """V(., tau) on the basis' grid, [n, n, n]."""
        return jnp.tensordot(self.weights(tau), self.basis.density(theta.maps), axes=1)


def resize(theta: Coefficients, source: Expansion, target: Expansion) -> Coefficients:
    """Carry coefficients to another level: more frequencies in space, more terms in state.

    Frequency marching (sec. 5): shared frequencies keep their values, new ones start at zero.
    Goes through the density on the grids, so the spatial bases may differ.
    """
    density = np.asarray(jax.jit(source.basis.density)(theta.maps))
    carried = jax.jit(target.basis.expand)(crop_or_pad_volume(density, target.basis.n))
    shape = target.basis.coefficient_shape
    shared = min(target.n_features, source.n_features)
    return Coefficients(jnp.zeros((target.n_features, *shape)).at[:shared].set(carried[:shared]))
