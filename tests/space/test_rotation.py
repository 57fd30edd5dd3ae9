"""Rotations against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.space import rotation
from hypermol.space.rotation import angle_between, quaternion_conjugate, quaternion_from_matrix

matrix_from_quaternion = jax.jit(rotation.matrix_from_quaternion)
quaternion_from_vector = jax.jit(rotation.quaternion_from_vector)
quaternion_multiply = jax.jit(rotation.quaternion_multiply)
rotation_from_vector = jax.jit(rotation.rotation_from_vector)
vector_from_quaternion = jax.jit(rotation.vector_from_quaternion)

SCALES = [1e-6, 1e-4, 1e-2, 0.5, 1.0]


def rotations(n: int = 50, seed: int = 0) -> Rotation:
    return Rotation.random(n, random_state=seed)


def wxyz(turns: Rotation) -> np.ndarray:
    return turns.as_quat()[:, [3, 0, 1, 2]].astype(np.float32)


def test_matrices_of_quaternions():
    r = rotations()
    np.testing.assert_allclose(matrix_from_quaternion(wxyz(r)), r.as_matrix(), atol=1e-6)
    np.testing.assert_allclose(matrix_from_quaternion(3.0 * wxyz(r)), r.as_matrix(), atol=1e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_vectors(scale: float):
    vectors = scale * rotations().as_rotvec()
    expected = Rotation.from_rotvec(vectors)
    v = jnp.asarray(vectors, jnp.float32)
    np.testing.assert_allclose(rotation_from_vector(v), expected.as_matrix(), atol=1e-6)
    q = quaternion_from_vector(v)
    np.testing.assert_allclose(jnp.linalg.norm(q, axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(matrix_from_quaternion(q), expected.as_matrix(), atol=1e-6)
    np.testing.assert_allclose(vector_from_quaternion(q), vectors, atol=2e-5 * scale + 1e-8)


def test_products_and_inverses():
    a, b = rotations(seed=1), rotations(seed=2)
    product = quaternion_multiply(jnp.asarray(wxyz(a)), jnp.asarray(wxyz(b)))
    np.testing.assert_allclose(matrix_from_quaternion(product), (a * b).as_matrix(), atol=1e-6)
    inverse = quaternion_conjugate(jnp.asarray(wxyz(a)))
    np.testing.assert_allclose(matrix_from_quaternion(inverse), a.inv().as_matrix(), atol=1e-6)


def test_quaternions_of_matrices_at_every_angle():
    turns = Rotation.from_rotvec(np.pi * np.eye(3)).as_matrix()
    matrices = np.concatenate([rotations().as_matrix(), turns, np.eye(3)[None]])
    q = quaternion_from_matrix(matrices)
    assert q.dtype == np.float64
    assert np.all(q[:, 0] >= 0)
    back = Rotation.from_quat(q[:, [1, 2, 3, 0]]).as_matrix()
    np.testing.assert_allclose(back, matrices, atol=1e-12)


def test_angle_between():
    r = rotations()
    for degrees in (1e-5, 0.1, 3.0, 179.0):
        axis = np.array([1.0, -2.0, 0.5]) / np.linalg.norm([1.0, -2.0, 0.5])
        turn = Rotation.from_rotvec(np.deg2rad(degrees) * axis)
        found = angle_between(r.as_matrix(), (turn * r).as_matrix())
        np.testing.assert_allclose(found, degrees, rtol=1e-6)


@pytest.mark.parametrize("function", [rotation_from_vector, quaternion_from_vector])
def test_gradients_at_zero(function):
    slopes = jax.jit(jax.jacfwd(function))(jnp.zeros(3))
    assert np.all(np.isfinite(slopes))
    step = 1e-3
    for axis in np.eye(3, dtype=np.float32):
        change = np.asarray(function(step * axis)) - np.asarray(function(-step * axis))
        np.testing.assert_allclose(np.asarray(slopes) @ axis, change / (2 * step), atol=1e-4)


def test_random_quaternions_are_uniform():
    """Moments of Haar measure: the mean matrix is 0, the mean square of its entries 1/3."""
    quaternions = rotation.random_quaternions(jax.random.key(0), 20000)
    matrices = np.asarray(matrix_from_quaternion(quaternions))
    assert np.abs(matrices.mean(axis=0)).max() < 0.02
    assert np.abs((matrices**2).mean(axis=0) - 1 / 3).max() < 0.01
