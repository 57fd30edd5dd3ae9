"""Perturb-and-solve draws against dense linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.inference import exact
from hypermol.inference.target import Quadratic

D = 8
ROOT = np.random.default_rng(0).normal(size=(D, 20)) * np.geomspace(0.3, 3.0, D)[:, None]
MATRIX = ROOT @ ROOT.T
LINEAR = np.random.default_rng(1).normal(size=D)


def target(scale: float = 1.0) -> Quadratic:
    """A Gaussian; `scale` multiplies the covariance of the perturbation (1 is right)."""
    matrix, root = jnp.asarray(MATRIX, jnp.float32), jnp.asarray(ROOT, jnp.float32)
    linear = jnp.asarray(LINEAR, jnp.float32)
    return Quadratic(
        apply=lambda x: matrix @ x,
        linear=linear,
        perturbed_residual=lambda key, x: (
            linear - matrix @ x + np.sqrt(scale) * root @ jax.random.normal(key, (20,))
        ),
        precondition=lambda r: r / jnp.diag(matrix),
        dimension=D,
    )


def draws(quadratic: Quadratic, n: int = 20000) -> np.ndarray:
    def one(key):
        return exact.draw(key, quadratic, jnp.zeros(D), 1e-4, 50)[0]

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), n)), np.float64)


def whitened(x: np.ndarray) -> np.ndarray:
    mean = np.linalg.solve(MATRIX, LINEAR)
    return (x - mean) @ np.linalg.cholesky(MATRIX)


def moments_agree(x: np.ndarray) -> bool:
    white = whitened(x)
    n = len(white)
    covariance = white.T @ white / n
    return bool(
        np.abs(white.mean(axis=0)).max() < 4.5 / np.sqrt(n)
        and np.abs(covariance - np.eye(D)).max() < 4.5 * np.sqrt(2.0 / n)
    )


def test_draws_have_the_mean_and_covariance_of_the_gaussian():
    assert moments_agree(draws(target()))


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_a_perturbation_of_the_wrong_size_is_caught(scale: float):
    assert not moments_agree(draws(target(scale)))


def test_the_start_does_not_matter():
    key = jax.random.key(3)
    near, _ = exact.draw(key, target(), jnp.zeros(D), 1e-5, 100)
    far, record = exact.draw(key, target(), jnp.full(D, 100.0), 1e-5, 100)
    np.testing.assert_allclose(near, far, atol=2e-3)
    assert int(record.iterations) < 100


def test_the_reported_error_is_in_standard_deviations():
    """With 2 iterations the solve is poor, and says so within a factor of the preconditioner."""
    x, record = exact.mean(target(), jnp.full(D, 1.0), 1e-6, 2)
    away = whitened(np.asarray(x, np.float64))
    truth = np.sqrt(np.mean(away**2))
    assert int(record.iterations) == 2
    assert 0.2 * truth < float(record.error_in_sd) < 5.0 * truth


def test_converged_solve_stops_at_once():
    solution = jnp.asarray(np.linalg.solve(MATRIX, LINEAR), jnp.float32)
    _, record = exact.mean(target(), solution, 1e-2, 50)
    assert int(record.iterations) == 0


def test_a_solve_of_what_is_nearly_the_same_preconditions():
    """Draws are of the target, not of what it is near to, after fewer of its products."""
    rng = np.random.default_rng(2)
    skewed = MATRIX * (1.0 + 0.03 * rng.normal(size=(D, 1))) * (1.0 + 0.03 * rng.normal(size=D))
    near = jnp.asarray(0.5 * (skewed + skewed.T), jnp.float32)
    plain = target()
    nested = plain._replace(
        precondition=exact.inverse(lambda x: near @ x, plain.precondition, plain.dimension)
    )
    assert moments_agree(draws(nested))
    records = [exact.draw(jax.random.key(0), q, jnp.zeros(D), 0.05, 50)[1] for q in (plain, nested)]
    assert int(records[1].iterations) < int(records[0].iterations)
    assert float(records[1].error_in_sd) < 0.05
