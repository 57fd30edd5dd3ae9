"""States with a standard normal base measure that enter the density in any way."""

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.space.state_space import StateSpace


@final
@dataclass(frozen=True)
class Normal(StateSpace):
    """Knobs without ends, each standard normal a priori: rigid motions about a consensus.

    In contrast to `Gaussian` nothing is assumed about how the density depends on them.

    Attributes:
        knobs: their names.
    """

    knobs: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """As given."""
        return self.knobs

    @property
    def dim(self) -> int:
        """Number of knobs."""
        return len(self.knobs)

    def wrap(self, tau: Array) -> Array:
        """The space has no edges."""
        return tau

    def lattice(self, tau: Array, n: int) -> Array:
        """Only the state itself."""
        return tau[None]

    def nodes(self, n: int) -> Array:
        """[n, dim] along the first knob, -2 to 2 standard deviations."""
        line = jnp.linspace(-2.0, 2.0, n)
        return jnp.zeros((n, self.dim)).at[:, 0].set(line)

    def propose(self, key: Array, tau: Array, width: float) -> Array:
        """Within +-width of the four standard deviations that hold most states."""
        return tau + 4.0 * width * jax.random.uniform(key, tau.shape, minval=-1.0, maxval=1.0)

    def log_base(self, tau: Array) -> Array:
        """Standard normal, up to a constant."""
        return -0.5 * jnp.sum(tau**2, axis=-1)

    def sample_base(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Draws [*shape, dim]."""
        return jax.random.normal(key, (*shape, self.dim))
