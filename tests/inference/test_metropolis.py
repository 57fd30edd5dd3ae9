"""Random-walk Metropolis and MALA on targets of known mean and covariance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from hypermol.inference import langevin, metropolis
from hypermol.inference.target import Density, Differentiable
from hypermol.space.state_space import Interval

MEAN = np.array([1.0, -2.0, 0.5])
COVARIANCE = np.array([[1.0, 0.6, 0.0], [0.6, 2.0, -0.5], [0.0, -0.5, 0.5]])
CHAINS = 400


def split(x: Array) -> dict[str, Array]:
    """The target's coordinates as a pytree."""
    return {"first": x[:1], "rest": (x[1:],)}


def join(tree: dict[str, Array]) -> Array:
    return jnp.concatenate([tree["first"], tree["rest"][0]])


def log_density(tree: dict[str, Array]) -> Array:
    """A Gaussian's log density as two terms."""
    away = join(tree) - jnp.asarray(MEAN, jnp.float32)
    total = -0.5 * away @ jnp.asarray(np.linalg.inv(COVARIANCE), jnp.float32) @ away
    return jnp.stack([0.25 * total, 0.75 * total])


def value_and_gradient(tree: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
    terms, back = jax.vjp(log_density, tree)
    return terms, back(jnp.ones_like(terms))[0]


TARGET = Differentiable(log_density, value_and_gradient)
DENSE = langevin.dense(jnp.asarray(np.linalg.cholesky(COVARIANCE), jnp.float32))
DIAGONAL = langevin.diagonal(split(jnp.asarray(np.diag(COVARIANCE), jnp.float32)))


def walk(key, state):
    return metropolis.step(key, state, Density(log_density), metropolis.gaussian_walk(0.9))


def mala(key, state):
    return langevin.step(key, state, TARGET, 0.8)


def preconditioned(key, state):
    return langevin.step(key, state, TARGET, 1.0, DIAGONAL)


def shaped(key, state):
    return langevin.step(key, state, TARGET, 1.0, DENSE)


def run(step, init, start: Array, steps: int, seed: int = 0) -> Array:
    """[chains, steps, d] positions of independent chains."""

    def one(key: Array, x: Array) -> Array:
        def move(state, step_key):
            state, _ = step(step_key, state)
            return state, join(state.position)

        return jax.lax.scan(move, init(split(x)), jax.random.split(key, steps))[1]

    keys = jax.random.split(jax.random.key(seed), len(start))
    return jax.jit(jax.vmap(one))(keys, start)


def exact_start(n: int) -> Array:
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.multivariate_normal(MEAN, COVARIANCE, n), jnp.float32)


def assert_moments(positions: Array) -> None:
    """Mean and covariance within 4.5 standard errors over independent chains."""
    x = np.asarray(positions, np.float64) - MEAN
    products = np.concatenate([x, (x[..., :, None] * x[..., None, :]).reshape(*x.shape[:2], -1)], 2)
    by_chain = products.mean(axis=1)
    wanted = np.concatenate([np.zeros(3), COVARIANCE.ravel()])
    z = (by_chain.mean(0) - wanted) / (by_chain.std(0, ddof=1) / np.sqrt(len(by_chain)))
    assert np.abs(z).max() < 4.5, z


@pytest.mark.parametrize(
    ("step", "init"),
    [
        (walk, lambda x: metropolis.init(x, Density(log_density))),
        (mala, lambda x: langevin.init(x, TARGET)),
        (preconditioned, lambda x: langevin.init(x, TARGET)),
        (shaped, lambda x: langevin.init(x, TARGET)),
    ],
)
def test_chains_started_from_the_target_stay_there(step, init):
    assert_moments(run(step, init, exact_start(CHAINS), 300)[:, 20:])


def test_chains_started_far_away_arrive():
    far = jnp.full((CHAINS, 3), 8.0)
    positions = run(mala, lambda x: langevin.init(x, TARGET), far, 400)
    assert_moments(positions[:, 150:])


def test_mala_without_its_hastings_ratio_would_be_caught(monkeypatch):
    choice = langevin.metropolis_choice
    monkeypatch.setattr(
        langevin, "metropolis_choice", lambda key, ratio, *rest: choice(key, ratio * 0.0, *rest)
    )
    positions = run(mala, lambda x: langevin.init(x, TARGET), exact_start(CHAINS), 300)
    with pytest.raises(AssertionError):
        assert_moments(positions[:, 20:])


def test_walk_reflects_at_the_ends_of_an_interval():
    space = Interval()

    def log_linear(tau: Array) -> Array:
        return jnp.log(0.2 + tau[0])

    def move(state, key):
        propose = metropolis.gaussian_walk(0.5, space.wrap)
        state, _ = metropolis.step(key, state, Density(log_linear), propose)
        return state, state.position[0]

    def chain(key):
        start = metropolis.init(jnp.full(1, 0.5), Density(log_linear))
        return jax.lax.scan(move, start, jax.random.split(key, 400))[1]

    tau = np.asarray(jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(1), 200)))[:, 50:]
    edges = np.linspace(0, 1, 6)
    expected = np.diff(0.2 * edges + edges**2 / 2) / 0.7
    observed = np.stack([np.histogram(row, edges)[0] / len(row) for row in tau])
    z = (observed.mean(0) - expected) / (observed.std(0, ddof=1) / np.sqrt(len(tau)))
    assert np.abs(z).max() < 4.0


def test_nan_is_never_accepted():
    taken, info = metropolis.metropolis_choice(
        jax.random.key(0), jnp.nan, jnp.ones(2), jnp.zeros(2)
    )
    assert not bool(info.accepted)
    assert float(taken.sum()) == 0.0


def test_terms_keep_differences_that_their_sum_would_lose():
    """Half-chi^2 of 2e8 in float32 resolves 16: a step worth 0.5 must still count."""
    big = jnp.full(20000, 1.0e4)

    def terms(x: Array) -> Array:
        return -big + x[0] / 20000.0

    target = Density(terms)
    low, high = metropolis.init(jnp.zeros(1), target), metropolis.init(jnp.full(1, 40.0), target)
    assert float(jnp.sum(high.log_density - low.log_density)) == pytest.approx(40.0, abs=2.0)


def test_step_size_adapts_to_the_wanted_acceptance():
    def one(carry, key):
        state, size = carry
        state, info = langevin.step(key, state, TARGET, jnp.exp(size.log_size))
        return (state, langevin.adapt(size, info.acceptance)), info.acceptance

    start = (langevin.init(split(jnp.asarray(MEAN, jnp.float32)), TARGET),)
    for first in (0.01, 30.0):
        carry = (*start, langevin.first_step_size(first))
        _, acceptance = jax.lax.scan(one, carry, jax.random.split(jax.random.key(2), 3000))
        assert float(acceptance[1500:].mean()) == pytest.approx(
            langevin.OPTIMAL_ACCEPTANCE, abs=0.06
        )
