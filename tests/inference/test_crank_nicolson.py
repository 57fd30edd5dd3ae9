"""Crank-Nicolson steps on two dimensions: moments by quadrature, and detailed balance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.inference import crank_nicolson, exact
from hypermol.inference.crank_nicolson import Solver
from hypermol.inference.target import Differentiable, Quadratic, Tilted

A = np.array([[2.0, 0.8], [0.8, 1.0]])
LINEAR = np.array([0.5, -1.0])
ROOT = np.linalg.cholesky(A)
SOLVER = Solver(1e-4, 20)


def tilt(x):
    """Soft positivity of the first, a bend along the second: neither convex nor symmetric."""
    bend = jnp.sin(2.0 * x["b"]) - 0.4 * x["a"] * x["b"] / (1.0 + x["b"] ** 2)
    return jnp.stack([-3.0 * jax.nn.softplus(-x["a"] / 0.3) ** 2 / 9.0, bend])


def vector(x):
    return jnp.stack([x["a"], x["b"]])


def tree(v):
    return {"a": v[0], "b": v[1]}


def value_and_gradient(x):
    terms, transpose = jax.vjp(tilt, x)
    return terms, transpose(jnp.ones_like(terms))[0]


def perturbed(key, x):
    return tree(LINEAR - A @ vector(x) + ROOT @ jax.random.normal(key, (2,)))


GAUSSIAN = Quadratic(
    apply=lambda x: tree(A @ vector(x)),
    linear=tree(jnp.asarray(LINEAR)),
    perturbed_residual=perturbed,
    precondition=lambda r: {"a": r["a"] / 2.0, "b": r["b"]},
    dimension=2,
)
TARGET = Tilted(GAUSSIAN, Differentiable(tilt, value_and_gradient))


@pytest.fixture(scope="module")
def grid():
    """Points [n, 2] and their probabilities."""
    axis = np.linspace(-6.0, 7.0, 700)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    log = points @ LINEAR - 0.5 * np.einsum("ni,ij,nj->n", points, A, points)
    log += np.asarray(jax.vmap(lambda v: jnp.sum(tilt(tree(v))))(points), np.float64)
    chance = np.exp(log - log.max())
    return points, chance / chance.sum()


def functions(x):
    """[..., 6]: moments, a quadrant, and the tilt's own scale."""
    a, b = x[..., 0], x[..., 1]
    return np.stack([a, b, a**2, b**2, a * b, (a > 0.3) & (b < 0.0)], axis=-1)


def chains(share, n_chains: int, steps: int) -> np.ndarray:
    """[steps, n_chains, 2]; `share` None draws a new one every step."""

    def chain(key):
        mean, _ = exact.mean(GAUSSIAN, tree(jnp.zeros(2)), *SOLVER)
        start, _ = crank_nicolson.init(tree(jnp.zeros(2)), TARGET, SOLVER)

        def one(state, step_key):
            keys = jax.random.split(step_key)
            b = (
                jnp.exp(jax.random.uniform(keys[0], minval=np.log(0.05)))
                if share is None
                else share
            )
            state, _ = crank_nicolson.step(keys[1], state, TARGET, mean, b, SOLVER)
            return state, vector(state.position)

        return jax.lax.scan(one, start, jax.random.split(key, steps))[1]

    run = jax.jit(jax.vmap(chain, out_axes=1))
    return np.asarray(run(jax.random.split(jax.random.key(1), n_chains)), np.float64)


@pytest.mark.parametrize(("share", "steps"), [(0.6, 300), (1.0, 300), (None, 500)])
def test_moments_are_those_of_quadrature(grid, share, steps: int) -> None:
    expected = grid[1] @ functions(grid[0])
    means = functions(chains(share, 400, steps)[steps // 3 :]).mean(axis=0)
    z = (means.mean(axis=0) - expected) / (means.std(axis=0, ddof=1) / np.sqrt(len(means)))
    assert np.abs(z).max() < 4.5
    # the tilt matters, and the test resolves it
    gaussian = np.linalg.solve(A, LINEAR)
    assert np.all(np.abs(gaussian - expected[:2]) > 0.15)
    assert np.all(means.std(axis=0) / 20 < 0.02 * np.maximum(np.abs(expected), 0.5))


def test_pairs_of_a_stationary_chain_are_exchangeable(grid) -> None:
    """Reversibility: E[f(x) g(x')] = E[g(x) f(x')] for a start at the target itself."""
    points, chance = grid
    starts = points[np.random.default_rng(0).choice(len(points), 40_000, p=chance)]

    @jax.jit
    @jax.vmap
    def move(key, v):
        mean, _ = exact.mean(GAUSSIAN, tree(jnp.zeros(2)), *SOLVER)
        state, _ = crank_nicolson.init(tree(v), TARGET, SOLVER)
        state, info = crank_nicolson.step(key, state, TARGET, mean, 0.7, SOLVER)
        return vector(state.position), info.acceptance

    ends, acceptance = move(
        jax.random.split(jax.random.key(2), len(starts)), jnp.asarray(starts, jnp.float32)
    )
    before, after = functions(starts), functions(np.asarray(ends, np.float64))
    antisymmetric = before[:, :, None] * after[:, None] - after[:, :, None] * before[:, None]
    z = antisymmetric.mean(axis=0) / (antisymmetric.std(axis=0) / 200.0 + 1e-12)
    assert np.abs(z).max() < 4.5
    z = (after - before).mean(axis=0) / ((after - before).std(axis=0) / 200.0)
    assert np.abs(z).max() < 4.5
    assert 0.6 < float(acceptance.mean()) < 0.99


def test_without_tilt_every_step_is_taken() -> None:
    flat = Tilted(
        GAUSSIAN,
        Differentiable(
            lambda x: jnp.zeros(1), lambda x: (jnp.zeros(1), jax.tree.map(jnp.zeros_like, x))
        ),
    )
    mean, _ = exact.mean(GAUSSIAN, tree(jnp.zeros(2)), *SOLVER)
    state, _ = crank_nicolson.init(tree(jnp.asarray([3.0, -2.0])), flat, SOLVER)
    for seed, share in enumerate((0.1, 0.5, 1.0)):
        key = jax.random.key(seed)
        state, info = crank_nicolson.step(key, state, flat, mean, share, SOLVER)
        assert float(info.acceptance) == 1.0 and float(info.error_in_sd) < 1e-3
