"""What the report says of poses."""

from typing import Any, cast

import numpy as np
import pytest

from hypermol.report.poses import held_by_input, misplaced


class Rescued:
    """A run whose draws of mu are given."""

    def __init__(self, poses: str = "rescue", **draws: Any) -> None:
        self.info = {"poses": poses}
        self._draws = {name: np.asarray(values) for name, values in draws.items()}

    def pooled(self, name: str) -> np.ndarray:
        return self._draws[name]


def test_shares_of_misplaced_poses_are_told_with_intervals_and_widths():
    run = Rescued(
        misplaced=np.stack([np.linspace(0.1, 0.3, 101), np.full(101, 0.05)], axis=1),
        shift_sd_px=np.full(101, 0.7),
        misplaced_shift_sd_px=np.full(101, 6.9),
    )
    said = misplaced(cast(Any, run))
    assert "rotations of 20.0 % (90 % interval 11.0 to 29.0)" in said
    assert "shifts of 5.0 % (90 % interval 5.0 to 5.0) were further off" in said
    assert "(6.9 px an axis, 0.7 px)" in said


@pytest.mark.parametrize(
    ("poses", "prior_deg", "prior_px", "turn_deg", "slip_px", "held"),
    [
        # measured: images of a pretzel, poses with errors of their own; refined with the very
        # images; a search's own poses as the prior of a rescue
        ("refine", 5.4, 1.02, 1.87, 0.166, False),
        ("refine", 0.36, 0.081, 0.50, 0.064, True),
        ("rescue", 0.74, 0.093, 0.88, 0.071, True),
        ("rescue", 12.4, 2.05, 1.61, 0.145, False),
        ("refine", 2.5, 0.51, 2.6, 0.10, False),  # the demo: errors of their own
        ("start", 180.0, 0.10, 1.87, 0.08, False),
    ],
)
def test_poses_that_the_input_holds_are_told(
    poses: str, prior_deg: float, prior_px: float, turn_deg: float, slip_px: float, held: bool
):
    run = Rescued(
        poses, pose_sd_rad=np.full(9, np.radians(prior_deg)), shift_sd_px=np.full(9, prior_px)
    )
    said = held_by_input(cast(Any, run), turn_deg, slip_px)
    assert ("--poses start" in said) == held and bool(said) == held
