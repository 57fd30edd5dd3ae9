"""MALA of particles: exact also where states are classes, which it moves by Metropolis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.fitting.blocks import particles_by_gradient as module
from hypermol.fitting.blocks.particles_by_gradient import particles_by_gradient
from hypermol.fitting.sweep import ChainState, adapt_tunings, init_tunings, run_sweep
from hypermol.inference import langevin
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import HyperPrior, InverseGamma
from hypermol.space.discrete import Discrete
from hypermol.space.fourier import half_plane
from hypermol.space.product import Product
from hypermol.space.state_space import Interval, StateSpace
from simulated import World, draw_images, draw_prior, given, normal_like
from small_molecules import two_lobes

#: Probabilities of two classes.
CHANCE = np.array([0.8, 0.2])
PRIOR = HyperPrior(
    noise=InverseGamma(50.0, 50.0),
    pose=InverseGamma(50.0, 50.0 * 0.2**2),
    shift=InverseGamma(50.0, 50.0 * 0.5**2),
    n_bins=2,
)


def world_of(space: StateSpace, n: int) -> World:
    posterior = Posterior(two_lobes(space, 8, 3, 0.0), half_plane(8, 3), PRIOR)

    def draw(rng, posterior, mu):
        return normal_like(rng, posterior.molecule.init(jax.random.key(0)))

    return given(posterior, jnp.zeros((0, 5)), draw, (n, n))


#: MALA's step: a third of the widest, so that a state on the line would leave its class seldom.
STEP = 0.33


def deviation(n: int, sweeps: int) -> float:
    """z of the share of particles in the first class, images without signal; sweeps count as
    independent after the first five."""
    world = world_of(Discrete("class", 2), n)
    state = draw_prior(np.random.default_rng(0), world)
    mu = state.mu._replace(occupancy=jnp.asarray(CHANCE, jnp.float32))
    index = np.random.default_rng(1).choice(2, size=(1, n), p=CHANCE)
    states = world.posterior.molecule.state_space.state(jnp.asarray(index))
    theta = state.theta._replace(log_gain=jnp.float32(-20.0))
    state = ChainState(theta, mu, state.latents._replace(state=states))
    data = draw_images(jax.random.key(1), world, state)
    sweep = (particles_by_gradient(world.posterior, moves_poses=False),)
    tunings, found = init_tunings(sweep, state, data), []
    tuning = tunings[sweep[0].name]
    size = tuning.step._replace(log_size=jnp.full_like(tuning.step.log_size, np.log(STEP)))
    tunings = {sweep[0].name: tuning._replace(step=size)}
    for key in jax.random.split(jax.random.key(2), sweeps):
        state, _ = run_sweep(key, sweep, state, tunings, data)
        assert set(np.unique(state.latents.state)) <= {0.25, 0.75}
        found.append(float(np.mean(np.asarray(state.latents.state) < 0.5)))
    used = np.array(found)[5:]
    return float((used.mean() - CHANCE[0]) / np.sqrt(np.prod(CHANCE) / (n * len(used))))


def test_classes_are_as_frequent_as_their_prior_says():
    assert abs(deviation(1024, 40)) < 4.5


@pytest.mark.slow
@pytest.mark.parametrize("bug", [False, True], ids=["right", "snapped"])
def test_classes_snapped_after_steps_on_the_line_are_caught(monkeypatch, bug: bool):
    """As was done once: the state moves on the line, and is rounded to a class at the end."""
    if bug:
        monkeypatch.setattr(module, "class_columns", lambda posterior: np.zeros(1, bool))
    z = abs(deviation(16384, 60))
    assert z > 7.0 if bug else z < 4.5


def test_poses_are_held_where_they_do_not_move():
    world = world_of(Product((Interval("way"), Discrete("class", 2))), 16)
    state = draw_prior(np.random.default_rng(0), world)
    data = draw_images(jax.random.key(1), world, state)
    sweep = (particles_by_gradient(world.posterior, moves_poses=False),)
    moved, _ = run_sweep(jax.random.key(2), sweep, state, init_tunings(sweep, state, data), data)
    before, after = state.latents, moved.latents
    np.testing.assert_allclose(after.quaternion, before.quaternion, atol=1e-6)
    np.testing.assert_array_equal(after.shift_px, before.shift_px)
    assert np.mean(np.asarray(after.state[..., 0] != before.state[..., 0])) > 0.5
    assert np.mean(np.asarray(after.state[..., 1] != before.state[..., 1])) > 0.1


def test_steps_adapt_towards_the_wanted_acceptance():
    world = world_of(Interval(), 64)
    state = draw_prior(np.random.default_rng(0), world)
    state = state._replace(theta=state.theta._replace(log_gain=jnp.float32(1.0)))
    data = draw_images(jax.random.key(1), world, state)
    sweep = (particles_by_gradient(world.posterior, moves_poses=True),)
    tunings, accepted = init_tunings(sweep, state, data), []
    for key in jax.random.split(jax.random.key(2), 60):
        state, infos = run_sweep(key, sweep, state, tunings, data)
        tunings = adapt_tunings(sweep, tunings, infos)
        accepted.append(float(infos[sweep[0].name]["share"]))
    assert np.mean(accepted[30:]) == pytest.approx(langevin.OPTIMAL_ACCEPTANCE, abs=0.05)


def test_steps_have_the_shape_of_what_images_and_prior_say(monkeypatch: pytest.MonkeyPatch):
    """The root's square is the inverse of the information that is planted, prior and all, and
    nothing where a latent is held still."""
    world = world_of(Product((Interval("way"), Discrete("class", 2))), 4)
    state = draw_prior(np.random.default_rng(0), world)
    data = draw_images(jax.random.key(1), world, state)
    white = np.random.default_rng(2).normal(size=(8, 20)) * np.logspace(0, 1.5, 8)[:, None]
    told = white @ white.T
    monkeypatch.setattr(module, "particle_information", lambda *given: jnp.asarray(told))
    block = particles_by_gradient(world.posterior, moves_poses=True)
    root = np.asarray(block.init(state, data).root, np.float64)[0, 0]
    mu = state.mu
    prior = [float(mu.pose_sd_rad)] * 3 + [float(mu.shift_sd_px)] * 2 + [float(mu.contrast_sd), 0.3]
    expected = np.linalg.inv(told[:7, :7] + np.diag(np.array(prior) ** -2.0))
    covariance = root @ root.T
    scale = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(
        covariance[:7, :7] / scale / scale[:, None], expected / scale / scale[:, None], atol=1e-2
    )
    assert not covariance[7].any() and not covariance[:, 7].any()


def test_steps_are_numbers_where_images_leave_a_direction_out(monkeypatch: pytest.MonkeyPatch):
    """Information of rank one, beside which the prior's precision is below rounding."""
    world = world_of(Interval(), 4)
    state = draw_prior(np.random.default_rng(0), world)
    data = draw_images(jax.random.key(1), world, state)
    told = 1e12 * jnp.ones((7, 7))
    monkeypatch.setattr(module, "particle_information", lambda *given: told)
    block = particles_by_gradient(world.posterior, moves_poses=True)
    assert np.isfinite(np.asarray(block.init(state, data).root)).all()


def near_ends(n: int, sweeps: int) -> float:
    """z of the share of particles with states near an end that walk in steps in which state and
    contrast go together, images without signal; sweeps count as independent after the first
    five."""
    world = world_of(Interval(), n)
    state = draw_prior(np.random.default_rng(0), world)
    theta = state.theta._replace(log_gain=jnp.float32(-20.0))
    even = jnp.full_like(state.mu.occupancy, 1.0 / len(state.mu.occupancy))
    uniform = np.random.default_rng(1).uniform(size=state.latents.state.shape)
    latents = state.latents._replace(state=jnp.asarray(uniform, jnp.float32))
    state = ChainState(theta, state.mu._replace(occupancy=even), latents)
    data = draw_images(jax.random.key(1), world, state)
    sweep = (particles_by_gradient(world.posterior, moves_poses=False),)
    tuning = init_tunings(sweep, state, data)[sweep[0].name]
    together = np.zeros((7, 7), np.float32)
    together[5, 5] = float(state.mu.contrast_sd)
    together[6, 5], together[6, 6] = 0.29, 0.05
    size = jnp.full_like(tuning.step.log_size, np.log(0.8))
    tuning = tuning._replace(
        root=jnp.broadcast_to(together, tuning.root.shape),
        step=tuning.step._replace(log_size=size),
    )
    found = []
    for key in jax.random.split(jax.random.key(2), sweeps):
        state, _ = run_sweep(key, sweep, state, {sweep[0].name: tuning}, data)
        states = np.asarray(state.latents.state)
        assert ((states >= 0.0) & (states <= 1.0)).all()
        found.append(float(np.mean(np.abs(states - 0.5) > 0.45)))
    used = np.array(found)[5:]
    return float((used.mean() - 0.1) / np.sqrt(0.1 * 0.9 / (n * len(used))))


@pytest.mark.parametrize("bug", [False, True], ids=["right", "reflected"])
def test_steps_that_are_correlated_end_at_an_end(monkeypatch, bug: bool):
    """As was done once: walked on beyond an end, and folded back."""
    if bug:
        monkeypatch.setattr(Interval, "holds", lambda self, tau: jnp.ones(tau.shape[:-1], bool))
    z = abs(near_ends(4096, 40))
    assert z > 7.0 if bug else z < 4.5
