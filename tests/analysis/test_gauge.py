import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.analysis.alignment import align_volumes
from hypermol.analysis.gauge import (
    Gauge,
    align_poses,
    apply_to_poses,
    apply_to_volume,
    compose,
    flip_hand,
    pose_errors,
)

from .blobs import blob_image, blob_points, blob_volume

BOX = 48
PIXEL = 1.7
MIRROR = np.diag([1.0, 1.0, -1.0])


def make_gauge(vector_deg, shift_px, flipped) -> Gauge:
    rotation = Rotation.from_rotvec(np.radians(vector_deg)).as_matrix()
    return Gauge(rotation, PIXEL * np.asarray(shift_px, dtype=float), flipped)


GAUGES = [
    make_gauge([11.0, -7.0, 4.0], [1.3, -0.6, 2.2], False),
    make_gauge([100.0, 40.0, -60.0], [-1.1, 2.4, 0.7], True),
    make_gauge([0.0, 0.0, 0.0], [0.4, 0.0, -1.0], True),
]


def points_in_gauge(gauge: Gauge, centres: np.ndarray) -> np.ndarray:
    """The defining statement, on points: p' = G J p + c."""
    mirrored = centres @ MIRROR if gauge.flipped else centres
    return mirrored @ gauge.rotation.T + gauge.shift_angstrom / PIXEL


@pytest.mark.parametrize("gauge", GAUGES)
def test_volume_follows_the_points(gauge):
    centres, masses = blob_points()
    moved = apply_to_volume(gauge, blob_volume(centres, masses, BOX), PIXEL)
    expected = blob_volume(points_in_gauge(gauge, centres), masses, BOX)
    assert np.abs(moved - expected).max() < 1e-3 * expected.max()


@pytest.mark.parametrize("gauge", GAUGES)
def test_images_do_not_change(gauge):
    centres, masses = blob_points()
    rng = np.random.default_rng(0)
    rotations = Rotation.random(4, rng=rng).as_matrix()
    shifts = rng.normal(size=(4, 2)) * PIXEL
    new_rotations, new_shifts = apply_to_poses(gauge, rotations, shifts)
    new_centres = points_in_gauge(gauge, centres)
    for i in range(4):
        before = blob_image(centres, masses, rotations[i], shifts[i] / PIXEL, BOX)
        after = blob_image(new_centres, masses, new_rotations[i], new_shifts[i] / PIXEL, BOX)
        np.testing.assert_allclose(after, before, atol=1e-9)


@pytest.mark.parametrize("gauge", GAUGES)
def test_inverse_undoes(gauge):
    centres, _ = blob_points()
    there = points_in_gauge(gauge, centres)
    np.testing.assert_allclose(points_in_gauge(gauge.inverse(), there), centres, atol=1e-9)


@pytest.mark.parametrize("box", [16, 17])
def test_flip_hand_keeps_the_origin(box):
    volume = np.random.default_rng(0).normal(size=(box, box, box))
    flipped = flip_hand(volume)
    np.testing.assert_array_equal(flipped[box // 2], volume[box // 2])
    np.testing.assert_array_equal(flipped[box // 2 + 3], volume[box // 2 - 3])
    np.testing.assert_array_equal(flip_hand(flipped), volume)


def assert_same_gauge(found: Gauge, true: Gauge, degrees: float, pixels: float) -> None:
    assert found.flipped == true.flipped
    turn = Rotation.from_matrix(found.rotation @ true.rotation.T).magnitude()
    assert np.degrees(turn) < degrees
    offset = np.linalg.norm(found.shift_angstrom - true.shift_angstrom) / PIXEL
    assert offset < pixels


@pytest.mark.parametrize("gauge", [GAUGES[0], make_gauge([-5, 14, 9], [-3, 1, 0.5], False)])
def test_local_search_recovers_an_analytic_rotation(gauge):
    centres, masses = blob_points()
    moving = blob_volume(centres, masses, BOX)
    reference = blob_volume(points_in_gauge(gauge, centres), masses, BOX)
    noise = np.random.default_rng(1).normal(size=moving.shape) * 0.01 * moving.max()
    found = align_volumes(moving + noise, reference, PIXEL, search="local")
    assert_same_gauge(found, gauge, 0.1, 0.05)
    clean = align_volumes(moving, reference, PIXEL, search="local")
    assert_same_gauge(clean, gauge, 0.02, 0.01)


def test_global_search_recovers_rotation_shift_and_hand():
    gauge = GAUGES[1]
    centres, masses = blob_points()
    reference = blob_volume(points_in_gauge(gauge, centres), masses, BOX)
    found = align_volumes(blob_volume(centres, masses, BOX), reference, PIXEL, search="global")
    assert_same_gauge(found, gauge, 0.1, 0.05)
    assert found.score > 0.999


def test_local_search_at_the_identity_stays_there():
    centres, masses = blob_points()
    volume = blob_volume(centres, masses, BOX)
    found = align_volumes(volume, volume, PIXEL)
    assert_same_gauge(found, Gauge(), 0.01, 0.005)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="resample"):
        align_volumes(np.zeros((8, 8, 8)), np.zeros((10, 10, 10)), PIXEL)


@pytest.mark.parametrize("gauge", GAUGES)
def test_poses_fix_the_same_gauge(gauge):
    rng = np.random.default_rng(5)
    rotations = Rotation.random(500, rng=rng).as_matrix()
    shifts = rng.normal(size=(500, 2)) * 3.0
    true = apply_to_poses(gauge, rotations, shifts)
    assert_same_gauge(align_poses((rotations, shifts), true), gauge, 1e-5, 1e-6)

    jitter = Rotation.from_rotvec(np.radians(2.0) * rng.normal(size=(500, 3))).as_matrix()
    noisy_rotations = jitter @ rotations
    noisy_rotations[:50] = Rotation.random(50, rng=rng).as_matrix()  # lost particles
    noisy = (noisy_rotations, shifts + rng.normal(size=(500, 2)) * 0.5)
    found = align_poses(noisy, true)
    assert_same_gauge(found, gauge, 0.4, 0.15)
    angles, distances = pose_errors(found, noisy, true)
    # |w| of three normal components of 2 degrees has median 2 x 1.538; |s| of two, 0.5 x 1.177
    assert abs(np.median(angles[50:]) - 2 * 1.538) < 0.3
    assert abs(np.median(distances[50:]) - 0.5 * 1.177) < 0.15


@pytest.mark.parametrize("first", GAUGES)
@pytest.mark.parametrize("second", GAUGES)
def test_composed_gauges(first, second):
    rng = np.random.default_rng(6)
    rotations, shifts = Rotation.random(20, rng=rng).as_matrix(), rng.normal(size=(20, 2))
    both = apply_to_poses(compose(second, first), rotations, shifts)
    one_by_one = apply_to_poses(second, *apply_to_poses(first, rotations, shifts))
    assert all(np.allclose(a, b) for a, b in zip(both, one_by_one, strict=True))
    points = rng.normal(size=(20, 3))
    moved = points_in_gauge(second, points_in_gauge(first, points))
    np.testing.assert_allclose(points_in_gauge(compose(second, first), points), moved, atol=1e-12)
