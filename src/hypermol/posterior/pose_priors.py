"""P(R, s | mu) of each particle: about the pose that the input gives, anywhere, or either."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.inference.rotation_priors import AboutCentre, Anywhere, RotationPrior, Weighed
from hypermol.posterior.priors import (
    Hyperparameters,
    HyperPrior,
    InverseGamma,
    log_misplaced,
    log_shift,
)
from hypermol.space.rotation import (
    log_haar,
    quaternion_conjugate,
    quaternion_multiply,
    vector_from_quaternion,
)


def pose_vector(quaternion: Array, consensus: Array) -> Array:
    """Rotation vectors [..., 3] from consensus to current: R = exp(v) R_consensus."""
    return vector_from_quaternion(quaternion_multiply(quaternion, quaternion_conjugate(consensus)))


def log_pose(quaternion: Array, consensus: Array, sd_rad: Array) -> Array:
    """log P(R | mu) [...] of R = exp(v) R_consensus, v ~ N(0, sd^2 I_3), under Haar measure."""
    return _log_about(jnp.sum(pose_vector(quaternion, consensus) ** 2, axis=-1), sd_rad)


def _log_about(angle2: Array, sd_rad: Array) -> Array:
    """`log_pose` of squared angles [...]."""
    return -0.5 * angle2 / sd_rad**2 - 3.0 * jnp.log(sd_rad) - log_haar(angle2)


#: Shifts of misplaced poses scatter at least so many times as widely as the others: two Gaussians
#: of one width would share the particles as they please, or change names.
APART = 3.0
#: log of the constants that `log_pose` leaves out, for Haar measure of total 1, and those of
#: `log_shift`.
_ROTATION_CONSTANT = float(np.log(8.0 * np.pi**2) - 1.5 * np.log(2.0 * np.pi))
_SHIFT_CONSTANT = float(-np.log(2.0 * np.pi))


class Near(NamedTuple):
    """Chances that particles' rotations, and their shifts, come from about the consensus [...]."""

    rotation: Array
    shift: Array


class PosePrior(Protocol):
    """The prior of rotations, with respect to Haar measure, and of shifts."""

    #: Whether the input's rotations say anything, so that their prior has a width among mu, and
    #: holds the molecule's frame where the input has it.
    has_width: bool

    @property
    def misplaced_shift(self) -> InverseGamma | None:
        """Prior of the variance, in pixels^2, of shifts that have nothing to do with the input's,
        where some poses may be such: mu then has this width, `APART` times the others' or more,
        and their shares."""

    def log_mu(self, mu: Hyperparameters, prior: HyperPrior) -> Array:
        """log P of those of mu that no other prior of poses has, up to a constant."""

    def log_rotation(self, quaternion: Array, consensus: Array, mu: Hyperparameters) -> Array:
        """log P(R | mu) [...] of quaternions [..., 4], up to a constant."""

    def log_shift(self, shift_px: Array, consensus: Array, mu: Hyperparameters) -> Array:
        """log P(s | mu) [...] of shifts [..., 2], up to a constant."""

    def rotations(self, consensus: Array, mu: Hyperparameters) -> RotationPrior:
        """The prior of rotations as candidates' draws need it; consensus [B, 4]."""

    def near(self, rotation2: Array, shift2: Array, mu: Hyperparameters) -> Near:
        """Chances that poses come from about the consensus, given mu and their squared distances
        from it [...], in radians^2 and pixels^2."""


@final
@dataclass(frozen=True)
class AboutConsensus:
    """Poses scatter about the input's: see `log_pose`."""

    has_width = True
    misplaced_shift = None

    def log_mu(self, mu: Hyperparameters, prior: HyperPrior) -> Array:
        """Nothing."""
        return jnp.zeros(())

    def log_rotation(self, quaternion: Array, consensus: Array, mu: Hyperparameters) -> Array:
        """See `PosePrior`."""
        return log_pose(quaternion, consensus, mu.pose_sd_rad)

    def log_shift(self, shift_px: Array, consensus: Array, mu: Hyperparameters) -> Array:
        """See `PosePrior`."""
        return log_shift(shift_px, consensus, mu.shift_sd_px)

    def rotations(self, consensus: Array, mu: Hyperparameters) -> RotationPrior:
        """See `PosePrior`."""
        return AboutCentre(consensus, mu.pose_sd_rad)

    def near(self, rotation2: Array, shift2: Array, mu: Hyperparameters) -> Near:
        """All of them."""
        return Near(jnp.ones_like(rotation2), jnp.ones_like(shift2))


@final
@dataclass(frozen=True)
class Uniform:
    """Every direction is as likely as any other (sec. 5): nothing is known of rotations; shifts
    scatter about the input's, or about 0 where there are none."""

    has_width = False
    misplaced_shift = None

    def log_mu(self, mu: Hyperparameters, prior: HyperPrior) -> Array:
        """Nothing."""
        return jnp.zeros(())

    def log_rotation(self, quaternion: Array, consensus: Array, mu: Hyperparameters) -> Array:
        """See `PosePrior`."""
        return jnp.zeros(quaternion.shape[:-1])

    def log_shift(self, shift_px: Array, consensus: Array, mu: Hyperparameters) -> Array:
        """See `PosePrior`."""
        return log_shift(shift_px, consensus, mu.shift_sd_px)

    def rotations(self, consensus: Array, mu: Hyperparameters) -> RotationPrior:
        """See `PosePrior`."""
        return Anywhere()

    def near(self, rotation2: Array, shift2: Array, mu: Hyperparameters) -> Near:
        """No rotation, and all shifts."""
        return Near(jnp.zeros_like(rotation2), jnp.ones_like(shift2))


@final
@dataclass(frozen=True)
class SomeMisplaced:
    """Most poses scatter about the input's; the rotations and the shifts of some, of shares that
    are learned (mu.misplaced), have nothing to do with it: rotations may be any, and shifts scatter
    more widely.

    Attributes:
        misplaced_shift: see `PosePrior`.
    """

    misplaced_shift: InverseGamma

    has_width = True

    def log_mu(self, mu: Hyperparameters, prior: HyperPrior) -> Array:
        """Shares and width."""
        width = self.misplaced_shift.log_density(mu.misplaced_shift_sd_px**2)
        # the bound is met to rounding
        apart = mu.misplaced_shift_sd_px > 0.999 * APART * mu.shift_sd_px
        return log_misplaced(mu, prior) + jnp.where(apart, width, -jnp.inf)

    def _log_rotations(self, rotation2: Array, mu: Hyperparameters) -> tuple[Array, Array]:
        """log joint density of (near, far) and a rotation, of squared distances [...]."""
        about = _log_about(rotation2, mu.pose_sd_rad) + _ROTATION_CONSTANT
        share = mu.misplaced[0]
        return about + jnp.log1p(-share), jnp.broadcast_to(jnp.log(share), about.shape)

    def _log_shifts(self, shift2: Array, mu: Hyperparameters) -> tuple[Array, Array]:
        share = mu.misplaced[1]
        about, wide = (
            -0.5 * shift2 / sd**2 - 2.0 * jnp.log(sd) + _SHIFT_CONSTANT
            for sd in (mu.shift_sd_px, mu.misplaced_shift_sd_px)
        )
        return about + jnp.log1p(-share), wide + jnp.log(share)

    def log_rotation(self, quaternion: Array, consensus: Array, mu: Hyperparameters) -> Array:
        """See `PosePrior`."""
        vector = pose_vector(quaternion, consensus)
        return jnp.logaddexp(*self._log_rotations(jnp.sum(vector**2, axis=-1), mu))

    def log_shift(self, shift_px: Array, consensus: Array, mu: Hyperparameters) -> Array:
        """See `PosePrior`."""
        return jnp.logaddexp(*self._log_shifts(jnp.sum((shift_px - consensus) ** 2, axis=-1), mu))

    def rotations(self, consensus: Array, mu: Hyperparameters) -> RotationPrior:
        """See `PosePrior`."""
        return Weighed(lambda q: self.log_rotation(q, consensus[:, None], mu))

    def near(self, rotation2: Array, shift2: Array, mu: Hyperparameters) -> Near:
        """See `PosePrior`."""
        pairs = self._log_rotations(rotation2, mu), self._log_shifts(shift2, mu)
        return Near(*(jax.nn.sigmoid(near - far) for near, far in pairs))
