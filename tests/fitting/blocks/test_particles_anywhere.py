"""Particles at wrong poses find their way in one step, and those at right ones stay."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.fitting.blocks.particles_anywhere import Offers, particles_anywhere
from hypermol.fitting.sweep import ChainState, Data
from hypermol.molecule.state_basis import Cosine
from hypermol.posterior.pose_priors import Uniform, pose_vector
from hypermol.posterior.priors import HyperPrior
from hypermol.space.rotation import random_quaternions
from simulated import World, draw_images, draw_prior, make_world

N, BLOCK = 48, 8


@pytest.fixture(scope="module")
def drawn() -> tuple[World, ChainState, Data]:
    """A random blob that moves a little, seen clearly from anywhere."""
    world = make_world(
        Cosine(2), HyperPrior(), box=16, kmax=6, radius_px=5.0, blocks=(N, BLOCK), precision=1.0
    )
    posterior = replace(world.posterior, pose_prior=Uniform())
    world = replace(world, posterior=posterior)
    state = draw_prior(np.random.default_rng(3), world)
    mu = state.mu._replace(
        noise_variance=jnp.full_like(state.mu.noise_variance, 0.3),
        shift_sd_px=jnp.float32(0.5),
        contrast_sd=jnp.float32(0.1),
    )
    shift = world.consensus.shift_px + 0.3
    latents = state.latents._replace(shift_px=shift, contrast=jnp.ones_like(state.latents.contrast))
    state = state._replace(mu=mu, latents=latents)
    return world, state, draw_images(jax.random.key(5), world, state)


def turned_by(state: ChainState, other: ChainState) -> np.ndarray:
    """Angles in degrees between the poses of all particles there are, [N]."""
    vector = pose_vector(state.latents.quaternion, other.latents.quaternion)
    return np.degrees(np.linalg.norm(vector, axis=-1)).reshape(-1)[:N]


def test_lost_particles_find_their_place(drawn: tuple[World, ChainState, Data]):
    world, truth, data = drawn
    shape = truth.latents.contrast.shape
    anywhere = random_quaternions(jax.random.key(9), truth.latents.contrast.size)
    lost = truth._replace(latents=truth.latents._replace(quaternion=anywhere.reshape(*shape, 4)))
    block = particles_anywhere(world.posterior, Offers(N, 8), 8)
    tuning = block.init(lost, data)
    state, info = block.step(jax.random.key(0), lost, tuning, data)
    assert info["jumped"] > 0.9 and 0.8 < info["jumped_far"] <= info["jumped"]
    assert not block.adapt(tuning, info)
    assert np.mean(turned_by(lost, truth) < 30.0) < 0.1
    assert np.mean(turned_by(state, truth) < 30.0) > 0.8
    assert block.numbers(info)["jumped"] == float(info["jumped"])


def test_shifts_are_in_reach_as_far_as_a_search_looks(drawn: tuple[World, ChainState, Data]):
    """From a place that is wrong in rotation, and in shift by a tenth of the box, both ways."""
    world, truth, data = drawn
    shape = truth.latents.contrast.shape
    anywhere = random_quaternions(jax.random.key(9), truth.latents.contrast.size)
    lost = truth.latents._replace(
        quaternion=anywhere.reshape(*shape, 4), shift_px=truth.latents.shift_px + 1.6
    )
    wide = truth.mu._replace(shift_sd_px=jnp.float32(1.5))
    block = particles_anywhere(world.posterior, Offers(N, N), 8)
    state = truth._replace(latents=lost, mu=wide)
    moved, _ = block.step(jax.random.key(1), state, block.init(state, data), data)
    away = np.linalg.norm(np.asarray(moved.latents.shift_px - truth.latents.shift_px), axis=-1)
    right = (away.reshape(-1)[:N] < 0.7) & (turned_by(moved, truth) < 30.0)
    assert np.mean(right) > 0.3  # a half of the pivots, drawn at random, leave them in reach


def test_few_move_far_from_where_they_belong(drawn: tuple[World, ChainState, Data]):
    world, truth, data = drawn
    block = particles_anywhere(world.posterior, Offers(N, N), 8)
    state, _ = block.step(jax.random.key(0), truth, block.init(truth, data), data)
    assert np.mean(turned_by(state, truth) < 30.0) > 0.95


def moved_blocks(before: ChainState, after: ChainState) -> int:
    """Blocks of which any particle moved."""
    same = np.asarray(after.latents.contrast == before.latents.contrast).all(axis=1)
    return int(np.sum(~same))


def test_fewer_are_offered_poses_once_few_jump_far(drawn: tuple[World, ChainState, Data]):
    world, truth, data = drawn
    block = particles_anywhere(world.posterior, Offers(N, BLOCK), 8)
    tuning = block.init(truth, data)
    state, _ = block.step(jax.random.key(2), truth, tuning, data)
    assert moved_blocks(truth, state) > 3
    for far, settled in ((0.01, False), (0.001, True), (0.5, True)):
        tuning = block.adapt(tuning, {"jumped": 0.6, "jumped_far": far})
        assert bool(tuning) is settled
    state, info = block.step(jax.random.key(2), truth, tuning, data)
    assert moved_blocks(truth, state) == 1
    assert not block.carry(tuning, block.init(truth, data))
    assert block.numbers(info)["jumped_far"] == float(info["jumped_far"])


def test_only_the_particles_asked_for_are_offered_anything(drawn: tuple[World, ChainState, Data]):
    world, truth, data = drawn
    few = 2 * BLOCK - 3
    block = particles_anywhere(world.posterior, Offers(few, few), 8)
    moved, _ = block.step(jax.random.key(1), truth, block.init(truth, data), data)
    assert moved_blocks(truth, moved) == 2
