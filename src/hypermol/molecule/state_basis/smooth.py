"""Bases with P_0 = 1 and terms that run over all states: cosines, polynomials, coordinates."""

from dataclasses import dataclass
from typing import final

import jax.numpy as jnp
import numpy as np
from jax import Array
from typing_extensions import override

from hypermol.molecule.state_basis.base import StateBasis
from hypermol.space.normal import Gaussian
from hypermol.space.state_space import Circle, Interval, Point


@final
@dataclass(frozen=True)
class Constant(StateBasis):
    """The homogeneous molecule: P_0 = 1 on the one-state space."""

    space = Point()
    n_terms = 1

    @override
    @property
    def frequencies(self) -> np.ndarray:
        """[1] zero."""
        return np.zeros(1)

    def __call__(self, tau: Array) -> Array:
        """Ones [..., 1]."""
        return jnp.ones((*tau.shape[:-1], 1))


@final
@dataclass(frozen=True)
class Cosine(StateBasis):
    """P_q = sqrt(2) cos(pi q tau), orthonormal on the interval for uniform states."""

    n_terms: int = 4
    space: Interval = Interval()

    @override
    @property
    def frequencies(self) -> np.ndarray:
        """[n_terms] 0, 1, 2, ... half turns."""
        return np.arange(self.n_terms, dtype=float)

    def __call__(self, tau: Array) -> Array:
        """Values [..., n_terms]."""
        q = jnp.arange(self.n_terms)
        scale = jnp.where(q == 0, 1.0, np.sqrt(2.0))
        return scale * jnp.cos(jnp.pi * q * tau[..., :1])


@final
@dataclass(frozen=True)
class Chebyshev(StateBasis):
    """P_q = T_q(2 tau - 1), Chebyshev polynomials on the interval (sec. 3.2)."""

    n_terms: int = 4
    space: Interval = Interval()

    @override
    @property
    def frequencies(self) -> np.ndarray:
        """[n_terms] polynomial degree."""
        return np.arange(self.n_terms, dtype=float)

    @override
    @property
    def mean_weights(self) -> np.ndarray:
        """[n_terms] 1 / (1 - q^2) for even degrees, 0 for odd: not orthogonal to the constant."""
        q = np.arange(self.n_terms)
        return np.where(q % 2 == 0, 1.0 / np.where(q % 2 == 0, 1.0 - q**2, 1.0), 0.0)

    def __call__(self, tau: Array) -> Array:
        """Values [..., n_terms] by the three-term recurrence: finite gradients at the ends."""
        x = 2.0 * tau[..., 0] - 1.0
        values = [jnp.ones_like(x), x]
        for _ in range(2, self.n_terms):
            values.append(2.0 * x * values[-1] - values[-2])
        return jnp.stack(values[: self.n_terms], axis=-1)


@final
@dataclass(frozen=True)
class Fourier(StateBasis):
    """1, sqrt(2) cos(2 pi q tau), sqrt(2) sin(2 pi q tau), ... on the circle (orthonormal)."""

    n_terms: int = 5
    space: Circle = Circle()

    @override
    @property
    def frequencies(self) -> np.ndarray:
        """[n_terms] 0, 1, 1, 2, 2, ... turns."""
        return np.ceil(np.arange(self.n_terms) / 2.0)

    def __call__(self, tau: Array) -> Array:
        """Values [..., n_terms]."""
        index = jnp.arange(self.n_terms)
        turns = jnp.asarray(self.frequencies, tau.dtype) * tau[..., :1]
        # sin(x) = cos(x - 1/4 turn): one formula for the pair
        quarter = jnp.where((index > 0) & (index % 2 == 0), 0.25, 0.0)
        scale = jnp.where(index == 0, 1.0, np.sqrt(2.0))
        return scale * jnp.cos(2.0 * jnp.pi * (turns - quarter))


def principal_coordinates(maps: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Rotate subspace states [N, d] to the principal axes of the density they explain.

    Args:
        maps: [d, ...] coefficients of the principal components.
        states: [N, d].
    """
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    axes = np.linalg.eigh(flat @ flat.T)[1][:, ::-1]
    return states @ axes


@final
@dataclass(frozen=True)
class Linear(StateBasis):
    """P_0 = 1, P_r = tau_r: linear subspace models (PPCA, 3DVA) with Gaussian states."""

    space: Gaussian = Gaussian(1)

    @override
    @property
    def n_terms(self) -> int:
        """One more than the number of principal components."""
        return self.space.dim + 1

    @override
    @property
    def frequencies(self) -> np.ndarray:
        """[n_terms] 0 for the mean, 1 for each principal component."""
        return np.minimum(np.arange(self.n_terms), 1).astype(float)

    def __call__(self, tau: Array) -> Array:
        """Values [..., n_terms]."""
        return jnp.concatenate([jnp.ones((*tau.shape[:-1], 1), tau.dtype), tau], axis=-1)
