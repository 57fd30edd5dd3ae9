"""A search from nothing: some particles a sweep, each against all rotations and shifts at once.

Rotation, shift and contrast are drawn jointly, heated at first, on a grid and a lattice that are
laid anew every time. A particle that has not been placed has contrast 0 and says nothing of theta,
so that a sweep's other blocks are those of any rigid molecule; particles held out are searched as
the others are, and never placed. Not exact: a start.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import ImageBlocks, Latents
from hypermol.fitting.blocks.hyperparameters import host_generator
from hypermol.fitting.blocks.matching import Looked, Matcher, some_blocks, steps_of_all
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


def search_matcher(posterior: Posterior) -> Matcher:
    """Over all shifts that there may be."""
    return Matcher(posterior, steps_of_all(posterior.plane.kmax))


class Dithered(NamedTuple):
    """Where particles are looked for, about a random point [2] that shifts are told from."""

    looked: Looked
    pivot_px: Array


def dithered(matcher: Matcher, key: Array, theta: Any) -> Dithered:
    """The grid turned and the lattice moved, at random."""
    keys = jax.random.split(key)
    offset = jax.random.uniform(keys[1], (2,), minval=-0.5, maxval=0.5)
    return Dithered(matcher.look(keys[0], theta), matcher.spacing_px * offset)


def matched(
    matcher: Matcher,
    key: Array,
    mu: Hyperparameters,
    where: Dithered,
    images: ImageBlocks,
    beta: Array | float,
) -> Match:
    """Every image [n, K] of some blocks, flattened, drawn at an inverse temperature."""
    cells, templates = where.looked
    distance2 = jnp.sum((where.pivot_px + cells.shifts_px) ** 2, axis=-1)
    log_prior = jax.nn.log_softmax(-0.5 * distance2 / mu.shift_sd_px**2)
    precision = 1.0 / mu.contrast_sd**2

    def one(item: tuple[Array, Array, Array]) -> Match:
        key, pixels, ctf = item
        about = matcher.about(pixels, where.pivot_px)
        evidence = matcher.evidence(mu, templates, about, ctf)
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
    matcher = search_matcher(posterior)

    @jax.jit
    def search(
        key: Array, state: ChainState, rows: Array, beta: Array, data: Data, held: Array
    ) -> ChainState:
        keys = jax.random.split(key)
        where = dithered(matcher, keys[0], state.theta)
        cells = where.looked.cells
        images = jax.tree.map(lambda x: x[rows], data.images)
        match = matched(matcher, keys[1], state.mu, where, _flat(images), beta)
        shape = images.present.shape
        shift = where.pivot_px + cells.shifts_px[match.shift]
        contrast = jnp.where(held[rows][:, None], 0.0, match.contrast.reshape(shape))
        old = state.latents
        latents = Latents(
            old.quaternion.at[rows].set(cells.quaternions[match.rotation].reshape(*shape, 4)),
            old.shift_px.at[rows].set(shift.reshape(*shape, 2)),
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


def mu_of_placed(posterior: Posterior) -> Block:
    """The noise and the width of shifts, from the particles that have been placed."""

    sums = hyper_draws.image_summer(posterior)

    def step(key: Array, state: ChainState, tuning: object, data: Data) -> tuple[ChainState, Info]:
        images = jax.device_get(sums(state.theta, state.latents, data.images))
        placed = np.asarray(data.images.present) * (np.asarray(state.latents.contrast) != 0.0)
        residual = hyper_draws.residual_power(images, state.latents.contrast, placed)
        rng, n = host_generator(key), float(placed.sum())
        pixels = n * posterior.shell_counts
        mu = hyper_draws.draw_noise(rng, state.mu, residual, pixels, posterior.prior)
        if n:  # nobody placed says nothing: what was expected stands
            shift2 = np.sum(np.asarray(state.latents.shift_px, np.float64) ** 2, axis=-1)
            squares = float(np.sum(placed * shift2))
            mu = hyper_draws.draw_shift_width(rng, mu, squares, n, posterior.prior)
        return state._replace(mu=mu), {"mu": mu}

    return Block("noise and shifts", step, numbers=_numbers_of_mu)


def _numbers_of_mu(info: Info) -> dict[str, float]:
    mu = info["mu"]
    noise = float(np.asarray(mu.noise_variance)[1:].mean())
    return {"noise": noise, "shift_sd_px": float(mu.shift_sd_px)}


def held_out_evidence(
    posterior: Posterior, data: Data
) -> Callable[[Any, Hyperparameters], np.ndarray]:
    """A function of theta and mu: log-likelihood of each image held out, float64 [n].

    Every unknown of an image is integrated out on one lattice, the same for every theta, so that
    differences between two thetas are of the thetas. Of all images, where none is held out.
    """
    matcher = search_matcher(posterior)
    held = held_out_blocks(data.images.present.shape[0])
    rows = np.flatnonzero(held if held.any() else ~held)
    images = _flat(jax.tree.map(lambda x: x[rows], data.images))
    present = np.asarray(images.present) > 0

    @jax.jit
    def evidence(theta: Any, mu: Hyperparameters, images: ImageBlocks) -> Array:
        where = dithered(matcher, jax.random.key(0), theta)
        match = matched(matcher, jax.random.key(1), mu, where, images, 1.0)
        alone = posterior.log_likelihood(images.pixels, jnp.zeros_like(images.pixels), mu)
        return match.log_evidence + alone

    return lambda theta, mu: np.asarray(evidence(theta, mu, images), np.float64)[present]


def trial_score(posterior: Posterior, state: ChainState, data: Data) -> float:
    """Mean log-likelihood of the images held out."""
    return float(held_out_evidence(posterior, data)(state.theta, state.mu).mean())
