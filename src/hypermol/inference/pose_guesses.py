"""Guesses of each particle's posterior of rotations, learned from where its chain has been.

They are proposals (`rotation_priors.Guessed`), learned while burning in and held while sampling:
a bad one costs time, and no exactness.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.inference.rotation_priors import Guess
from hypermol.space.rotation import (
    quaternion_conjugate,
    quaternion_from_vector,
    quaternion_multiply,
    vector_from_quaternion,
)

#: Width of the first guess in radians, and how many draws it counts as.
_FIRST_RAD, _FIRST_COUNTS = 0.08, 4.0
#: A guess forgets what lies more than about so many sweeps behind.
_MEMORY = 30.0
#: Draws that a guess counts as at another level.
_CARRIED = 5.0
#: Guesses are wider than what has been seen, for their tails have to cover the posterior's, and
#: never narrower than this.
_WIDER, _LEAST_RAD = 1.3, 0.004
#: A rotation so many squared standard deviations away has jumped: its guess begins anew.
_JUMPED = 30.0


class Seen(NamedTuple):
    """Where particles' chains have been.

    Attributes:
        centre: mean rotation, quaternions [..., 4].
        covariance: of rotation vectors from it in radians^2, [..., 3, 3].
        draws: how many they are of, [...].
    """

    centre: Array
    covariance: Array
    draws: Array

    @property
    def guess(self) -> Guess:
        """What is proposed from."""
        return Guess(self.centre, _WIDER**2 * self.covariance + _LEAST_RAD**2 * jnp.eye(3))


def first_seen(quaternion: Array) -> Seen:
    """Nothing but where particles are, quaternions [..., 4]."""
    shape = quaternion.shape[:-1]
    covariance = jnp.broadcast_to(_FIRST_RAD**2 * jnp.eye(3), (*shape, 3, 3))
    return Seen(quaternion, covariance, jnp.zeros(shape))


@jax.jit
def seen_again(seen: Seen, quaternion: Array) -> Seen:
    """With another draw of each particle's rotation, quaternions [..., 4]."""
    away = quaternion_multiply(quaternion, quaternion_conjugate(seen.centre))
    vector = vector_from_quaternion(away)
    draws = jnp.minimum(seen.draws, _MEMORY)
    gain = 1.0 / (draws + 1.0)
    centre = quaternion_multiply(quaternion_from_vector(gain[..., None] * vector), seen.centre)
    scatter = (draws * gain)[..., None, None] * vector[..., None] * vector[..., None, :]
    slower = 1.0 / (draws + 1.0 + _FIRST_COUNTS)
    covariance = seen.covariance + slower[..., None, None] * (scatter - seen.covariance)
    white = jnp.linalg.solve(seen.guess.covariance, vector[..., None])[..., 0]
    jumped = jnp.sum(vector * white, axis=-1) > _JUMPED

    def chosen(anew: Array, learned: Array) -> Array:
        extra = learned.ndim - jumped.ndim
        return jnp.where(jumped.reshape(*jumped.shape, *[1] * extra), anew, learned)

    return jax.tree.map(chosen, first_seen(quaternion), Seen(centre, covariance, draws + 1.0))


def carried(seen: Seen) -> Seen:
    """At another level, where posteriors have other widths: what has been seen counts for less."""
    return seen._replace(draws=jnp.minimum(seen.draws, _CARRIED))
