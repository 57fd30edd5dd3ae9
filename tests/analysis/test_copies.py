"""The axes of equal copies that stand in different states."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from analysis.blobs import blob_points, blob_volume
from hypermol.analysis import copies
from hypermol.analysis.copies import find_copies
from hypermol.analysis.run import load_run
from report.synthetic import World, make_run

BOX, PIXEL = 32, 5.0


def turned_copies(n: int, frame: Rotation, moved_px: float) -> np.ndarray:
    """n copies about the frame's z axis, the first with a ball where the others have none."""
    centres, masses = blob_points(n=8, radius_px=5.0)
    centres = 1.0 * centres[:, ::-1] + np.array([5.0, 2.0, 1.0])
    total = np.zeros((BOX, BOX, BOX))
    for copy in range(n):
        own = centres + (np.array([0.0, moved_px, 0.0]) if copy == 0 else 0.0)
        turn = Rotation.from_euler("z", 360.0 * copy / n, degrees=True)
        total += blob_volume(frame.inv().apply(turn.apply(own)), masses, BOX)
    return total


@pytest.fixture
def run_of(monkeypatch, tmp_path):
    """A run whose maps over its states are given."""

    def make(volumes: np.ndarray):
        monkeypatch.setattr(copies, "ORDERS", (2, 3))
        monkeypatch.setattr(copies, "mean_state_volumes", lambda run, states: volumes)
        return load_run(make_run(tmp_path, World(draws=2, box=BOX, pixel=PIXEL)))

    return make


@pytest.mark.parametrize("n", [2, 3])
def test_axes_of_copies_are_found_where_one_of_them_is_in_another_state(n: int, run_of):
    frame = Rotation.from_rotvec([0.4, -0.7, 0.3])
    found = find_copies(run_of(np.stack([turned_copies(n, frame, d) for d in (0.0, 2.0)])))
    assert found is not None and found.name == f"C{n}"
    # the frame's third row is the axis, in the map's own frame
    axis = frame.inv().apply([0.0, 0.0, 1.0])
    assert abs(found.frame.rotation[2] @ axis) > np.cos(np.radians(3.0))
    assert found.agreement < 0.995


def test_a_molecule_without_copies_has_none(run_of):
    volume = blob_volume(*blob_points(), BOX)
    assert find_copies(run_of(volume[None])) is None
