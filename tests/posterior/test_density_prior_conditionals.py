"""Density priors in theta's conditional: exact where quadratic, tilted where not; their effect."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.fitting.blocks.theta_exact import theta_exact
from hypermol.fitting.sweep import ChainState, Data
from hypermol.inference import exact
from hypermol.inference.target import Quadratic
from hypermol.posterior.density_priors import NoPrior, Positivity
from hypermol.posterior.state_smoothness import AdjacentStates, MassFlow
from hypermol.posterior.theta_conditional import Given, theta_quadratic, theta_tilted
from hypermol.recipe.options import FitOptions
from hypermol.recipe.toml import read_recipe, write_recipe
from small_posterior import BOX, make_small

SMOOTH = AdjacentStates(0.3, 8, BOX) + MassFlow(2.0, 8, BOX, 1.0, 4.0)
POSITIVE = Positivity(1.0, 0.3, 4, BOX)


@pytest.fixture(scope="module")
def small():
    return make_small()


def given_of(small) -> Given:
    return Given(small.mu, small.latents, small.images)


def quadratic(small, prior) -> Quadratic:
    posterior = replace(small.posterior, density_prior=prior)
    return theta_quadratic(posterior, given_of(small), small.theta)


def posterior_mean(small, prior):
    """Mean of theta's Gaussian conditional, and the iterations that it took."""
    zero = jax.tree.map(jnp.zeros_like, small.theta.maps)
    mean, record = jax.jit(lambda: exact.mean(quadratic(small, prior), zero, 1e-3, 300))()
    assert float(record.error_in_sd) <= 1.0001e-3
    return mean[""], int(record.iterations)


def test_linear_minus_apply_is_the_gradient_of_the_log_posterior(small) -> None:
    posterior = replace(small.posterior, density_prior=SMOOTH + POSITIVE)

    def log_joint(maps):
        terms = posterior.terms(small.theta._replace(maps=maps), *small[2:])
        return terms.theta_prior + jnp.sum(terms.likelihood)

    @jax.jit
    def both(maps):
        target = theta_tilted(posterior, given_of(small), small.theta)
        tilt = target.tilt.value_and_gradient(maps)[1]
        rest = jax.tree.map(jnp.subtract, target.reference.linear, target.reference.apply(maps))
        return jax.grad(log_joint)(maps)[""], rest[""] + tilt[""]

    expected, found = both(small.theta.maps)
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(found, expected, atol=3e-4 * scale)


def test_the_perturbation_has_the_covariance_of_the_matrix(small) -> None:
    """Probes of b - A x + noise: data, spectrum and density priors together."""
    n = 300
    target = quadratic(small, SMOOTH)
    rng, support = np.random.default_rng(1), small.posterior.molecule.parts[0].basis.support
    slow = np.ones((2, *support.shape))  # what the flow's prior weighs most
    ways = [slow * support, rng.normal(size=(2, *support.shape)) * support]
    ways = jnp.asarray(np.stack(ways), jnp.float32)
    zero = jax.tree.map(jnp.zeros_like, small.theta.maps)

    @jax.jit
    def probes(keys):
        drawn = jax.lax.map(lambda key: target.perturbed_residual(key, zero), keys)
        return jnp.einsum("nqzyx,wqzyx->wn", drawn[""] - target.linear[""], ways)

    seen = np.asarray(probes(jax.random.split(jax.random.key(0), n)), np.float64)
    applied = jax.jit(jax.vmap(target.apply))({"": ways})[""]
    expected = np.einsum("wqzyx,vqzyx->wv", ways, applied).astype(np.float64)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.max(np.abs(np.cov(seen) - expected) / scale) < 4.5 * np.sqrt(2.0 / n)


@pytest.fixture(scope="module")
def plain(small):
    return posterior_mean(small, NoPrior())


@pytest.mark.parametrize(
    ("prior", "slower"),
    [(AdjacentStates(300.0, 8, BOX), 1.5), (MassFlow(300.0, 8, BOX, 1.0, 4.0), 3.0)],
    ids=["adjacent", "flow"],
)
def test_smoothness_holds_the_states_together(small, plain, prior, slower: float) -> None:
    """V hardly changes along tau, its mean over states stays, and the solver hardly notices."""
    mean, iterations = posterior_mean(small, prior)
    assert iterations <= slower * plain[1]
    change, whole = (float(jnp.sum(mean[q] ** 2) / jnp.sum(plain[0][q] ** 2)) for q in (1, 0))
    assert change < 0.1 and whole > 0.8


def negative_mass(theta) -> jnp.ndarray:
    mean, change = theta.maps[""]
    ends = mean + jnp.sqrt(2.0) * jnp.asarray([[[[1.0]]], [[[-1.0]]]]) * change
    return jnp.sum(jnp.maximum(-ends, 0.0), axis=(-3, -2, -1)).mean()


def run(small, prior, steps: int) -> tuple[np.ndarray, float]:
    """Negative mass along a chain of theta alone, [steps], and the mean acceptance."""
    block = theta_exact(replace(small.posterior, density_prior=prior))
    state = ChainState(small.theta, small.mu, small.latents)
    data, mass, acceptance = Data(small.images, small.consensus), [], []
    for key in jax.random.split(jax.random.key(4), steps):
        state, info = block.step(key, state, (), data)
        mass.append(float(negative_mass(state.theta)))
        acceptance.append(float(info.get("acceptance", 1.0)))
    return np.asarray(mass), float(np.mean(acceptance))


@pytest.mark.slow
def test_positivity_pulls_negative_mass_down(small) -> None:
    free, _ = run(small, NoPrior(), 7)
    bound, acceptance = run(small, POSITIVE, 18)
    assert bound[8:].mean() < free[2:].mean() - 3.0 * free[2:].std()
    assert 0.1 < acceptance < 1.0 and len(np.unique(bound)) > 9


def test_recipes_carry_density_priors(tmp_path) -> None:
    tables = {
        "adjacent_states": {"weight": 2.0, "nodes": 8},
        "positivity": {"weight": 1, "width": 0.5},
    }
    path = tmp_path / "recipe.toml"
    write_recipe(path, FitOptions(density_prior=tables))
    assert read_recipe(path) == FitOptions(density_prior=tables)
    path.write_text("[prior]\nmass_flow = { wait = 1.0 }\n")
    with pytest.raises(Exception, match=r"recipe .*prior\.mass_flow: key 'wait' is not known"):
        read_recipe(path)
