"""mu given the rest, and the contrasts with it: exact draws, in float64 on the host.

At given theta, pose and state an image is linear in its contrast a (eq. 5), so that the sums
c_k = Re <S, Y>_k, s_k = <S, S>_k and y_k = <Y, Y>_k over the shells k of each image Y, with S its
prediction at contrast 1, say all that the image says about noise and contrast:

    log P(Y | a, sigma) = sum_k -(y_k - 2 a c_k + a^2 s_k) / sigma_k^2 - n_k log sigma_k^2

(half-plane sums; eq. 10). The width of the contrasts is drawn with the contrasts integrated out,
and they are drawn given it: a width drawn from contrasts that have not moved yet would keep them
from moving.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.posterior.pose_priors import APART, pose_vector
from hypermol.posterior.posterior import Posterior, residual_precision
from hypermol.posterior.priors import Hyperparameters, HyperPrior, InverseGamma
from hypermol.runtime import block_loop, on_device
from hypermol.space.fourier import FULL_PLANE_WEIGHT

#: Where the contrasts' width may be. Its density is drawn from on a grid of log sd that is laid
#: again, four times, where the density is, and evenly within a cell.
_LOG_SD = (np.log(1e-3), np.log(3.0))
_REFINEMENTS, _ROUGH, _FINE = 4, 81, 201
#: Log densities this far below the largest are nothing.
_NEGLIGIBLE = 30.0


class ImageSums(NamedTuple):
    """Sums over each image's shells [n_blocks, B, n_shells]: of the image with its prediction at
    contrast 1, of the prediction, and of the image."""

    cross: Array
    model: Array
    image: Array


class LatentSums(NamedTuple):
    """What the latents say about mu.

    Attributes:
        rotation2, shift2: [n_blocks, B] squared deviations from the consensus.
        near_rotation, near_shift: [n_blocks, B] chances that they come from about it.
        occupancy: [n_blocks, n_bins] particles in each bin of the state space.
    """

    rotation2: Array
    shift2: Array
    near_rotation: Array
    near_shift: Array
    occupancy: Array


def image_summer(posterior: Posterior) -> Callable[[Any, Latents, ImageBlocks], ImageSums]:
    """A function of theta, latents and images: what the images say about noise and contrasts."""

    def shared(theta: Any) -> Callable[[tuple[Latents, ImageBlocks]], ImageSums]:
        prepared = posterior.molecule.prepare(theta)

        def block(item: tuple[Latents, ImageBlocks]) -> ImageSums:
            lat, img = item
            unit = lat._replace(contrast=jnp.ones_like(lat.contrast))
            model = posterior.predict(prepared, unit, img.ctf)
            return ImageSums(
                posterior.by_shell((jnp.conj(model) * img.pixels).real),
                posterior.by_shell(jnp.abs(model) ** 2),
                posterior.by_shell(jnp.abs(img.pixels) ** 2),
            )

        return block

    sums = block_loop(shared)
    return lambda theta, latents, images: sums((latents, images), theta)


def latent_sums(
    posterior: Posterior,
    mu: Hyperparameters,
    latents: Latents,
    consensus: Consensus,
    present: Array,
) -> LatentSums:
    """What the latents say about the priors of poses and the occupancy."""
    space, n_bins = posterior.molecule.state_space, posterior.n_bins
    vector = pose_vector(latents.quaternion, consensus.quaternion)
    rotation2 = jnp.sum(vector**2, axis=-1)
    shift2 = jnp.sum((latents.shift_px - consensus.shift_px) ** 2, axis=-1)
    bins = jax.nn.one_hot(space.bin(latents.state, n_bins), n_bins)
    return LatentSums(
        rotation2,
        shift2,
        *posterior.pose_prior.near(rotation2, shift2, mu),
        jnp.einsum("nb,nbo->no", present, bins),
    )


def _log_width_density(
    along: np.ndarray, power: np.ndarray, prior: InverseGamma, sd: np.ndarray
) -> np.ndarray:
    """log p(log sd | images), contrasts integrated out, [G]; `along`, `power` [N] of each image."""
    precision = sd[:, None] ** -2.0
    total = power + precision
    # the integral of exp(a along - a^2 power / 2) N(a; 1, sd^2) over a
    evidence = 0.5 * ((along + precision) ** 2 / total - precision + np.log(precision / total))
    variance = sd**2
    log_prior = -(prior.shape + 1.0) * np.log(variance) - prior.scale / variance
    return evidence.sum(axis=1) + log_prior + 2.0 * np.log(sd)


def draw_contrast_width(
    rng: np.random.Generator, along: np.ndarray, power: np.ndarray, prior: InverseGamma
) -> float:
    """contrast_sd given theta, poses, states and noise, the contrasts integrated out.

    Args:
        rng: of the draw.
        along, power: float64 [N]: the log-likelihood of contrast a is a along - a^2 power / 2.
        prior: of the width's square.
    """
    low, high = _LOG_SD
    for _ in range(_REFINEMENTS):
        grid = np.linspace(low, high, _ROUGH)
        density = _log_width_density(along, power, prior, np.exp(grid))
        inside = np.flatnonzero(density > density.max() - _NEGLIGIBLE)
        low, high = grid[max(inside[0] - 1, 0)], grid[min(inside[-1] + 1, _ROUGH - 1)]
    grid = np.linspace(low, high, _FINE)
    density = _log_width_density(along, power, prior, np.exp(grid))
    chance = np.exp(density - density.max())
    cell = rng.choice(_FINE, p=chance / chance.sum())
    return float(np.exp(grid[cell] + (grid[1] - grid[0]) * rng.uniform(-0.5, 0.5)))


def contrast_terms(mu: Hyperparameters, sums: ImageSums) -> tuple[np.ndarray, np.ndarray]:
    """(along, power) of each image [n_blocks, B]: a's log-likelihood is a along - a^2 power / 2."""
    precision = residual_precision(np.asarray(mu.noise_variance, np.float64))
    return (
        np.asarray(sums.cross, np.float64) @ precision,
        np.asarray(sums.model, np.float64) @ precision,
    )


def draw_contrasts(
    rng: np.random.Generator, along: np.ndarray, power: np.ndarray, sd: float
) -> Array:
    """Contrasts given their width and the rest: Gaussian; arguments as of `contrast_terms`."""
    total = power + sd**-2.0
    contrast = (along + sd**-2.0) / total + rng.standard_normal(total.shape) / np.sqrt(total)
    return on_device(contrast)


def residual_power(sums: ImageSums, contrast: Array, present: np.ndarray) -> np.ndarray:
    """Sums of |Y - image|^2 over all images, by half-plane shell, float64 [n_shells]."""
    a = np.asarray(contrast, np.float64)[..., None]
    cross, model, image = (np.asarray(value, np.float64) for value in sums)
    # rounding may take a perfect fit below nothing
    return np.maximum(np.sum(present[..., None] * (image - 2.0 * a * cross + a**2 * model), (0, 1)),
                      0.0)  # fmt: skip


def draw_noise(
    rng: np.random.Generator,
    mu: Hyperparameters,
    power: np.ndarray,
    pixels: np.ndarray,
    prior: HyperPrior,
) -> Hyperparameters:
    """Noise of each shell given the residuals: conjugate.

    Args:
        rng: of the draw.
        mu: before.
        power: [n_shells] sums of |residual|^2.
        pixels: [n_shells] how many complex residuals they are of.
        prior: P(mu).
    """
    # n complex residuals are 2 n real ones of variance sigma^2 / 2; shell 0 is not observed
    noise = prior.noise.draw(rng, FULL_PLANE_WEIGHT * pixels, FULL_PLANE_WEIGHT * power)
    return mu._replace(noise_variance=on_device(noise))


def draw_levels(
    rng: np.random.Generator,
    mu: Hyperparameters,
    energy: np.ndarray,
    sizes: np.ndarray,
    prior: HyperPrior,
) -> Hyperparameters:
    """The level of each term of theta, given its energy [T] and free coefficients [T]."""
    if not len(sizes):
        return mu
    shape = prior.level_shape + 0.5 * sizes
    level = rng.gamma(shape) / (prior.level_rate + 0.5 * np.asarray(energy, np.float64))
    return mu._replace(level=on_device(level))


def draw_occupancy(
    rng: np.random.Generator, mu: Hyperparameters, occupied: np.ndarray, prior: HyperPrior
) -> Hyperparameters:
    """Occupancy of the bins, given the particles [n_bins] in each."""
    chance = rng.dirichlet(prior.occupancy + occupied)
    return mu._replace(occupancy=on_device(chance))


def draw_rotation_width(
    rng: np.random.Generator,
    mu: Hyperparameters,
    squares: float,
    particles: float,
    prior: HyperPrior,
) -> Hyperparameters:
    """Width of the rotations about the consensus, given their sum of squares in radians^2."""
    variance = prior.pose.draw(rng, 3.0 * particles, squares)
    return mu._replace(pose_sd_rad=on_device(np.sqrt(variance)))


def draw_shift_width(
    rng: np.random.Generator,
    mu: Hyperparameters,
    squares: float,
    particles: float,
    prior: HyperPrior,
    most_px: float = np.inf,
) -> Hyperparameters:
    """Width of the shifts about the consensus, given their sum of squares in pixels^2; it is at
    most `most_px`."""
    variance = prior.shift.draw_between(rng, 2.0 * particles, squares, high=most_px**2)
    return mu._replace(shift_sd_px=on_device(np.sqrt(variance)))


class Scatter(NamedTuple):
    """How far the n particles are from the input, each taken to be about it or not.

    Attributes:
        near_rotation, near_shift: [n] 1 for those that come from about it, 0 for others.
        rotation2, shift2: [n] squared deviations, float64.
    """

    near_rotation: np.ndarray
    near_shift: np.ndarray
    rotation2: np.ndarray
    shift2: np.ndarray


def draw_scatter(rng: np.random.Generator, said: LatentSums, present: np.ndarray) -> Scatter:
    """Which poses come from about the input's, given mu.

    Args:
        rng: of the draw.
        said: by the latents, on the host.
        present: [n_blocks, B] which particles there are.
    """
    here = np.asarray(present) > 0
    near = [np.asarray(chance)[here] for chance in (said.near_rotation, said.near_shift)]
    return Scatter(
        *((rng.uniform(size=len(chance)) < chance).astype(float) for chance in near),
        *(np.asarray(value, np.float64)[here] for value in (said.rotation2, said.shift2)),
    )


def draw_misplaced(
    rng: np.random.Generator,
    mu: Hyperparameters,
    scatter: Scatter,
    prior: HyperPrior,
    shift: InverseGamma,
) -> Hyperparameters:
    """Shares of the poses that have nothing to do with the input's, and the width of such shifts,
    whose variance in pixels^2 has the prior `shift`, bounded by the width of the others."""
    first, second = prior.misplaced_beta
    here = (scatter.near_rotation, scatter.near_shift)
    shares = [rng.beta(first + np.sum(1.0 - near), second + np.sum(near)) for near in here]
    away = 1.0 - scatter.near_shift
    squares, least = float(np.sum(away * scatter.shift2)), APART * float(mu.shift_sd_px)
    variance = shift.draw_between(rng, 2.0 * float(away.sum()), squares, low=least**2)
    return mu._replace(
        misplaced=on_device(np.asarray(shares)),
        misplaced_shift_sd_px=on_device(np.sqrt(variance)),
    )


def draw_widths(
    rng: np.random.Generator, mu: Hyperparameters, scatter: Scatter, posterior: Posterior
) -> Hyperparameters:
    """Widths of the poses about the input's, given those that are."""
    prior = posterior.prior
    if posterior.pose_prior.has_width:
        near = scatter.near_rotation
        squares = float(np.sum(near * scatter.rotation2))
        mu = draw_rotation_width(rng, mu, squares, near.sum(), prior)
    squares = float(np.sum(scatter.near_shift * scatter.shift2))
    wide = posterior.pose_prior.misplaced_shift is not None
    most = float(mu.misplaced_shift_sd_px) / APART if wide else np.inf
    return draw_shift_width(rng, mu, squares, float(scatter.near_shift.sum()), prior, most)
