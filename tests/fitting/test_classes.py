"""Two classes from simulated images: a subspace, then one map a class (3-D classification)."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from hypermol.fitting.blocks.hyperparameters import hyperparameters
from hypermol.fitting.blocks.particles_by_candidates import particles_by_candidates
from hypermol.fitting.blocks.spectrum import spectrum
from hypermol.fitting.blocks.theta_exact import theta_exact
from hypermol.fitting.level import Form, Level
from hypermol.fitting.march import carry, first_state
from hypermol.fitting.sweep import ChainState, adapt_tunings, init_tunings, run_sweep
from hypermol.inference.ensemble import CandidateCounts
from hypermol.molecule.composite import expansion
from hypermol.molecule.state_basis import Haar, Linear, OneHot, StateBasis
from hypermol.posterior.priors import HyperPrior, InverseGamma
from hypermol.space.discrete import Discrete
from hypermol.space.normal import Gaussian
from simulated import draw_images, draw_prior, make_world

SPACE = Discrete("fold", 2)
NOISE, N = 0.6, 128
PRIOR = HyperPrior(
    noise=InverseGamma(50.0, 50.0 * NOISE),
    pose=InverseGamma(50.0, 50.0 * 0.02**2),
    shift=InverseGamma(50.0, 50.0 * 0.2**2),
)


@pytest.fixture(scope="module")
def world():
    return make_world(
        OneHot(SPACE), PRIOR, box=10, kmax=4, radius_px=2.5, blocks=(N, 32), precision=0.15
    )


@pytest.fixture(scope="module")
def drawn(world):
    """Truth and images."""
    truth = draw_prior(np.random.default_rng(3), world)
    return truth, draw_images(jax.random.key(0), world, truth)


def level_of(world, data, basis: StateBasis) -> Level:
    voxels = world.posterior.molecule.parts[0].basis
    posterior = replace(world.posterior, molecule=expansion(voxels, basis))
    form = Form(posterior.molecule, voxels.kmax, (basis,))
    return Level(form, posterior, data, voxels)


def swept(level: Level, state: ChainState, sweeps: int, seed: int) -> ChainState:
    """Poses held, states and theta and mu drawn; theta first."""
    posterior = level.posterior
    blocks = (
        theta_exact(posterior),
        hyperparameters(posterior, learns_widths=False),
        spectrum(posterior),
        particles_by_candidates(posterior, CandidateCounts(1, 1, 16)),
    )
    tunings = init_tunings(blocks, state, level.data)
    for key in jax.random.split(jax.random.key(seed), sweeps):
        state, infos = run_sweep(key, blocks, state, tunings, level.data)
        tunings = adapt_tunings(blocks, tunings, infos)
    return state


def classes(state: ChainState) -> np.ndarray:
    return np.asarray(SPACE.index(state.latents.state)).ravel()


def agreement(state: ChainState, truth: ChainState) -> float:
    """Share of particles in the right class, whichever is numbered first."""
    right = float(np.mean(classes(state) == classes(truth)))
    return max(right, 1.0 - right)


@pytest.fixture(scope="module")
def at_subspace(world, drawn) -> tuple[Level, ChainState]:
    level = level_of(world, drawn[1], Linear(Gaussian(1)))
    return level, swept(level, first_state(level), 4, 1)


@pytest.mark.parametrize("basis", [OneHot(SPACE), Haar(SPACE)], ids=["onehot", "haar"])
def test_every_class_starts_at_the_mean(world, drawn, at_subspace, basis: StateBasis):
    """And classes start where the subspace sees two clusters."""
    old, before = at_subspace
    new = level_of(world, drawn[1], basis)
    state = carry(jax.random.key(2), before, old.form, new)
    mean = old.molecule.mean(before.theta)
    for tau in SPACE.nodes(2):
        np.testing.assert_allclose(new.molecule.density(state.theta, tau), mean, atol=1e-5)
    assert state.mu.occupancy.shape == (2,)
    assert agreement(state, drawn[0]) > 0.75


def test_classes_are_recovered(world, drawn, at_subspace):
    truth, data = drawn
    new = level_of(world, data, OneHot(SPACE))
    state = swept(new, carry(jax.random.key(2), at_subspace[1], at_subspace[0].form, new), 3, 3)
    assert agreement(state, truth) > 0.9
    share = float(np.max(state.mu.occupancy))
    wanted = float(np.max(np.bincount(classes(truth), minlength=2)) / N)
    assert share == pytest.approx(wanted, abs=0.15)
