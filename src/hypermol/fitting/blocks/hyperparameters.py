"""mu given the rest, and the contrasts of all particles with it (`posterior.hyper_draws`)."""

import jax
import numpy as np
from jax import Array

from hypermol.fitting.sweep import Block, ChainState, Data, Info, Tuning
from hypermol.posterior import hyper_draws
from hypermol.posterior.hyper_draws import LatentSums
from hypermol.posterior.posterior import Posterior
from hypermol.runtime import on_device


def host_generator(key: Array) -> np.random.Generator:
    """A NumPy generator that follows from a JAX key: float64 gamma draws, nothing to compile."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def hyperparameters(
    posterior: Posterior,
    learns_widths: bool,
    learns_contrast: bool = True,
    learns_shares: bool = True,
    draws_contrasts: bool = True,
) -> Block:
    """Contrasts with their width, noise, levels, occupancy, the shares of misplaced poses, and the
    widths of the poses' priors.

    Args:
        posterior: of any molecule.
        learns_contrast: whether the contrasts' width is drawn, or held: as long as theta only
            climbs to its scale, contrasts would make good for what it lacks.
        learns_widths: whether the last are drawn, or held: as long as poses do not move, or have
            only begun to, they say nothing of how far they are from the consensus.
        learns_shares: whether the shares of misplaced poses and their shifts' width are, if any.
        draws_contrasts: or holds them: of particles that are nowhere yet they would go to nothing.
    """
    prior, molecule = posterior.prior, posterior.molecule
    wide = posterior.pose_prior.misplaced_shift

    image_sums = hyper_draws.image_summer(posterior)

    @jax.jit
    def other_sums(state: ChainState, data: Data) -> tuple[LatentSums, Array]:
        present = data.images.present
        return (
            hyper_draws.latent_sums(posterior, state.mu, state.latents, data.consensus, present),
            posterior.prior_energy(state.theta, state.mu.spectrum),
        )

    def step(key: Array, state: ChainState, tuning: Tuning, data: Data) -> tuple[ChainState, Info]:
        images = jax.device_get(image_sums(state.theta, state.latents, data.images))
        particles, energy = jax.device_get(other_sums(state, data))
        present = np.asarray(data.images.present)
        n, rng = int(present.sum()), host_generator(key)
        mu, contrast = state.mu, state.latents.contrast
        terms = hyper_draws.contrast_terms(mu, images)
        if learns_contrast:
            along, power = (term[present > 0] for term in terms)
            sd = hyper_draws.draw_contrast_width(rng, along, power, prior.contrast)
            mu = mu._replace(contrast_sd=on_device(sd))
        if draws_contrasts:
            contrast = hyper_draws.draw_contrasts(rng, *terms, float(mu.contrast_sd))
        residual = hyper_draws.residual_power(images, contrast, present)
        mu = hyper_draws.draw_noise(rng, mu, residual, n * posterior.shell_counts, prior)
        mu = hyper_draws.draw_levels(rng, mu, energy, molecule.term_sizes, prior)
        if molecule.state_space.has_occupancy:
            mu = hyper_draws.draw_occupancy(rng, mu, particles.occupancy.sum(0), prior)
        scatter = hyper_draws.draw_scatter(rng, particles, present)
        if wide is not None and learns_shares:
            mu = hyper_draws.draw_misplaced(rng, mu, scatter, prior, wide)
        if learns_widths:
            mu = hyper_draws.draw_widths(rng, mu, scatter, posterior)
        moved = state._replace(mu=mu, latents=state.latents._replace(contrast=contrast))
        return moved, {"residual_power": residual, "mu": mu}

    return Block("hyperparameters", step, numbers=_numbers)


def _numbers(info: Info) -> dict[str, float]:
    mu = info["mu"]
    noise = np.asarray(mu.noise_variance, np.float64)
    share = np.asarray(mu.misplaced, np.float64)
    misplaced = {
        "misplaced": float(share[0]),
        "misplaced_shifts": float(share[1]),
        "misplaced_shift_sd_px": float(mu.misplaced_shift_sd_px),
    }
    return (misplaced if share.any() else {}) | {
        "misfit": float(np.sum(info["residual_power"][1:] / noise[1:])),
        "noise": float(noise[1:].mean()),
        "pose_sd_deg": float(np.degrees(mu.pose_sd_rad)),
        "shift_sd_px": float(mu.shift_sd_px),
        "contrast_sd": float(mu.contrast_sd),
    }
