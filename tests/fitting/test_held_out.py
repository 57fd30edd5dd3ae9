"""Held-out log-likelihood against a dense Gaussian, and against plain Monte Carlo."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from hypermol.data.latents import Latents
from hypermol.fitting.held_out import Effort, held_out_log_likelihood
from hypermol.fitting.level import Form, Level
from hypermol.fitting.sweep import ChainState
from hypermol.molecule.by_fourier import ByFourier, Scaled
from hypermol.molecule.composite import composite
from hypermol.molecule.parts import Part
from hypermol.molecule.state_basis import Constant, Cosine
from hypermol.molecule.trajectory import RigidBody
from hypermol.posterior.priors import HyperPrior
from hypermol.space.rotation import quaternion_from_vector, quaternion_multiply
from simulated import draw_images, draw_prior, make_world

N = 32


def world_of(basis, pose_rad: float, shift_px: float, noise: float = 0.5):
    """A level with images drawn at widths of poses that are as stated, and the truth."""
    world = make_world(
        basis, HyperPrior(n_bins=4), box=10, kmax=4, radius_px=2.5, blocks=(N, 16), precision=0.1
    )
    truth = draw_prior(np.random.default_rng(3), world)
    mu = truth.mu._replace(
        pose_sd_rad=jnp.float32(pose_rad),
        shift_sd_px=jnp.float32(shift_px),
        contrast_sd=jnp.float32(0.2),
        noise_variance=jnp.full_like(truth.mu.noise_variance, noise),
    )
    rng, shape = np.random.default_rng(4), truth.latents.contrast.shape
    turn = jnp.asarray(pose_rad * rng.normal(size=(*shape, 3)), jnp.float32)
    slip = jnp.asarray(shift_px * rng.normal(size=(*shape, 2)), jnp.float32)
    latents = truth.latents._replace(
        quaternion=quaternion_multiply(quaternion_from_vector(turn), world.consensus.quaternion),
        shift_px=world.consensus.shift_px + slip,
        contrast=jnp.asarray(1.0 + 0.2 * rng.normal(size=shape), jnp.float32),
    )
    truth = truth._replace(mu=mu, latents=latents)
    data = draw_images(jax.random.key(0), world, truth)
    molecule = world.posterior.molecule
    form = Form(molecule, world.posterior.plane.kmax, ())
    return Level(form, world.posterior, data, molecule.parts[0].basis), truth


def imager(level: Level, truth: ChainState) -> Callable[[Latents], np.ndarray]:
    """Latents to noiseless images of unit contrast of the first block, complex128 [B, K]."""
    prepared = level.molecule.prepare(truth.theta)
    given = jax.tree.map(lambda x: x[0], level.data.images)

    @jax.jit
    def images(latents: Latents) -> jax.Array:
        block = jax.tree.map(lambda x: x[0], latents)
        block = block._replace(contrast=jnp.ones_like(block.contrast))
        return level.posterior.predict(prepared, block, given.ctf)

    return lambda latents: np.asarray(images(latents), complex)


def log_evidence_given(image: np.ndarray, model: np.ndarray, truth: ChainState) -> np.ndarray:
    """log N(image; model a, noise) with a ~ N(1, 0.2^2), by the dense covariance, [B]."""
    variance = np.asarray(truth.mu.noise_variance, float)[0]
    found = []
    for y, m in zip(image, model, strict=True):
        y, m = (np.concatenate([v.real, v.imag]) for v in (y, m))
        covariance = 0.5 * variance * np.eye(len(y)) + 0.2**2 * np.outer(m, m)
        away = y - m
        log_det = np.linalg.slogdet(covariance / 0.5)[1]  # up to the constant of a unit variance
        found.append(-0.5 * away @ np.linalg.solve(covariance, away) - 0.5 * log_det)
    return np.array(found)


def test_known_poses_give_the_dense_gaussian():
    level, truth = world_of(Constant(), 1e-4, 1e-4)
    found = held_out_log_likelihood(level, [truth], Effort(2, 4, 64, 64, 1))
    model = imager(level, truth)(truth.latents)
    expected = log_evidence_given(np.asarray(level.data.images.pixels[0]), model, truth)
    np.testing.assert_allclose(found[:16], expected, atol=0.15)  # Monte Carlo


def test_latents_are_integrated_as_plain_monte_carlo_does():
    level, truth = world_of(Cosine(2), 0.15, 0.5, noise=20.0)  # little is known of each
    found = held_out_log_likelihood(level, [truth], Effort(15, 30, 32, 32, 32))[:16]
    rng = np.random.default_rng(0)
    pixels = np.asarray(level.data.images.pixels[0])
    occupancy = np.asarray(truth.mu.occupancy, float)
    scores, images = [], imager(level, truth)
    shape = truth.latents.contrast.shape
    for _ in range(2000):
        turn = jnp.asarray(0.15 * rng.normal(size=(*shape, 3)), jnp.float32)
        consensus = level.data.consensus
        bins = rng.choice(4, size=(*shape, 1), p=occupancy / occupancy.sum())
        latents = truth.latents._replace(
            quaternion=quaternion_multiply(quaternion_from_vector(turn), consensus.quaternion),
            shift_px=consensus.shift_px + jnp.asarray(0.5 * rng.normal(size=(*shape, 2))),
            state=jnp.asarray((bins + rng.uniform(size=bins.shape)) / 4, jnp.float32),
        )
        scores.append(log_evidence_given(pixels, images(latents), truth))
    expected = logsumexp(scores, axis=0) - np.log(len(scores))
    assert np.mean(found - expected) == pytest.approx(0.0, abs=0.15)
    assert np.std(found - expected) < 0.5


def test_the_right_molecule_predicts_better_than_none():
    level, truth = world_of(Constant(), 0.05, 0.2)
    nothing = truth._replace(theta=jax.tree.map(jnp.zeros_like, truth.theta))
    effort = Effort(4, 6, 8, 8, 1)
    right = held_out_log_likelihood(level, [truth], effort)
    assert right.mean() > held_out_log_likelihood(level, [nothing], effort).mean() + 1.0


def test_states_that_are_positions_are_integrated_too():
    """The same molecule known through `fourier` alone: all that its states do, they do as
    positions, for which draws are weighed in place of the grid."""
    level, truth = world_of(Cosine(2), 0.15, 0.5, noise=5.0)
    linear, grid = level.molecule, level.grid
    own = ByFourier(linear, grid.n * grid.voxel_size_angstrom, linear, grid)
    as_own = replace(level, posterior=replace(level.posterior, molecule=own))
    theta = Scaled(truth.theta, jnp.zeros(()))
    effort = Effort(15, 30, 32, 32, 32, 8)
    expected = held_out_log_likelihood(level, [truth], effort)
    found = held_out_log_likelihood(as_own, [truth._replace(theta=theta)], effort)
    assert np.std(expected) > 2.0  # images differ by more than the two ways may
    assert np.mean(found - expected) == pytest.approx(0.0, abs=0.15)
    assert np.std(found - expected) < 0.5


def test_free_rigid_bodies_are_refused():
    level, truth = world_of(Constant(), 0.05, 0.2)
    body = RigidBody("arm", (0.0, 0.0, 0.0), 0.1, 1.0)
    moving = composite((Part("arm", level.grid, Constant(), body),))
    level = replace(level, posterior=replace(level.posterior, molecule=moving))
    with pytest.raises(ValueError, match="positions without bounds"):
        held_out_log_likelihood(level, [truth])
