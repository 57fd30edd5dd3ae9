"""Priors of eq. 29: P(mu) with its conjugate draws, and P(R, tau, q | mu) of each particle.

mu holds everything that is not particle-specific: noise per shell, the Gaussian prior's spectrum
and level, the widths of the pose and contrast priors, and how populated the states are.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.data.latents import Consensus, Latents
from hypermol.space.rotation import (
    quaternion_conjugate,
    quaternion_multiply,
    vector_from_quaternion,
)
from hypermol.space.state_space import StateSpace


class Nuisance(NamedTuple):
    """mu: unknowns shared by all particles.

    Attributes:
        noise_variance: [n_shells] sigma_k^2 of one orthonormal Fourier coefficient (eq. 9).
        spectrum: [F, n_shells + 1] prior precision per shell at level 1.
        level: [F] multiplies the spectrum.
        pose_sd_rad: scalar, width of rotations about the consensus.
        shift_sd_px: scalar, width of shifts about the consensus.
        contrast_sd: scalar, width of contrasts about 1.
        occupancy: [n_bins] probabilities of equal bins of the state space (mean one a bin: /n).
    """

    noise_variance: Array
    spectrum: Array
    level: Array
    pose_sd_rad: Array
    shift_sd_px: Array
    contrast_sd: Array
    occupancy: Array


@final
@dataclass(frozen=True)
class InverseGamma:
    """Prior of a variance: density proportional to v^(-shape - 1) exp(-scale / v)."""

    shape: float
    scale: float

    def draw(self, key: Array, count: Array | float, sum_of_squares: Array) -> Array:
        """Variance given `count` real Gaussian residuals of mean zero: conjugate, exact."""
        shape = self.shape + 0.5 * count
        scale = self.scale + 0.5 * sum_of_squares
        return scale / jax.random.gamma(key, jnp.broadcast_to(shape, jnp.shape(scale)))

    def sample(self, key: Array) -> Array:
        """A draw from the prior."""
        return self.scale / jax.random.gamma(key, self.shape)

    def log_density(self, variance: Array) -> Array:
        """Log density up to a constant."""
        return -(self.shape + 1.0) * jnp.log(variance) - self.scale / variance


@final
@dataclass(frozen=True)
class HyperPrior:
    """P(mu): weak conjugate priors, in the units of `Nuisance`.

    Attributes:
        noise: of each shell's variance; the default scale suits images of unit variance.
        pose: of pose_sd_rad^2; the default is centred near 2 degrees.
        shift: of shift_sd_px^2.
        contrast: of contrast_sd^2; the default is centred near 0.1.
        level_shape, level_rate: Gamma prior of each term's level.
        occupancy: Dirichlet parameter of every bin.
        n_bins: bins of the occupancy; 1 keeps the state prior uniform.
    """

    noise: InverseGamma = InverseGamma(2.0, 1.0)
    pose: InverseGamma = InverseGamma(2.0, 2.0 * 0.035**2)
    shift: InverseGamma = InverseGamma(2.0, 1.0)
    contrast: InverseGamma = InverseGamma(3.0, 0.03)
    level_shape: float = 1.0
    level_rate: float = 1.0
    occupancy: float = 1.0
    n_bins: int = 24


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
    haar = jnp.where(angle2 < 1e-6, 1.0 - angle2 / 12.0, (2.0 - 2.0 * jnp.cos(jnp.sqrt(safe))) / safe)
    return -0.5 * angle2 / sd_rad**2 - 3.0 * jnp.log(sd_rad) - jnp.log(haar)


def log_shift(shift_px: Array, consensus: Array, sd_px: Array) -> Array:
    """log P(s | mu) [...]: Gaussian about the consensus shift."""
    distance2 = jnp.sum((shift_px - consensus) ** 2, axis=-1)
    return -0.5 * distance2 / sd_px**2 - 2.0 * jnp.log(sd_px)


def log_contrast(contrast: Array, sd: Array) -> Array:
    """log P(a | mu) [...]: Gaussian about 1."""
    return -0.5 * (contrast - 1.0) ** 2 / sd**2 - jnp.log(sd)


def occupancy_bin(state: Array, n_bins: int) -> Array:
    """Bin [...] of states [..., dim] by the first state variable, scaled to [0, 1]."""
    return jnp.clip((state[..., 0] * n_bins).astype(jnp.int32), 0, n_bins - 1)


def log_state(state: Array, occupancy: Array, space: StateSpace) -> Array:
    """log P(tau | mu) [...]: the base measure times the occupancy of the state's bin."""
    base = space.log_base(state)
    if not space.has_occupancy:
        return base
    n_bins = occupancy.shape[0]
    return base + jnp.log(occupancy * n_bins)[occupancy_bin(state, n_bins)]


def draw_widths(
    key: Array, nuisance: Nuisance, latents: Latents, consensus: Consensus, weight: Array,
    prior: HyperPrior,
) -> Nuisance:
    """Widths of the pose, shift and contrast priors given all particles: conjugate, exact.

    Args:
        weight: [...] 1 for particles that count, 0 for filling.
    """
    keys = jax.random.split(key, 3)
    count = jnp.sum(weight)

    def total(values: Array) -> Array:
        return jnp.sum(values * weight)

    vector = pose_vector(latents.quaternion, consensus.quaternion)
    moved = latents.shift_px - consensus.shift_px
    pose = prior.pose.draw(keys[0], 3 * count, total(jnp.sum(vector**2, -1)))
    shift = prior.shift.draw(keys[1], 2 * count, total(jnp.sum(moved**2, -1)))
    contrast = prior.contrast.draw(keys[2], count, total((latents.contrast - 1.0) ** 2))
    return nuisance._replace(
        pose_sd_rad=jnp.sqrt(pose), shift_sd_px=jnp.sqrt(shift), contrast_sd=jnp.sqrt(contrast)
    )


def draw_occupancy(
    key: Array, state: Array, weight: Array, space: StateSpace, prior: HyperPrior
) -> Array:
    """Occupancy [n_bins] given all states: Dirichlet, exact; uniform where it is not learned."""
    if not space.has_occupancy:
        return jnp.full(prior.n_bins, 1.0 / prior.n_bins)
    bins = occupancy_bin(state, prior.n_bins).reshape(-1)
    counts = jnp.zeros(prior.n_bins).at[bins].add(weight.reshape(-1))
    return jax.random.dirichlet(key, prior.occupancy + counts)


def draw_level(key: Array, energy: Array, dimension: float, prior: HyperPrior) -> Array:
    """Levels [F] given theta: Gamma, exact.

    Args:
        energy: [F] theta' K theta at level 1.
        dimension: free coefficients of one term.
    """
    shape = prior.level_shape + 0.5 * dimension
    return jax.random.gamma(key, shape, energy.shape) / (prior.level_rate + 0.5 * energy)
