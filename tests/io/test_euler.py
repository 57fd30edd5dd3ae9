"""Euler angles against scipy's rotations and, in test_star, against RELION's projections."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.io.euler import euler_from_rotation, rotation_from_euler, rotation_from_vector


def counter_clockwise_z(angle_deg: float) -> np.ndarray:
    return Rotation.from_euler("z", angle_deg, degrees=True).as_matrix()


def test_matrix_is_the_product_stated_in_conventions():
    rot, tilt, psi = 31.0, 62.0, -113.0
    about_y = Rotation.from_euler("y", -tilt, degrees=True).as_matrix()
    expected = counter_clockwise_z(-psi) @ about_y @ counter_clockwise_z(-rot)
    np.testing.assert_allclose(rotation_from_euler(rot, tilt, psi), expected, atol=1e-15)


def test_angles_come_back():
    rng = np.random.default_rng(1)
    rot, psi = rng.uniform(-180, 180, (2, 500))
    tilt = rng.uniform(0, 180, 500)
    angles = euler_from_rotation(rotation_from_euler(rot, tilt, psi))
    np.testing.assert_allclose(angles, [rot, tilt, psi], atol=1e-8)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("tilt", [0.0, 1e-9, 4e-6, 1e-5, 180.0, 180.0 - 1e-9, 180.0 - 1e-5])
def test_rotations_come_back_at_the_poles_without_a_warning(tilt: float):
    """Within 1e-7 rad of a pole SciPy gives up the axis of the tilt, so the error is that small."""
    rotation = rotation_from_euler(40.0, tilt, 75.0)
    again = rotation_from_euler(*euler_from_rotation(rotation))
    np.testing.assert_allclose(again, rotation, atol=2e-7)


@pytest.mark.filterwarnings("error")
def test_rotations_rounded_to_float32_come_back_at_the_poles():
    rotation = rotation_from_euler(40.0, 1e-6, 75.0).astype(np.float32)
    again = rotation_from_euler(*euler_from_rotation(rotation))
    np.testing.assert_allclose(again, rotation, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (0,), (4,), (2, 3)])
def test_shapes(shape: tuple[int, ...]):
    angles = np.random.default_rng(3).uniform(1, 179, (3, *shape))
    rotation = rotation_from_euler(*angles)
    assert rotation.shape == (*shape, 3, 3)
    np.testing.assert_allclose(euler_from_rotation(rotation), angles, atol=1e-9)
    assert rotation_from_vector(angles.T).shape == (*shape[::-1], 3, 3)


def test_rotation_vectors_are_counter_clockwise():
    rng = np.random.default_rng(2)
    vectors = np.concatenate([rng.normal(size=(50, 3)) * 2, np.zeros((1, 3)), [[0, 0, 1e-9]]])
    expected = Rotation.from_rotvec(vectors).as_matrix()
    np.testing.assert_allclose(rotation_from_vector(vectors), expected, atol=1e-14)
