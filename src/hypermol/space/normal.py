"""States with a standard normal base measure: of linear subspaces, and of free rigid motions."""

import abc
from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from typing_extensions import override

from hypermol.space.state_space import StateSpace


class StandardNormal(StateSpace):
    """R^d with a standard normal base measure: no edges, no lattice."""

    @property
    @abc.abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the knobs."""

    @override
    @property
    def dim(self) -> int:
        return len(self.names)

    @override
    def wrap(self, tau: Array) -> Array:
        """The space has no edges."""
        return tau

    @override
    def lattice(self, tau: Array, n: int) -> Array:
        """Only the state itself, [1, d]: these states are drawn by other steps."""
        return tau[None]

    @override
    def nodes(self, n: int) -> Array:
        """[n, d] along the first knob, -2 to 2 standard deviations."""
        line = jnp.linspace(-2.0, 2.0, n)
        return jnp.zeros((n, self.dim)).at[:, 0].set(line)

    @override
    def propose(self, key: Array, tau: Array, width: Array | float) -> Array:
        """Within +-width of the four standard deviations that hold most states."""
        step = jax.random.uniform(key, tau.shape, minval=-1.0, maxval=1.0)
        return tau + 4.0 * width * step

    @override
    def log_base(self, tau: Array) -> Array:
        """Standard normal, up to a constant, [...]."""
        return -0.5 * jnp.sum(tau**2, axis=-1)

    @override
    def sample_base(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.normal(key, (*shape, self.dim))


@final
@dataclass(frozen=True)
class Gaussian(StandardNormal):
    """States that enter the density linearly: linear subspace models (PPCA)."""

    n_components: int = 1

    is_subspace = True

    @override
    @property
    def names(self) -> tuple[str, ...]:
        """component_1, component_2, ..."""
        return tuple(f"component_{i + 1}" for i in range(self.n_components))

    @override
    def from_subspace(self, coordinates: np.ndarray) -> np.ndarray:
        """The leading principal coordinates themselves."""
        return coordinates[:, : self.n_components]


@final
@dataclass(frozen=True)
class Normal(StandardNormal):
    """States that enter the density in any way: rigid motions about a consensus.

    Attributes:
        knobs: their names.
    """

    knobs: tuple[str, ...]

    @override
    @property
    def names(self) -> tuple[str, ...]:
        return self.knobs

    @override
    def renamed(self, names: tuple[str, ...]) -> "Normal":
        return Normal(names)
