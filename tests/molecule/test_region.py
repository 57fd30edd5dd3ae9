"""Regions: masks of the wrong grid and balls outside the box are refused with a remedy."""

import numpy as np
import pytest

from hypermol.io.errors import InputError
from hypermol.io.mrc import write_volume
from hypermol.molecule.region import Ball, Mask, check_inside, read_mask
from hypermol.molecule.spatial_basis.voxels import Voxels, voxels_in

BOX, PIXEL = 16, 2.0


def soft_ball(centre=(4.0, -2.0, 0.0), radius: float = 8.0) -> np.ndarray:
    axis = (np.arange(BOX) - BOX // 2) * PIXEL
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
    return np.clip((radius - distance) / 4.0 + 1.0, 0.0, 1.0).astype(np.float32)


def test_a_mask_comes_back_from_its_file(tmp_path):
    path = tmp_path / "mask.mrc"
    write_volume(path, soft_ball(), PIXEL)
    mask = read_mask(path, BOX, PIXEL)
    np.testing.assert_array_equal(mask.values, soft_ball())
    assert {mask: 1}[mask] == 1


@pytest.mark.parametrize(
    ("data", "size", "said"),
    [
        (np.ones((12, 12, 12)), PIXEL, "12 x 12 x 12 .* box is 16: make"),
        (np.ones((BOX,) * 3), 1.5, "1.5 Angstrom .* 2 Angstrom: resample"),
        (np.full((BOX,) * 3, 7.0), PIXEL, "give a mask, not a map"),
        (np.zeros((BOX,) * 3), PIXEL, "selects nothing"),
        (np.full((BOX,) * 3, np.nan), PIXEL, "no numbers"),
    ],
)
def test_wrong_masks_are_refused_by_name(tmp_path, data, size, said):
    path = tmp_path / "wrong.mrc"
    write_volume(path, data, size)
    with pytest.raises(InputError, match=f"wrong.mrc .*{said}"):
        read_mask(path, BOX, PIXEL)


def test_balls_must_fit_the_box():
    check_inside(Ball((4.0, 0.0, -4.0), 12.0), BOX, PIXEL, "arm")
    with pytest.raises(InputError, match=r"region arm reaches 17 .* 16: move .* by 1 Angstrom"):
        check_inside(Ball((5.0, 0.0, 0.0), 12.0), BOX, PIXEL, "arm")
    with pytest.raises(InputError, match="positive"):
        check_inside(Ball((0.0, 0.0, 0.0), 0.0), BOX, PIXEL, "arm")


def test_the_bounding_ball_holds_the_mask():
    mask = Mask(soft_ball(), PIXEL)
    ball = mask.bounding_ball()
    assert ball.centre_angstrom == pytest.approx((4.0, -2.0, 0.0), abs=1.5)
    voxels = voxels_in(mask, BOX, PIXEL, 6)
    free = Voxels(BOX, PIXEL, 6, 60.0, mask=mask)
    np.testing.assert_array_equal(voxels.support, free.support)


def test_resampling_keeps_the_mask():
    """On a coarser grid over the same box: the same ball, within the coarse voxels."""
    mask = Mask(soft_ball(radius=9.0), PIXEL)
    coarse = mask.on_grid(12, BOX * PIXEL / 12)
    volume = coarse.sum() * (BOX / 12) ** 3
    assert volume == pytest.approx(mask.values.sum(), rel=0.02)
    assert coarse.min() >= 0.0 and coarse.max() <= 1.0
    np.testing.assert_array_equal(mask.on_grid(BOX, PIXEL), mask.values)


def test_regions_off_centre_hold_their_voxels():
    basis = voxels_in(Ball((6.0, -4.0, 2.0), 7.0), BOX, PIXEL, 6)
    index = np.argwhere(basis.support > 0) - basis.n // 2
    places = index[:, ::-1] * basis.voxel_size_angstrom
    assert np.linalg.norm(places - [6.0, -4.0, 2.0], axis=1).max() <= 7.0
    assert len(places) == pytest.approx(
        4 / 3 * np.pi * (7.0 / basis.voxel_size_angstrom) ** 3, rel=0.15
    )
