"""A search from nothing: some particles a sweep, each against all rotations and shifts at once.

Rotation, shift and contrast are drawn jointly, heated at first, on a grid and a lattice that are
laid anew every time. A particle that has not been placed has contrast 0 and says nothing of theta,
so that a sweep's other blocks are those of any rigid molecule; particles held out are searched as
the others are, and never placed. Not exact: a start.
"""

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import ImageBlocks, Latents
from hypermol.fitting.blocks.hyperparameters import host_generator
from hypermol.fitting.blocks.matching import Looked, Matcher, some_blocks
from hypermol.fitting.sweep import Block, ChainState, Data, Info
from hypermol.inference.exhaustive import Match, draw_match
from hypermol.posterior import hyper_draws
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters
from hypermol.runtime import on_device

#: One block in so many is held out of theta, and tells how good a trial is.
_HELD_OUT = 10


@final
@dataclass(frozen=True)
class SearchPlan:
    """How a stage searches.

    Attributes:
        sweeps: of the stage, over which the temperature falls.
        beta: inverse temperature of its first and its last sweep.
        particles: how many are searched a sweep; None takes all.
    """

    sweeps: int
    beta: tuple[float, float]
    particles: int | None


def matched(
    matcher: Matcher,
    key: Array,
    mu: Hyperparameters,
    looked: Looked,
    images: ImageBlocks,
    beta: Array | float,
) -> Match:
    """Every image [n, K] of some blocks, flattened, drawn at an inverse temperature."""
    cells, templates = looked
    log_prior = jax.nn.log_softmax(-0.5 * jnp.sum(cells.shifts_px**2, axis=-1) / mu.shift_sd_px**2)
    precision = 1.0 / mu.contrast_sd**2

    def one(item: tuple[Array, Array, Array]) -> Match:
        key, pixels, ctf = item
        evidence = matcher.evidence(mu, templates, pixels, ctf)
        return draw_match(key, evidence, log_prior, precision, beta)

    keys = jax.random.split(key, len(images.pixels))
    return jax.lax.map(one, (keys, images.pixels, images.ctf))


def held_out_blocks(n_blocks: int) -> np.ndarray:
    """bool [n_blocks]: those that a search keeps from theta; none where there are few."""
    held = np.zeros(n_blocks, bool)
    held[_HELD_OUT - 1 :: _HELD_OUT] = True
    return held


def _flat(images: ImageBlocks) -> ImageBlocks:
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), images)


def particles_by_search(posterior: Posterior, plan: SearchPlan) -> Block:
    """Some blocks of particles, drawn at random, searched and placed.

    Args:
        posterior: of a rigid molecule.
        plan: of the stage.
    """
    matcher = Matcher(posterior)

    @jax.jit
    def search(
        key: Array, state: ChainState, rows: Array, beta: Array, data: Data, held: Array
    ) -> ChainState:
        keys = jax.random.split(key)
        looked = matcher.look(keys[0], state.theta)
        images = jax.tree.map(lambda x: x[rows], data.images)
        match = matched(matcher, keys[1], state.mu, looked, _flat(images), beta)
        shape = images.present.shape
        contrast = jnp.where(held[rows][:, None], 0.0, match.contrast.reshape(shape))
        old = state.latents
        latents = Latents(
            old.quaternion.at[rows].set(
                looked.cells.quaternions[match.rotation].reshape(*shape, 4)
            ),
            old.shift_px.at[rows].set(looked.cells.shifts_px[match.shift].reshape(*shape, 2)),
            old.contrast.at[rows].set(contrast),
            old.state,
        )
        return state._replace(latents=latents)

    def init(state: ChainState, data: Data) -> Array:
        return on_device(0.0)

    def step(key: Array, state: ChainState, done: Array, data: Data) -> tuple[ChainState, Info]:
        present = data.images.present
        share = float(done) / max(plan.sweeps - 1, 1)
        beta = plan.beta[0] + (plan.beta[1] - plan.beta[0]) * min(share, 1.0)
        if not np.any(np.asarray(state.latents.contrast)):
            beta = 0.0  # nobody has been placed: no map is known
        rows = some_blocks(key, present.shape, plan.particles or present.size)
        held = held_out_blocks(len(present)) & (plan.particles is not None)
        state = search(key, state, rows, on_device(beta), data, jnp.asarray(held))
        placed = float(jnp.mean(state.latents.contrast != 0.0))
        return state, {"done": on_device(float(done) + 1.0), "beta": beta, "placed": placed}

    return Block(
        "search",
        step,
        init,
        lambda done, info: info["done"],
        carry=lambda before, fresh: fresh,
        numbers=lambda info: {"beta": info["beta"], "placed": info["placed"]},
        is_exact=False,
    )


def noise_of_placed(posterior: Posterior) -> Block:
    """The noise given theta, from the residuals of particles that have been placed."""

    @jax.jit
    def sums(state: ChainState, data: Data) -> hyper_draws.ImageSums:
        return hyper_draws.image_sums(posterior, state.theta, state.latents, data.images)

    def step(key: Array, state: ChainState, tuning: object, data: Data) -> tuple[ChainState, Info]:
        images = jax.device_get(sums(state, data))
        placed = np.asarray(data.images.present) * (np.asarray(state.latents.contrast) != 0.0)
        residual = hyper_draws.residual_power(images, state.latents.contrast, placed)
        rng = host_generator(key)
        pixels = placed.sum() * posterior.shell_counts
        mu = hyper_draws.draw_noise(rng, state.mu, residual, pixels, posterior.prior)
        return state._replace(mu=mu), {"noise": np.asarray(mu.noise_variance)[1:].mean()}

    return Block("noise", step, numbers=lambda info: {"noise": float(info["noise"])})


def trial_score(posterior: Posterior, state: ChainState, data: Data) -> float:
    """Mean log-likelihood of the images held out, every unknown of theirs integrated out on one
    lattice, the same for all trials. Of all images, where none is held out."""
    matcher = Matcher(posterior)
    held = held_out_blocks(data.images.present.shape[0])
    rows = np.flatnonzero(held if held.any() else ~held)

    @jax.jit
    def score(state: ChainState, images: ImageBlocks) -> Array:
        looked = matcher.look(jax.random.key(0), state.theta)
        match = matched(matcher, jax.random.key(1), state.mu, looked, images, 1.0)
        alone = posterior.log_likelihood(images.pixels, jnp.zeros_like(images.pixels), state.mu)
        total = (match.log_evidence + alone) * images.present
        return jnp.sum(total) / jnp.sum(images.present)

    images = _flat(jax.tree.map(lambda x: x[rows], data.images))
    return float(score(state, images))
