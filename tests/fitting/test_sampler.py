"""Caches are coherent after every block, a stale one is caught; MALA agrees with exact draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypermol.fitting.sampler import (
    Block,
    ChainState,
    Data,
    Sweep,
    molecule_block,
    molecule_mala_block,
    nuisance_block,
    particle_block,
    reads_no_cache,
)
from hypermol.posterior.conditional import molecule_quadratic
from jax import Array

from hypermol.inference.ensemble import CandidateCounts
from hypermol.molecule.state_basis import Cosine, Linear
from hypermol.posterior.priors import HyperPrior, InverseGamma, draw_nuisance, draw_pose_widths
from simulated import World, draw_images, draw_prior, make_world

PRIOR = HyperPrior(noise=InverseGamma(8.0, 8.0), n_bins=3)
GEOMETRY = {"box": 8, "kmax": 3, "radius_px": 1.5, "blocks": (7, 4), "precision": 0.15}
#: Fields of a chain's state that other fields determine.
CACHES = ("prepared",)


def recomputed(world: World, state: ChainState) -> ChainState:
    """The state with every cache computed anew."""
    return state._replace(prepared=world.prepare(state.theta))


def poisoned(state: ChainState) -> ChainState:
    """The state with every cache full of nan."""
    spoilt = {name: jax.tree.map(lambda x: x * jnp.nan, getattr(state, name)) for name in CACHES}
    return state._replace(**spoilt)


def same(first: ChainState, second: ChainState, ignore: tuple[str, ...] = ()) -> bool:
    """Whether two states agree to float32 rounding, nan equal to nan."""
    pairs = zip(
        jax.tree_util.tree_leaves(first._replace(**dict.fromkeys(ignore))),
        jax.tree_util.tree_leaves(second._replace(**dict.fromkeys(ignore))),
        strict=True,
    )
    return all(
        np.allclose(np.asarray(a), np.asarray(b), rtol=1e-4, atol=1e-4, equal_nan=True)
        for a, b in pairs
    )


def reads_cache(block: Block, state: ChainState, data: Data) -> bool:
    """Whether the block's step depends on a cache: it does if nan caches change what it draws."""
    key = jax.random.key(0)
    clean, _ = block.step(key, state, data)
    spoilt, _ = block.step(key, poisoned(state), data)
    return not same(clean, spoilt, ignore=CACHES)


def stale_readers(world: World, sweep: Sweep, state: ChainState, data: Data) -> list[str]:
    """Names of blocks that, anywhere in two sweeps, would read a cache unlike its recomputation."""
    readers = {block.name: reads_cache(block, recomputed(world, state), data) for block in sweep}
    stale = []
    for index, block in enumerate(sweep + sweep):
        state = block.refresh(state)
        if readers[block.name] and not same(state, recomputed(world, state)):
            stale.append(block.name)
        state, _ = block.step(jax.random.key(index), state, data)
    return stale


@pytest.fixture(scope="module")
def world() -> World:
    prior = HyperPrior(noise=InverseGamma(8.0, 8.0), n_bins=3)
    return make_world(Cosine(2), prior, box=8, kmax=3, radius_px=1.5, blocks=(7, 4), precision=0.15)


@pytest.fixture(scope="module")
def sweep(world: World) -> Sweep:
    posterior = world.posterior
    return (
        particle_block(posterior, CandidateCounts(4, 3, 6), state_steps=1),
        molecule_block(posterior, tolerance=1e-3, max_iterations=100),
        nuisance_block(posterior, (draw_nuisance, draw_pose_widths)),
    )


@pytest.fixture(scope="module")
def chain(world: World) -> tuple[ChainState, Data]:
    state = draw_prior(np.random.default_rng(0), world, (0.3, 0.5))
    state = state._replace(
        nuisance=state.nuisance._replace(level=jnp.ones(2), noise_variance=jnp.ones(4))
    )
    return state, draw_images(jax.random.key(0), world, state)


def test_caches_are_coherent_wherever_they_are_read(world, sweep, chain):
    assert stale_readers(world, sweep, *chain) == []


def test_the_particle_block_is_known_to_read_the_cache(sweep, chain):
    assert [reads_cache(block, *chain) for block in sweep] == [True, False, False]


def test_planted_stale_cache_is_caught(world, sweep, chain):
    particles = Block("particles", sweep[0].step, reads_no_cache)
    assert stale_readers(world, (particles, *sweep[1:]), *chain) == ["particles"]


def test_refresh_changes_nothing_but_caches(sweep, chain):
    state, _ = chain
    for block in sweep:
        assert same(block.refresh(poisoned(state)), state, ignore=CACHES)


@pytest.mark.parametrize("state_basis", [Cosine(2), Linear()], ids=["interval", "gaussian"])
def test_particle_block_forgets_the_old_contrast(state_basis, chain):
    """The candidates' draw integrates contrast out: whatever follows must use a fresh one.

    A state drawn given the old contrast is wrong by too little for the Geweke test to see.
    """
    world = make_world(state_basis, PRIOR, **GEOMETRY)
    block = particle_block(world.posterior, CandidateCounts(4, 3, 6), state_steps=2)
    state, data = chain
    other = state._replace(latents=state.latents._replace(contrast=3.0 * state.latents.contrast))
    key = jax.random.key(9)
    assert same(block.step(key, state, data)[0], block.step(key, other, data)[0])


def inside_of(world: World) -> np.ndarray:
    """Entries of theta's two maps in the ball."""
    return np.flatnonzero(np.tile(world.posterior.molecule.parts[0].basis.support.reshape(-1), 2))


def dense_conditional(world: World, state: ChainState, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of theta in the ball, by materialising A in float64."""
    target = molecule_quadratic(
        world.posterior, state.nuisance, state.latents, data.images, state.theta
    )
    linear = np.asarray(target.linear[""], np.float64)
    support = inside_of(world)
    eye = np.zeros((len(support), linear.size), np.float32)
    eye[np.arange(len(support)), support] = 1.0
    columns = jax.lax.map(lambda maps: target.apply({"": maps})[""], eye.reshape(-1, *linear.shape))
    matrix = np.asarray(columns, np.float64).reshape(len(support), -1)[:, support]
    covariance = np.linalg.inv(0.5 * (matrix + matrix.T))
    return covariance @ linear.reshape(-1)[support], covariance


def draws_of(block: Block, chain: tuple[ChainState, Data], sweeps: int) -> np.ndarray:
    """theta in all voxels, [sweeps, F n^3], of a chain of one block (latents and mu fixed)."""

    def one(state: ChainState, key: Array) -> tuple[ChainState, Array]:
        moved, _ = block.step(key, state, chain[1])
        return moved, moved.theta.maps[""].reshape(-1)

    keys = jax.random.split(jax.random.key(3), sweeps)
    return np.asarray(jax.jit(lambda s: jax.lax.scan(one, s, keys)[1])(chain[0]), np.float64)


@pytest.mark.parametrize("kind", ["exact", "mala"])
def test_theta_is_drawn_from_its_gaussian_conditional(kind, world, sweep, chain):
    mean, covariance = dense_conditional(world, *chain)
    block = sweep[1] if kind == "exact" else molecule_mala_block(world.posterior, 0.6, steps=10)
    theta = draws_of(block, chain, 2000)[:, inside_of(world)][100:]
    white = (theta - mean) @ np.linalg.cholesky(np.linalg.inv(covariance))
    batches = white.reshape(19, 100, -1).mean(axis=1)
    z = batches.mean(axis=0) / (batches.std(axis=0, ddof=1) / np.sqrt(19))
    assert np.abs(z).max() < 5.5
    assert np.mean(z**2) < 2.0
    variances = (white**2).mean(axis=0)
    np.testing.assert_allclose(variances, 1.0, atol=0.35 if kind == "mala" else 0.17)
    assert abs(variances.mean() - 1.0) < (0.05 if kind == "mala" else 0.025)
