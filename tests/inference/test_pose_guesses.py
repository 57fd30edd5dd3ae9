"""Guesses of rotations: learned from draws, begun anew after a jump, exact when they are bad."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.spatial.transform import Rotation

from hypermol.inference.pose_guesses import carried, first_seen, seen_again
from hypermol.inference.rotation_priors import Guess, Guessed
from hypermol.space.rotation import quaternion_from_vector, quaternion_multiply

SD_RAD = np.array([0.02, 0.04, 0.09])
N = 3000


def about(rng, centre, sd_rad):
    """Draws of rotations exp(w) R_centre, w ~ N(0, diag(sd^2)), quaternions [N, 4]."""
    vectors = jnp.asarray(rng.normal(size=(N, 3)) * sd_rad, jnp.float32)
    return quaternion_multiply(quaternion_from_vector(vectors), centre)


def learned(rng, centre, sweeps):
    seen = first_seen(about(rng, centre, SD_RAD))
    for _ in range(sweeps):
        seen = seen_again(seen, about(rng, centre, SD_RAD))
    return seen


@pytest.fixture(scope="module")
def centre():
    turn = Rotation.from_rotvec([0.3, -1.0, 0.7]).as_quat(canonical=True, scalar_first=True)
    return jnp.broadcast_to(jnp.asarray(turn, jnp.float32), (N, 4))


def test_a_guess_learns_where_a_rotation_is_and_how_wide(centre):
    rng = np.random.default_rng(0)
    few, many = learned(rng, centre, 3), learned(rng, centre, 150)
    mean = np.asarray(many.covariance, np.float64).mean(axis=0)
    np.testing.assert_allclose(mean, np.diag(SD_RAD**2), rtol=0.08, atol=2e-5)
    assert np.all(np.diagonal(few.covariance, axis1=1, axis2=2).mean(axis=0)[:2] > SD_RAD[:2] ** 2)
    away = (
        Rotation.from_quat(many.centre, scalar_first=True)
        * Rotation.from_quat(centre, scalar_first=True).inv()
    )
    assert np.sqrt(np.mean(away.magnitude() ** 2)) < 0.35 * np.sqrt(np.sum(SD_RAD**2))
    wider = np.asarray(many.guess.covariance)
    assert np.all(np.linalg.eigvalsh(wider - np.asarray(many.covariance)) > 0)


def test_a_guess_begins_anew_where_a_rotation_jumped(centre):
    rng = np.random.default_rng(1)
    seen = learned(rng, centre, 40)
    there = about(rng, centre, SD_RAD)
    far = quaternion_multiply(quaternion_from_vector(jnp.array([0.0, 1.0, 0.0])), there[:10])
    after = seen_again(seen, there.at[:10].set(far))
    np.testing.assert_array_equal(after.centre[:10], far)
    np.testing.assert_array_equal(after.draws[:10], 0.0)
    assert np.mean(np.asarray(after.draws[10:]) > 0) > 0.999
    assert np.all(np.asarray(carried(seen).draws) <= 5.0)


@pytest.mark.parametrize("kappa, width", [(3.0, 0.9), (30.0, 0.5), (30.0, 0.25)])
def test_draws_from_a_bad_guess_have_the_wanted_law(centre, kappa, width):
    """P(q) ~ exp(kappa (q . q0)^2), Bingham's: t = q . q0 is distributed as
    exp(kappa t^2) sqrt(1 - t^2). The guess is off by 0.15 radians, and elongated."""
    off = jnp.array([0.15, 0.0, 0.0])
    covariance = jnp.diag(jnp.array([1.0, 0.7, 1.3]) ** 2) * width**2
    guess = Guess(
        quaternion_multiply(quaternion_from_vector(off), centre),
        jnp.broadcast_to(covariance, (N, 3, 3)),
    )
    prior = Guessed(guess, lambda q: kappa * jnp.sum(q * centre[:, None], axis=-1) ** 2)

    def step(quaternion, key):
        keys = jax.random.split(key)
        every, log_weight = prior.candidates(keys[0], quaternion, jnp.zeros(N), 6)
        chosen = jax.random.categorical(keys[1], log_weight)
        quaternion = every[jnp.arange(N), chosen]
        return quaternion, jnp.sum(quaternion * centre, axis=-1) ** 2

    steps = jax.random.split(jax.random.key(3), 400)
    _, squares = jax.lax.scan(step, centre, steps)
    squares = np.asarray(squares[100:], np.float64)

    def moment(power):
        return quad(
            lambda t: t**power * np.exp(kappa * (t**2 - 1)) * np.sqrt(1 - t**2), -1, 1, points=[0]
        )[0]

    wanted = moment(2) / moment(0)
    error = squares.mean(axis=0).std() / np.sqrt(N)
    assert abs(squares.mean() - wanted) < 4.0 * error
    assert error < 0.02 * (1.0 - wanted) + 1e-4


def test_one_candidate_leaves_a_rotation_where_it_is(centre):
    guess = first_seen(centre).guess
    kept, weight = Guessed(guess, lambda q: q[..., 0]).candidates(
        jax.random.key(0), centre, jnp.zeros(N), 1
    )
    np.testing.assert_array_equal(kept[:, 0], centre)
    assert not np.any(weight)
