"""Particles at wrong poses find their way in one step, and those at right ones stay."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.fitting.blocks.particles_anywhere import Offers, drawn_by_lot, particles_anywhere
from hypermol.fitting.sweep import ChainState, Data
from hypermol.molecule.state_basis import Constant, Cosine
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
    assert not block.adapt(tuning, info).settled
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


def moved_particles(before: ChainState, after: ChainState) -> int:
    """Particles that moved at all: contrasts of those that are asked do."""
    return int(np.sum(np.asarray(after.latents.contrast != before.latents.contrast)))


def test_fewer_are_offered_poses_once_few_jump_far(drawn: tuple[World, ChainState, Data]):
    world, truth, data = drawn
    block = particles_anywhere(world.posterior, Offers(N, BLOCK), 8)
    tuning = block.init(truth, data)
    state, _ = block.step(jax.random.key(2), truth, tuning, data)
    assert moved_particles(truth, state) >= N
    for few, settled in ((False, False), (True, True), (False, True)):
        tuning = block.adapt(tuning, {"few": few, "unrest": tuning.unrest})
        assert bool(tuning.settled) is settled
    state, info = block.step(jax.random.key(2), truth, tuning, data)
    assert moved_particles(truth, state) == BLOCK
    carried = block.carry(tuning, block.init(truth, data))
    assert not carried.settled and carried.unrest is tuning.unrest
    assert block.numbers(info)["jumped_far"] == float(info["jumped_far"])


def test_those_that_jump_are_asked_again_and_others_seldom(drawn: tuple[World, ChainState, Data]):
    """Some are lost: they jump to their places when they are asked, and are at rest then."""
    world, truth, data = drawn
    shape, few = truth.latents.contrast.shape, BLOCK
    anywhere = random_quaternions(jax.random.key(9), truth.latents.contrast.size)
    flat = truth.latents.quaternion.reshape(-1, 4).at[:few].set(anywhere[:few])
    lost = truth._replace(latents=truth.latents._replace(quaternion=flat.reshape(*shape, 4)))
    block = particles_anywhere(world.posterior, Offers(N, BLOCK), 8)
    tuning = block.init(lost, data)
    state, info = block.step(jax.random.key(0), lost, tuning, data)
    unrest = np.asarray(block.adapt(tuning, info).unrest).ravel()[:N]
    jumped = turned_by(state, lost) > 21.0
    assert jumped[:few].mean() > 0.7 and jumped[few:].mean() < 0.1
    np.testing.assert_allclose(unrest, np.where(jumped, 1.0, 0.6), rtol=1e-6)
    for _ in range(6):
        state, info = block.step(jax.random.key(1), state, tuning, data)
        tuning = block.adapt(tuning, info)
    assert np.asarray(tuning.unrest).ravel()[:N].min() == np.float32(0.1)


def test_lots_are_drawn_by_their_weight_and_nobody_twice():
    lots = np.ones((10, 8))
    lots[0], lots[-1] = 10.0, 0.0
    drawn = np.array([drawn_by_lot(jax.random.key(i), lots, 16) for i in range(300)])
    assert drawn.shape == (300, 2, 8)
    flat = drawn.reshape(300, -1)
    assert all(len(np.unique(places)) == 16 for places in flat) and flat.max() < 72
    # without replacement ten times the weight is a little less than ten times the chance
    often = np.bincount(flat.ravel(), minlength=80) / 300.0
    assert 0.75 < often[:8].mean() < 0.95 and 0.08 < often[8:72].mean() < 0.16
    every = drawn_by_lot(jax.random.key(0), lots, 73)
    np.testing.assert_array_equal(every, np.arange(80).reshape(10, 8))


def test_some_of_a_rigid_molecules_particles_jump():
    """Which have no states at all."""
    world = make_world(
        Constant(), HyperPrior(), box=10, kmax=4, radius_px=2.5, blocks=(64, BLOCK), precision=0.1
    )
    state = draw_prior(np.random.default_rng(0), world)
    data = draw_images(jax.random.key(0), world, state)
    block = particles_anywhere(world.posterior, Offers(BLOCK, BLOCK), 8)
    moved, _ = block.step(jax.random.key(1), state, block.init(state, data), data)
    assert 0 < moved_particles(state, moved) <= BLOCK
    assert moved.latents.state.shape == state.latents.state.shape


def test_only_the_particles_asked_for_are_offered_anything(drawn: tuple[World, ChainState, Data]):
    world, truth, data = drawn
    few = 2 * BLOCK - 3
    block = particles_anywhere(world.posterior, Offers(few, few), 8)
    moved, _ = block.step(jax.random.key(1), truth, block.init(truth, data), data)
    assert moved_particles(truth, moved) == 2 * BLOCK
