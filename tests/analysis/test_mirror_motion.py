"""The mirror image of a motion, laid onto it: against a motion whose mirror plane is known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.analysis.gauge import Gauge, apply_to_volume
from hypermol.analysis.mirror_motion import mirror_motion

N, VOXEL = 28, 10.0
#: Of a point [..., 3], its mirror image in the plane that the body is symmetric about.
MIRROR = np.diag([1.0, -1.0, 1.0])


def volume(centres: np.ndarray, width: float = 18.0) -> np.ndarray:
    """A sum of Gaussians at centres [m, 3] in Angstrom, [n, n, n]."""
    axis = VOXEL * (np.arange(N) - N // 2)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    points = np.stack([x, y, z], axis=-1)
    apart = points[..., None, :] - centres
    return np.exp(-0.5 * (apart**2).sum(axis=-1) / width**2).sum(axis=-1)


def centres(angle: float) -> np.ndarray:
    """A body that is its own mirror image in y, and a head that turns about z."""
    body = [[0, 0, 0], [-35, 25, -30], [-35, -25, -30], [30, 20, -45], [30, -20, -45], [-60, 0, 20]]
    head = [[45 * np.cos(angle), 45 * np.sin(angle), 40], [0, 0, 30]]
    return np.array([*body, *head], float)


def test_the_states_that_are_there_twice_are_found() -> None:
    last = 0.4
    # from -1.8 radians to a little past the plane, at which it is its own mirror image
    angles = np.linspace(-1.8, last, 9)
    frame = Gauge(_turn(0.7), np.array([8.0, -5.0, 3.0]))
    maps = np.stack([apply_to_volume(frame, volume(centres(a)), VOXEL) for a in angles])
    found = mirror_motion(maps, VOXEL)
    assert found.gauge.flipped
    # the head's angle is 0 half way through: turn / 2 of the whole
    assert found.turn == pytest.approx(2.0 * 1.8 / (1.8 + last), abs=0.06)
    assert found.gauge.score > 0.97
    true = frame.rotation @ MIRROR @ frame.rotation.T
    assert np.degrees(np.arccos((np.trace(true.T @ found.gauge.matrix) - 1.0) / 2.0)) < 2.0


def _turn(angle: float) -> np.ndarray:
    """A rotation about an axis that is none of the molecule's."""
    return Rotation.from_rotvec(angle * np.array([0.5, 0.2, np.sqrt(1.0 - 0.29)])).as_matrix()
