"""Priors of rotations, as candidates' draws need them: sets that are alike under the prior, or
weighed by it."""

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.space.rotation import (
    log_haar,
    quaternion_conjugate,
    quaternion_from_vector,
    quaternion_multiply,
    vector_from_quaternion,
)


class RotationPrior(Protocol):
    """Proposes rotations, and says how the prior weighs them."""

    @abstractmethod
    def candidates(self, key: Array, quaternion: Array, width: Array, n: int) -> tuple:
        """Candidates [B, n, 4], the current rotation first, and the log of what the prior still
        says of them [B, n]: mostly 0, or -inf where it forbids one.

        Args:
            key: random key.
            quaternion: [B, 4] where the particles are.
            width: [B] radians.
            n: candidates; 1 leaves rotations where they are.
        """


class AboutCentre(NamedTuple):
    """R = exp(w) R_centre with w ~ N(0, sd^2 I) up to half a turn.

    Steps w -> sqrt(1 - b^2) w + b sd xi leave N(0, sd^2 I) as it is (preconditioned
    Crank-Nicolson; Cotter et al. 2013), so that given a hidden pivot one such step away all
    candidates are alike under it, and their images alone weigh them. At b = width / sd >= 1 they
    are fresh draws of the prior.

    Attributes:
        centre: quaternions [B, 4].
        sd_rad: standard deviation of a component of w.
    """

    centre: Array
    sd_rad: Array

    def candidates(
        self, key: Array, quaternion: Array, width: Array, n: int
    ) -> tuple[Array, Array]:
        """See `RotationPrior.candidates`."""
        if n == 1:
            return quaternion[:, None], jnp.zeros((len(quaternion), 1))
        centre = self.centre[:, None]
        step = jnp.minimum(width / self.sd_rad, 1.0)[:, None, None]
        keep = jnp.sqrt(1.0 - step**2)
        noise = self.sd_rad * jax.random.normal(key, (len(quaternion), n, 3))
        here = quaternion_multiply(quaternion[:, None], quaternion_conjugate(centre))
        pivot = keep * vector_from_quaternion(here) + step * noise[:, :1]
        vectors = keep * pivot + step * noise[:, 1:]
        # rotation vectors end at half a turn, and so does the prior
        outside = jnp.where(jnp.sum(vectors**2, axis=-1) < jnp.pi**2, 0.0, -jnp.inf)
        others = quaternion_multiply(quaternion_from_vector(vectors), centre)
        return (
            jnp.concatenate([quaternion[:, None], others], axis=1),
            jnp.concatenate([jnp.zeros_like(outside[:, :1]), outside], axis=1),
        )


class Anywhere(NamedTuple):
    """Uniform on SO(3): candidates scatter evenly about a hidden pivot, as the current one does.

    exp(w) and exp(-w) are equally likely, so that a step and its reverse are under Haar measure.
    """

    def candidates(
        self, key: Array, quaternion: Array, width: Array, n: int
    ) -> tuple[Array, Array]:
        """See `RotationPrior.candidates`."""
        alike = jnp.zeros((len(quaternion), n))
        if n == 1:
            return quaternion[:, None], alike
        steps = width[:, None, None] * jax.random.normal(key, (len(quaternion), n, 3))
        turns = quaternion_from_vector(steps)
        pivot = quaternion_multiply(turns[:, :1], quaternion[:, None])
        others = quaternion_multiply(turns[:, 1:], pivot)
        return jnp.concatenate([quaternion[:, None], others], axis=1), alike


class Guess(NamedTuple):
    """Of each particle's posterior: R = exp(w) R_centre with w ~ N(0, covariance).

    Attributes:
        centre: quaternions [..., 4].
        covariance: of the rotation vectors w in radians^2, [..., 3, 3].
    """

    centre: Array
    covariance: Array


class Guessed(NamedTuple):
    """Candidates are drawn from a guess, independently of where a particle is, and weighed by
    prior over guess: exact whatever the guess (Tjelmeland 2004), and as fast as that is good.

    Attributes:
        guess: of the posterior of B particles.
        log_density: of the prior with respect to Haar measure: quaternions [B, n, 4] -> [B, n].
    """

    guess: Guess
    log_density: Callable[[Array], Array]

    def candidates(
        self, key: Array, quaternion: Array, width: Array, n: int
    ) -> tuple[Array, Array]:
        """See `RotationPrior.candidates`; the guess has its own width."""
        if n == 1:
            return quaternion[:, None], jnp.zeros((len(quaternion), 1))
        centre, root = self.guess.centre[:, None], jnp.linalg.cholesky(self.guess.covariance)
        steps = jax.random.normal(key, (len(quaternion), n - 1, 3))
        vectors = jnp.einsum("bij,bnj->bni", root, steps)
        others = quaternion_multiply(quaternion_from_vector(vectors), centre)
        here = vector_from_quaternion(
            quaternion_multiply(quaternion, quaternion_conjugate(self.guess.centre))
        )
        vectors = jnp.concatenate([here[:, None], vectors], axis=1)
        every = jnp.concatenate([quaternion[:, None], others], axis=1)
        return every, self.log_density(every) - _log_guess(vectors, root)


def _log_guess(vectors: Array, root: Array) -> Array:
    """log density [B, n] of rotation vectors [B, n, 3] with respect to Haar measure, up to a
    constant for each of B: none beyond half a turn, where they would have another name."""
    white = jax.scipy.linalg.solve_triangular(root, jnp.swapaxes(vectors, -1, -2), lower=True)
    angle2 = jnp.sum(vectors**2, axis=-1)
    inside = jnp.where(angle2 < jnp.pi**2, 0.0, jnp.inf)
    return inside - 0.5 * jnp.sum(white**2, axis=-2) - log_haar(angle2)


class Weighed(NamedTuple):
    """Any prior: candidates that are alike under Haar measure, weighed by its density.

    Attributes:
        log_density: quaternions [B, n, 4] -> [B, n], with respect to Haar measure.
    """

    log_density: Callable[[Array], Array]

    def candidates(
        self, key: Array, quaternion: Array, width: Array, n: int
    ) -> tuple[Array, Array]:
        """See `RotationPrior.candidates`."""
        rotations, _ = Anywhere().candidates(key, quaternion, width, n)
        return rotations, self.log_density(rotations)
