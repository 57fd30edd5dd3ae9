"""HMC on targets of known law, and MALA on rotations and folded intervals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from scipy import stats

from hypermol.inference import hamiltonian, langevin
from hypermol.inference.target import Differentiable
from hypermol.space.rotation import (
    matrix_from_quaternion,
    quaternion_from_vector,
    quaternion_multiply,
    random_quaternions,
)
from hypermol.space.state_space import Interval

MEAN = np.array([1.0, -2.0, 0.5])
COVARIANCE = np.array([[1.0, 0.6, 0.0], [0.6, 2.0, -0.5], [0.0, -0.5, 0.5]])


def with_gradient(log_density) -> Differentiable:
    def value_and_gradient(x):
        terms, back = jax.vjp(log_density, x)
        return terms, back(jnp.ones_like(terms))[0]

    return Differentiable(log_density, value_and_gradient)


def gaussian(x: Array) -> Array:
    """Two terms of a Gaussian's log density."""
    away = x - jnp.asarray(MEAN, jnp.float32)
    total = -0.5 * away @ jnp.asarray(np.linalg.inv(COVARIANCE), jnp.float32) @ away
    return jnp.stack([0.25 * total, 0.75 * total])


def double_well(x: Array) -> Array:
    return jnp.sum(-0.25 * x**4 + 0.8 * x**2 + 0.3 * x)


def diagonal_root(x: Array) -> Array:
    return jnp.asarray(np.sqrt(np.diag(COVARIANCE)), jnp.float32) * x


def run(step, start: Array, steps: int, seed: int = 0) -> tuple[Array, Array]:
    """Positions [chains, steps, ...] and mean acceptance of independent chains."""

    def one(key, state):
        def move(state, step_key):
            state, info = step(step_key, state)
            return state, (state.position, info.acceptance)

        return jax.lax.scan(move, state, jax.random.split(key, steps))[1]

    keys = jax.random.split(jax.random.key(seed), len(start.log_density))
    return jax.jit(jax.vmap(one))(keys, start)


@pytest.mark.parametrize("root", [hamiltonian.identity, diagonal_root])
def test_moments_of_a_gaussian(root):
    target = with_gradient(gaussian)
    rng = np.random.default_rng(0)
    start = jnp.asarray(rng.multivariate_normal(MEAN, COVARIANCE, 400), jnp.float32)
    positions, acceptance = run(
        lambda key, state: hamiltonian.step(key, state, target, 0.7, 3, root),
        jax.vmap(lambda x: langevin.init(x, target))(start),
        100,
    )
    assert 0.5 < float(acceptance.mean()) < 0.99
    x = np.asarray(positions, np.float64) - MEAN
    products = (x[..., :, None] * x[..., None, :]).reshape(*x.shape[:2], -1)
    by_chain = np.concatenate([x, products], axis=2).mean(axis=1)
    wanted = np.concatenate([np.zeros(3), COVARIANCE.ravel()])
    z = (by_chain.mean(0) - wanted) / (by_chain.std(0, ddof=1) / np.sqrt(len(by_chain)))
    assert np.abs(z).max() < 4.5


def test_law_of_a_double_well():
    target = with_gradient(double_well)
    start = jax.vmap(lambda x: langevin.init(x, target))(jax.random.normal(jax.random.key(5), 3000))
    positions, acceptance = run(
        lambda key, state: hamiltonian.step(key, state, target, 0.6, 4), start, 80
    )
    assert 0.4 < float(acceptance.mean()) < 0.97  # the correction has work to do
    grid = np.linspace(-5.0, 5.0, 20001)
    density = np.exp(-0.25 * grid**4 + 0.8 * grid**2 + 0.3 * grid)
    cdf = np.cumsum(density) / density.sum()
    last = np.asarray(positions[:, -1], np.float64)
    assert stats.kstest(last, lambda x: np.interp(x, grid, cdf)).pvalue > 1e-3
    # the test can tell: leapfrog without the correction is visibly off

    def uncorrected(key, state):
        momentum = jax.random.normal(key)
        moved, _ = hamiltonian.leapfrog(state, momentum, target, 0.6, 4)
        return moved, hamiltonian.Info(jnp.ones(()), jnp.ones((), bool))

    wrong = np.asarray(run(uncorrected, start, 20)[0][:, -1], np.float64)
    wrong = np.nan_to_num(wrong, nan=10.0)  # orbits that ran away
    assert stats.kstest(wrong, lambda x: np.interp(x, grid, cdf)).pvalue < 1e-3


def test_leapfrog_is_reversible_and_second_order():
    target = with_gradient(gaussian)
    state = langevin.init(jnp.array([0.3, -1.0, 2.0]), target)
    momentum = jnp.array([1.0, -0.5, 0.2])
    moved, there = hamiltonian.leapfrog(state, momentum, target, 0.3, 7, diagonal_root)
    back, home = hamiltonian.leapfrog(moved, -there, target, 0.3, 7, diagonal_root)
    np.testing.assert_allclose(back.position, state.position, atol=2e-5)
    np.testing.assert_allclose(-home, momentum, atol=2e-5)

    def error(n: int) -> float:
        end, p = hamiltonian.leapfrog(state, momentum, target, 1.0 / n, n, diagonal_root)
        change = jnp.sum(end.log_density - state.log_density)
        return abs(float(change - 0.5 * jnp.sum(p**2 - momentum**2)))

    assert error(16) < 0.4 * error(8)


def test_a_target_that_overflows_is_never_accepted():
    target = with_gradient(lambda x: jnp.where(x > 1.0, jnp.nan, -0.5 * x**2))
    state = langevin.init(jnp.array(0.9), target)
    positions, _ = run(
        lambda key, s: hamiltonian.step(key, s, target, 0.5, 3),
        jax.tree.map(lambda x: x[None], state),
        50,
    )
    assert np.isfinite(np.asarray(positions)).all()
    assert np.asarray(positions).max() <= 1.0


CONCENTRATION = 0.4
SLOPE = 3.0


def test_mala_on_rotations_and_a_folded_interval():
    """density exp(c trace R) with respect to Haar measure, times exp(SLOPE state) on [0, 1]."""
    space = Interval()

    def log_density(position):
        quaternion, state = position
        rotation = matrix_from_quaternion(quaternion)
        return CONCENTRATION * jnp.trace(rotation) + SLOPE * space.wrap(state)

    def retract(position, move):
        return quaternion_multiply(quaternion_from_vector(move[0]), position[0]), position[
            1
        ] + move[1]

    def value_and_gradient(position):
        return jax.value_and_grad(lambda move: log_density(retract(position, move)))(
            (jnp.zeros(3), jnp.zeros(()))
        )

    target = Differentiable(log_density, value_and_gradient)
    n = 3000
    first = (random_quaternions(jax.random.key(1), n), jnp.full(n, 0.5))
    start = jax.vmap(lambda x: langevin.init(x, target))(first)
    scale = langevin.diagonal((jnp.ones(3), jnp.array(0.2)))
    (quaternion, state), acceptance = run(
        lambda key, s: langevin.step(key, s, target, 0.9, scale, retract), start, 60
    )
    assert 0.3 < float(acceptance.mean()) < 0.97
    rotation = np.asarray(matrix_from_quaternion(quaternion[:, -1]), np.float64)
    angle = np.arccos(np.clip(0.5 * (np.trace(rotation, axis1=1, axis2=2) - 1.0), -1, 1))
    grid = np.linspace(0, np.pi, 10001)
    density = (1.0 - np.cos(grid)) * np.exp(2.0 * CONCENTRATION * np.cos(grid))
    cdf = np.cumsum(density) / density.sum()
    assert stats.kstest(angle, lambda x: np.interp(x, grid, cdf)).pvalue > 1e-3
    folded = np.asarray(space.wrap(state[:, -1]), np.float64)
    law = lambda x: np.expm1(SLOPE * x) / np.expm1(SLOPE)  # noqa: E731
    assert stats.kstest(folded, law).pvalue > 1e-3
