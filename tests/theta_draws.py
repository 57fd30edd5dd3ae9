"""theta's Gaussian conditional in a small world: dense, and as a block draws it."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.fitting.sweep import Block, ChainState, Data, Tuning
from hypermol.molecule.state_basis import Cosine
from hypermol.posterior.priors import HyperPrior, InverseGamma
from hypermol.posterior.theta_conditional import Given, theta_quadratic
from simulated import World, draw_images, draw_prior, make_world


def small_world() -> World:
    """Seven particles in two blocks, 19 voxels in each of two terms."""
    prior = HyperPrior(noise=InverseGamma(8.0, 8.0), n_bins=3)
    return make_world(Cosine(2), prior, box=8, kmax=3, radius_px=1.5, blocks=(7, 4), precision=0.15)


def drawn_chain(world: World) -> tuple[ChainState, Data]:
    """Unknowns of unit noise and levels, and images of them."""
    state = draw_prior(np.random.default_rng(0), world)
    mu = state.mu._replace(level=jnp.ones(2), noise_variance=jnp.ones(4))
    state = state._replace(mu=mu)
    return state, draw_images(jax.random.key(0), world, state)


def inside_of(world: World) -> np.ndarray:
    """Entries of theta's two maps in the ball."""
    return np.flatnonzero(np.tile(world.posterior.molecule.parts[0].basis.support.reshape(-1), 2))


def dense_conditional(world: World, state: ChainState, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of theta in the ball, by materialising A in float64."""
    given = Given(state.mu, state.latents, data.images)
    target = theta_quadratic(world.posterior, given, state.theta)
    linear = np.asarray(target.linear[""], np.float64)
    support = inside_of(world)
    eye = np.zeros((len(support), linear.size), np.float32)
    eye[np.arange(len(support)), support] = 1.0
    columns = jax.lax.map(lambda maps: target.apply({"": maps})[""], eye.reshape(-1, *linear.shape))
    matrix = np.asarray(columns, np.float64).reshape(len(support), -1)[:, support]
    covariance = np.linalg.inv(0.5 * (matrix + matrix.T))
    return covariance @ linear.reshape(-1)[support], covariance


def draws_of(
    block: Block, tuning: Tuning, chain: tuple[ChainState, Data], sweeps: int
) -> np.ndarray:
    """theta in all voxels, [sweeps, F n^3], of a chain of one block (latents and mu fixed)."""

    def one(state: ChainState, key: Array) -> tuple[ChainState, Array]:
        moved, _ = block.step(key, state, tuning, chain[1])
        return moved, moved.theta.maps[""].reshape(-1)

    keys = jax.random.split(jax.random.key(3), sweeps)
    return np.asarray(jax.jit(lambda s: jax.lax.scan(one, s, keys)[1])(chain[0]), np.float64)


def whitened(world: World, block: Block, tuning: Tuning, sweeps: int = 2000) -> np.ndarray:
    """Draws [sweeps - 100, M] less the dense mean, in the dense standard deviations."""
    chain = drawn_chain(world)
    mean, covariance = dense_conditional(world, *chain)
    theta = draws_of(block, tuning, chain, sweeps)[:, inside_of(world)][100:]
    return (theta - mean) @ np.linalg.cholesky(np.linalg.inv(covariance))


def mean_z(white: np.ndarray, batch: int = 100) -> np.ndarray:
    """z of each coordinate's mean, from means of batches."""
    batches = white.reshape(-1, batch, white.shape[-1]).mean(axis=1)
    return batches.mean(axis=0) / (batches.std(axis=0, ddof=1) / np.sqrt(len(batches)))
