"""Priors of eq. 29: P(mu), and P(R, tau, q | mu) of each particle.

mu holds everything that is not particle-specific: noise per shell, the Gaussian prior's spectrum
and level, the widths of the pose and contrast priors, and how populated the states are.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import special

from hypermol.space.state_space import StateSpace

#: Particles that the prior of the shares of misplaced poses is worth.
MISPLACED_WEIGHT = 10.0


class Hyperparameters(NamedTuple):
    """mu of eq. 29: unknowns that all particles share beside theta.

    Attributes:
        noise_variance: [n_shells] sigma_k^2 of one orthonormal Fourier coefficient (eq. 9).
        spectrum: [T, n_shells + 1] prior precision per term and shell at level 1.
        level: [T] multiplies the spectrum.
        pose_sd_rad: scalar, width of rotations about the consensus.
        shift_sd_px: scalar, width of shifts about the consensus.
        contrast_sd: scalar, width of contrasts about 1.
        occupancy: [n_bins] probabilities of the state space's bins, which all have the same base
            measure; reshaped to `space.bin_shape(n_bins)` they have an axis a knob.
        misplaced: [2] shares of the rotations and of the shifts that have nothing to do with the
            input's; 0 where the poses' prior has none.
        misplaced_shift_sd_px: scalar, width of those shifts about the input's.
    """

    noise_variance: Array
    spectrum: Array
    level: Array
    pose_sd_rad: Array
    shift_sd_px: Array
    contrast_sd: Array
    occupancy: Array
    misplaced: Array
    misplaced_shift_sd_px: Array


@final
@dataclass(frozen=True)
class InverseGamma:
    """Prior of a variance: density proportional to v^(-shape - 1) exp(-scale / v)."""

    shape: float
    scale: float

    @property
    def mean(self) -> float:
        """Of the variance; there is one for shapes above 1."""
        return self.scale / (self.shape - 1.0)

    def draw(
        self,
        rng: np.random.Generator,
        count: np.ndarray | float,
        sum_of_squares: np.ndarray | float,
    ) -> np.ndarray:
        """Variance given `count` real Gaussian residuals of mean zero: conjugate, exact.

        With nothing given (count 0, sum 0) it is a draw from the prior.
        """
        shape = self.shape + 0.5 * np.asarray(count, np.float64)
        scale = self.scale + 0.5 * np.asarray(sum_of_squares, np.float64)
        return scale / rng.gamma(np.broadcast_to(shape, scale.shape))

    def draw_between(
        self,
        rng: np.random.Generator,
        count: float,
        sum_of_squares: float,
        low: float = 0.0,
        high: float = np.inf,
    ) -> float:
        """The same of a variance that is known to lie between two bounds: exact, by the inverse of
        the Gamma distribution of 1 / variance."""
        shape, rate = self.shape + 0.5 * count, self.scale + 0.5 * sum_of_squares
        ends = np.array([rate / high, rate / low if low else np.inf])
        upper = ends[0] > shape  # the tail in which chances do not round to one another
        chance, inverse = (
            (special.gammaincc, special.gammainccinv)
            if upper
            else (special.gammainc, special.gammaincinv)
        )
        value = inverse(shape, rng.uniform(*np.sort(chance(shape, ends))))
        if not 0.0 < value < np.inf:  # so far out that chances are none: exponential from the end
            end = ends[0] if upper else ends[1]
            value = end + rng.exponential() / (1.0 - (shape - 1.0) / end)
        return float(rate / np.clip(value, *ends))

    def log_density(self, variance: Array) -> Array:
        """Log density up to a constant."""
        return -(self.shape + 1.0) * jnp.log(variance) - self.scale / variance


@final
@dataclass(frozen=True)
class HyperPrior:
    """P(mu): weak conjugate priors, in the units of `Hyperparameters`.

    Attributes:
        noise: of each shell's variance; the default scale suits images of unit variance.
        pose: of pose_sd_rad^2; the default is centred near 2 degrees.
        shift: of shift_sd_px^2.
        contrast: of contrast_sd^2; the default is centred near 0.1.
        level_shape, level_rate: Gamma prior of each term's level.
        occupancy: Dirichlet parameter of every bin.
        misplaced: mean of the prior of both shares of misplaced poses, a Beta density of the weight
            of `MISPLACED_WEIGHT` particles.
        n_bins: bins of the occupancy wanted for each knob; 1 keeps the state prior uniform. The
            space says how many there are in all: one a class of a discrete space, n_bins^2 of
            two intervals (`StateSpace.n_bins`).
    """

    noise: InverseGamma = InverseGamma(2.0, 1.0)
    pose: InverseGamma = InverseGamma(2.0, 2.0 * 0.035**2)
    shift: InverseGamma = InverseGamma(2.0, 1.0)
    contrast: InverseGamma = InverseGamma(3.0, 0.03)
    level_shape: float = 1.0
    level_rate: float = 1.0
    occupancy: float = 1.0
    misplaced: float = 0.1
    n_bins: int = 24

    @property
    def misplaced_beta(self) -> tuple[float, float]:
        """The parameters of the Beta prior of the shares of misplaced poses."""
        return MISPLACED_WEIGHT * self.misplaced, MISPLACED_WEIGHT * (1.0 - self.misplaced)


def log_shift(shift_px: Array, consensus: Array, sd_px: Array) -> Array:
    """log P(s | mu) [...]: Gaussian about the consensus shift."""
    distance2 = jnp.sum((shift_px - consensus) ** 2, axis=-1)
    return -0.5 * distance2 / sd_px**2 - 2.0 * jnp.log(sd_px)


def log_contrast(contrast: Array, sd: Array) -> Array:
    """log P(a | mu) [...]: Gaussian about 1."""
    return -0.5 * (contrast - 1.0) ** 2 / sd**2 - jnp.log(sd)


def log_state(state: Array, occupancy: Array, space: StateSpace) -> Array:
    """log P(tau | mu) [...]: the base measure times the occupancy of the state's bin."""
    base = space.log_base(state)
    if not space.has_occupancy:
        return base
    n_bins = occupancy.shape[0]
    return base + jnp.log(occupancy * n_bins)[space.bin(state, n_bins)]


def log_hyperparameters(mu: Hyperparameters, prior: HyperPrior) -> Array:
    """log P(mu)."""
    return (
        jnp.sum(prior.noise.log_density(mu.noise_variance[1:]))
        + prior.pose.log_density(mu.pose_sd_rad**2)
        + prior.shift.log_density(mu.shift_sd_px**2)
        + prior.contrast.log_density(mu.contrast_sd**2)
        + jnp.sum((prior.level_shape - 1.0) * jnp.log(mu.level) - prior.level_rate * mu.level)
        + (prior.occupancy - 1.0) * jnp.sum(jnp.log(mu.occupancy))
    )


def log_misplaced(mu: Hyperparameters, prior: HyperPrior) -> Array:
    """log P(mu.misplaced): Beta, up to a constant."""
    first, second = prior.misplaced_beta
    return jnp.sum(
        (first - 1.0) * jnp.log(mu.misplaced) + (second - 1.0) * jnp.log1p(-mu.misplaced)
    )
