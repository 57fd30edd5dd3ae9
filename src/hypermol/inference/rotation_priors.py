"""Priors of rotations, as candidates' draws need them: sets that are alike under the prior."""

from abc import abstractmethod
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.space.rotation import (
    quaternion_conjugate,
    quaternion_from_vector,
    quaternion_multiply,
    vector_from_quaternion,
)


class RotationPrior(Protocol):
    """Proposes rotations so that the prior weighs all of them alike."""

    @abstractmethod
    def candidates(self, key: Array, quaternion: Array, width: Array, n: int) -> tuple:
        """Candidates [B, n, 4], the current rotation first, and whether the prior allows them
        [B, n].

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
            return quaternion[:, None], jnp.ones((len(quaternion), 1), bool)
        centre = self.centre[:, None]
        step = jnp.minimum(width / self.sd_rad, 1.0)[:, None, None]
        keep = jnp.sqrt(1.0 - step**2)
        noise = self.sd_rad * jax.random.normal(key, (len(quaternion), n, 3))
        here = quaternion_multiply(quaternion[:, None], quaternion_conjugate(centre))
        pivot = keep * vector_from_quaternion(here) + step * noise[:, :1]
        vectors = keep * pivot + step * noise[:, 1:]
        # rotation vectors end at half a turn, and so does the prior
        inside = jnp.sum(vectors**2, axis=-1) < jnp.pi**2
        others = quaternion_multiply(quaternion_from_vector(vectors), centre)
        return (
            jnp.concatenate([quaternion[:, None], others], axis=1),
            jnp.concatenate([jnp.ones_like(inside[:, :1]), inside], axis=1),
        )


class Anywhere(NamedTuple):
    """Uniform on SO(3): candidates scatter evenly about a hidden pivot, as the current one does.

    exp(w) and exp(-w) are equally likely, so that a step and its reverse are under Haar measure.
    """

    def candidates(
        self, key: Array, quaternion: Array, width: Array, n: int
    ) -> tuple[Array, Array]:
        """See `RotationPrior.candidates`."""
        allowed = jnp.ones((len(quaternion), n), bool)
        if n == 1:
            return quaternion[:, None], allowed
        steps = width[:, None, None] * jax.random.normal(key, (len(quaternion), n, 3))
        turns = quaternion_from_vector(steps)
        pivot = quaternion_multiply(turns[:, :1], quaternion[:, None])
        others = quaternion_multiply(turns[:, 1:], pivot)
        return jnp.concatenate([quaternion[:, None], others], axis=1), allowed
