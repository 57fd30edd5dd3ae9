"""The burn-in step that gives every state the frame in which the molecule moves least."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from hypermol.data.latents import Latents
from hypermol.fitting.blocks.resting_frame import rigid_parts, take_out_own_motion
from hypermol.molecule.state_basis import Cosine
from hypermol.space.rotation import matrix_from_quaternion, random_quaternions

BLOCKS, B, SIDE, PX = 4, 16, 24, 2.0
BASIS = Cosine(2)
PLACES = np.random.default_rng(2).normal(0.0, 3.0, (12, 3))


def blobs(places: np.ndarray) -> np.ndarray:
    """Gaussians at places [A, 3] (x, y, z) in voxels from n // 2: [z, y, x]."""
    axis = np.arange(SIDE) - SIDE // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    grid = np.stack([x, y, z], axis=-1)
    return sum(np.exp(-0.5 * ((grid - place) ** 2).sum(-1) / 1.8**2) for place in places)


def moved(turn: np.ndarray, move: np.ndarray) -> np.ndarray:
    return blobs(Rotation.from_rotvec(turn).apply(PLACES) + move)


def test_a_turned_and_moved_density_is_told():
    turn, move = np.array([0.03, -0.02, 0.04]), np.array([0.2, -0.1, 0.15])
    change = jnp.asarray(moved(turn, move) - blobs(PLACES), jnp.float32)
    found = rigid_parts(jnp.asarray(blobs(PLACES), jnp.float32), change[None])[0]
    np.testing.assert_allclose(found[:3], turn, atol=0.003)
    np.testing.assert_allclose(found[3:], move, atol=0.02)


def test_a_molecule_at_rest_comes_out_and_images_stay_the_same():
    """States that turn and move the whole molecule: poses take the motion over."""
    turn, move = np.array([0.02, 0.03, -0.03]), np.array([0.2, 0.1, -0.2])
    plus, minus = moved(turn, move), moved(-turn, -move)
    shown = jnp.asarray(np.stack([0.5 * (plus + minus), 0.5 * (plus - minus)]), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 2)
    quaternion = random_quaternions(keys[0], BLOCKS * B).reshape(BLOCKS, B, 4)
    state = jax.random.uniform(keys[1], (BLOCKS, B, 1))
    weights = BASIS(state)
    # V(tau) = first + second x weight: moved by weight x (turn, move), to first order
    shift = jnp.zeros((BLOCKS, B, 2))
    latents = Latents(quaternion, shift, jnp.ones((BLOCKS, B)), state)
    settled, turned, drifted = take_out_own_motion(
        shown, weights, latents, jnp.ones((BLOCKS, B)), PX
    )
    amount = np.asarray(weights[..., 1] - weights[..., 1].mean())[..., None]
    old = Rotation.from_matrix(np.asarray(matrix_from_quaternion(quaternion)).reshape(-1, 3, 3))
    new = matrix_from_quaternion(settled.quaternion).reshape(-1, 3, 3)
    # a point r of the molecule at rest stood at exp(amount turn) r + amount move: same image
    point = np.array([2.0, -3.0, 1.0])
    flat = amount.reshape(-1, 1)
    where = Rotation.from_rotvec(flat * turn).apply(np.tile(point, (len(flat), 1))) + flat * move
    seen_before = PX * old.apply(where)[:, :2]
    seen_after = PX * (np.asarray(new) @ point)[:, :2] + np.asarray(settled.shift_px).reshape(-1, 2)
    before = np.abs(PX * old.apply(point)[:, :2] - seen_before).mean()
    assert np.abs(seen_after - seen_before).mean() < 0.15 * before
    assert float(turned) > 0.01 and float(drifted) > 0.1


def test_absent_particles_do_not_speak():
    shown = jnp.asarray(np.stack([blobs(PLACES), moved(np.full(3, 0.05), np.zeros(3))]))
    keys = jax.random.split(jax.random.key(0), 2)
    quaternion = random_quaternions(keys[0], BLOCKS * B).reshape(BLOCKS, B, 4)
    state = jax.random.uniform(keys[1], (BLOCKS, B, 1))
    latents = Latents(quaternion, jnp.zeros((BLOCKS, B, 2)), jnp.ones((BLOCKS, B)), state)
    present = jnp.ones((BLOCKS, B)).at[-1].set(0.0)
    weights = BASIS(state)
    one = take_out_own_motion(shown, weights, latents, present, PX)[0]
    other = take_out_own_motion(shown, weights.at[-1].set(9.0), latents, present, PX)[0]
    np.testing.assert_allclose(one.quaternion[:-1], other.quaternion[:-1], atol=1e-6)
