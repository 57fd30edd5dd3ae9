"""Proposals from anywhere have the density they claim, and picks among them are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from hypermol.inference.anywhere import (
    Cells,
    Offered,
    Poses,
    anywhere_step,
    draw_pivots,
    log_proposal,
    propose,
)
from hypermol.inference.ensemble import CandidateCounts, Particles
from hypermol.inference.rotation_priors import Anywhere
from hypermol.inference.target import Separable
from hypermol.space.rotation import quaternion_multiply, random_quaternions
from hypermol.space.rotation_grid import super_fibonacci

REACH, SPACING = 0.6, 1.5
DRAWS = 40000


def cells() -> Cells:
    turn = random_quaternions(jax.random.key(8), 1)
    grid = quaternion_multiply(jnp.asarray(super_fibonacci(150), jnp.float32), turn)
    axis = SPACING * np.arange(-1, 2)
    shifts = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    return Cells(grid, jnp.asarray(shifts, jnp.float32), REACH, SPACING)


def chance(seed: int = 0) -> Array:
    weights = np.random.default_rng(seed).gamma(0.3, size=(150, 9))
    return jnp.asarray(weights / weights.sum(), jnp.float32)


def drawn() -> tuple[Poses, np.ndarray]:
    poses = jax.jit(lambda key: propose(key, cells(), chance(), DRAWS))(jax.random.key(1))
    return poses, np.asarray(log_proposal(cells(), chance(), poses), np.float64)


def test_the_density_is_that_of_the_draws():
    """Means over draws, weighed by a known density over theirs, are that density's means."""
    poses, log_q = drawn()
    q, s = np.asarray(poses.quaternion, np.float64), np.asarray(poses.shift_px, np.float64)
    # 2 q_0^2 is a density under Haar measure times 4 / 2: the mean of q_0^2 is 1 / 4
    half = 1.5 * SPACING
    assert cells().half_px == half and np.abs(s).max() <= half
    ratio = 4.0 * q[:, 0] ** 2 / (2.0 * half) ** 2 / np.exp(log_q)
    for value, wanted in [
        (np.ones(DRAWS), 1.0),
        (q[:, 0] ** 2, 0.5),
        (q[:, 1] ** 2, 1.0 / 6.0),
        (q[:, 0] * q[:, 1], 0.0),
        (s[:, 0], 0.0),
        (s[:, 1] ** 2, half**2 / 3.0),
    ]:
        product = ratio * value
        assert abs(product.mean() - wanted) < 5.0 * product.std() / np.sqrt(DRAWS)


def test_draws_are_unit_quaternions_where_their_density_is_not_low():
    poses, log_q = drawn()
    assert np.allclose(np.linalg.norm(poses.quaternion, axis=-1), 1.0, atol=1e-5)
    assert np.all(np.isfinite(log_q))


def blind_target(centre: Array) -> Separable:
    """Images say nothing: rotations of density 4 q_0^2, shifts Gaussian about a centre."""

    def evidence(rotations: Array, states: Array, shifts: Array) -> tuple[Array, Array]:
        shape = rotations.shape[:2]
        return jnp.zeros((*shape, 1, 1)), jnp.zeros((*shape, shifts.shape[1], 1))

    return Separable(
        evidence=evidence,
        weights=lambda tau: jnp.ones((*tau.shape[:-1], 1)),
        lattice=lambda tau, n: tau[None],
        is_position=(),
        rotation_prior=Anywhere(),
        log_rotation=lambda q: jnp.log(jnp.maximum(q[..., 0] ** 2, 1e-30)),
        log_shift=lambda s: -0.5 * jnp.sum((s - centre) ** 2, axis=-1) / 0.7**2,
        log_state=lambda tau: jnp.zeros(tau.shape[:-1]),
        contrast_precision=jnp.asarray(4.0),
    )


@pytest.mark.parametrize("steps", [1, 8])
def test_a_known_density_is_left_as_it_is(steps: int):
    """From exact draws of it."""
    n, block = 15, 8000
    keys = jax.random.split(jax.random.key(4), 4)
    many = random_quaternions(keys[0], 8 * block)
    kept = np.flatnonzero(
        np.asarray(jax.random.uniform(keys[1], (8 * block,))) < np.asarray(many[:, 0]) ** 2
    )[:block]
    centre = jnp.asarray([0.4, -0.2])
    start = Particles(
        many[kept],
        centre + 0.7 * jax.random.normal(keys[2], (len(kept), 2)),
        jnp.ones(len(kept)),
        jnp.zeros((len(kept), 0)),
    )

    target = blind_target(centre)

    @jax.jit
    def step(key: Array, particles: Particles) -> tuple[Particles, Array]:
        pair = jax.random.split(key)

        def offer(item: tuple[Array, Array, Array]) -> tuple[Poses, Array]:
            key, q, s = item
            pair = jax.random.split(key)
            pivot = draw_pivots(pair[0], cells(), s)
            poses = propose(pair[1], cells(), chance(), n)
            now = (q, s - pivot)
            every = Poses(*(jnp.concatenate([a[None], b]) for a, b in zip(now, poses, strict=True)))
            log_density = log_proposal(cells(), chance(), every)
            return poses._replace(shift_px=pivot + poses.shift_px), log_density

        keys = jax.random.split(pair[0], len(particles.contrast))
        poses, log_density = jax.lax.map(
            offer, (keys, particles.quaternion, particles.shift_px), batch_size=500
        )
        offered = Offered(poses, log_density)
        return anywhere_step(pair[1], particles, target, offered, CandidateCounts(1, 1, 1))

    now = start
    for key in jax.random.split(keys[3], steps):
        now, jumped = step(key, now)
    assert 0.3 < float(jnp.mean(jumped)) < 1.0
    q, s = np.asarray(now.quaternion, np.float64), np.asarray(now.shift_px, np.float64)
    for value, wanted in [
        (q[:, 0] ** 2, 0.5),
        (q[:, 0] ** 4, 0.3125),
        (q[:, 1] * q[:, 2], 0.0),
        (s[:, 0], 0.4),
        (s[:, 1] ** 2, 0.7**2 + 0.2**2),
    ]:
        assert abs(value.mean() - wanted) < 4.5 * value.std() / np.sqrt(len(value))
