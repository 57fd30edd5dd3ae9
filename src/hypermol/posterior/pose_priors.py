"""P(R, s | mu) of each particle: about the pose that the input gives, or rotations anywhere."""

from dataclasses import dataclass
from typing import Protocol, final

import jax.numpy as jnp
from jax import Array

from hypermol.inference.rotation_priors import AboutCentre, Anywhere, RotationPrior
from hypermol.space.rotation import (
    quaternion_conjugate,
    quaternion_multiply,
    vector_from_quaternion,
)


def pose_vector(quaternion: Array, consensus: Array) -> Array:
    """Rotation vectors [..., 3] from consensus to current: R = exp(v) R_consensus."""
    return vector_from_quaternion(quaternion_multiply(quaternion, quaternion_conjugate(consensus)))


def log_pose(quaternion: Array, consensus: Array, sd_rad: Array) -> Array:
    """log P(R | mu) [...] with respect to Haar measure: v ~ N(0, sd^2 I_3), R = exp(v) R_consensus.

    The Haar density of v is (2 - 2 cos|v|) / |v|^2 times Lebesgue's, hence the correction.
    """
    vector = pose_vector(quaternion, consensus)
    angle2 = jnp.sum(vector**2, axis=-1)
    safe = jnp.where(angle2 < 1e-6, 1.0, angle2)
    haar = jnp.where(
        angle2 < 1e-6, 1.0 - angle2 / 12.0, (2.0 - 2.0 * jnp.cos(jnp.sqrt(safe))) / safe
    )
    return -0.5 * angle2 / sd_rad**2 - 3.0 * jnp.log(sd_rad) - jnp.log(haar)


class PosePrior(Protocol):
    """The prior of rotations, with respect to Haar measure."""

    #: Whether its width is among mu, and whether it holds the molecule's frame where the input
    #: has it.
    has_width: bool

    def log_density(self, quaternion: Array, consensus: Array, sd_rad: Array) -> Array:
        """log P(R | mu) [...] of quaternions [..., 4], up to a constant."""

    def rotations(self, consensus: Array, sd_rad: Array) -> RotationPrior:
        """The same of B particles as candidates' draws need it; consensus [B, 4]."""


@final
@dataclass(frozen=True)
class AboutConsensus:
    """Rotations scatter about the input's: see `log_pose`."""

    has_width = True

    def log_density(self, quaternion: Array, consensus: Array, sd_rad: Array) -> Array:
        """See `PosePrior`."""
        return log_pose(quaternion, consensus, sd_rad)

    def rotations(self, consensus: Array, sd_rad: Array) -> RotationPrior:
        """See `PosePrior`."""
        return AboutCentre(consensus, sd_rad)


@final
@dataclass(frozen=True)
class Uniform:
    """Every direction is as likely as any other (sec. 5): nothing is known of rotations."""

    has_width = False

    def log_density(self, quaternion: Array, consensus: Array, sd_rad: Array) -> Array:
        """See `PosePrior`."""
        return jnp.zeros(quaternion.shape[:-1])

    def rotations(self, consensus: Array, sd_rad: Array) -> RotationPrior:
        """See `PosePrior`."""
        return Anywhere()
