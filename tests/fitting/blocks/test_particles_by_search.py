"""What a search says of mu is that of the particles it has placed, and of nothing else."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.fitting.blocks.particles_by_search import mu_of_placed
from hypermol.fitting.sweep import ChainState, Data
from hypermol.molecule.state_basis import Constant
from hypermol.posterior.pose_priors import Uniform
from hypermol.posterior.priors import HyperPrior
from simulated import draw_images, draw_prior, make_world


def drawn() -> tuple[ChainState, Data, object]:
    """A rigid world of 512 particles whose shifts have an sd of 3 pixels."""
    world = make_world(
        Constant(),
        HyperPrior(),
        box=16,
        kmax=4,
        radius_px=5.0,
        blocks=(512, 32),
        precision=1.0,
    )
    world = replace(world, posterior=replace(world.posterior, pose_prior=Uniform()))
    state = draw_prior(np.random.default_rng(0), world)
    shifts = 3.0 * np.random.default_rng(1).standard_normal(state.latents.shift_px.shape)
    moved = state.latents._replace(shift_px=jnp.asarray(shifts, jnp.float32))
    state = state._replace(latents=moved)
    return state, draw_images(jax.random.key(1), world, state), world.posterior


def widths(state: ChainState, data: Data, posterior) -> np.ndarray:
    """Draws of the shifts' width."""
    step = mu_of_placed(posterior).step
    found = [step(jax.random.key(seed), state, (), data)[0] for seed in range(40)]
    return np.array([float(state.mu.shift_sd_px) for state in found])


def test_the_width_of_shifts_is_that_of_particles_that_were_placed():
    state, data, posterior = drawn()
    found = widths(state, data, posterior)
    # 512 particles, two shifts each: known to 1 in sqrt(2 x 1024)
    assert abs(found.mean() / 3.0 - 1.0) < 0.07
    assert found.std() == pytest.approx(3.0 / np.sqrt(2048.0), rel=0.4)
    # shifts of those who were not placed do not count
    some = np.arange(16)[:, None] < 8
    latents = state.latents._replace(
        contrast=jnp.where(some, state.latents.contrast, 0.0),
        shift_px=jnp.where(some[..., None], state.latents.shift_px, 50.0),
    )
    found = widths(state._replace(latents=latents), data, posterior)
    assert abs(found.mean() / 3.0 - 1.0) < 0.1


def test_before_any_is_placed_the_width_stays_as_expected():
    state, data, posterior = drawn()
    latents = state.latents._replace(contrast=jnp.zeros_like(state.latents.contrast))
    state = state._replace(latents=latents)
    assert (widths(state, data, posterior) == float(state.mu.shift_sd_px)).all()
