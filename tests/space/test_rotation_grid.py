"""Super-Fibonacci grids cover SO(3) evenly."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.space.rotation_grid import super_fibonacci


def angles_to(grid: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Angle of every rotation [M, 4] to the nearest of a grid [n, 4]."""
    return 2.0 * np.arccos(np.minimum(np.abs(others @ grid.T).max(axis=1), 1.0))


def test_moments_are_those_of_haar_measure():
    """Means of the matrix' entries and of their products vanish but for E[R_ij^2] = 1/3."""
    matrices = Rotation.from_quat(super_fibonacci(4000), scalar_first=True).as_matrix()
    entries = matrices.reshape(-1, 9)
    assert np.abs(entries.mean(axis=0)).max() < 0.01
    assert np.allclose(entries.T @ entries / len(entries), np.eye(9) / 3.0, atol=0.01)


@pytest.mark.parametrize("n", [512, 4608])
def test_no_rotation_is_far_from_the_grid(n: int):
    """The median distance is that of an even grid; random rotations leave wider holes."""
    rng = np.random.default_rng(0)
    anywhere = Rotation.random(2000, random_state=rng).as_quat(scalar_first=True)
    scattered = Rotation.random(n, random_state=rng).as_quat(scalar_first=True)
    near, far = (angles_to(grid, anywhere) for grid in (super_fibonacci(n), scattered))
    # balls of this radius about all members would fill SO(3), of volume 8 pi^2
    radius = (6.0 * np.pi / n) ** (1.0 / 3.0)
    assert np.median(near) < 1.05 * radius
    assert near.max() < min(2.0 * radius, far.max())


def test_an_empty_grid_is_refused():
    with pytest.raises(ValueError, match="grid of 0"):
        super_fibonacci(0)
