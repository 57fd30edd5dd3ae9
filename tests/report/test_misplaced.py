"""What the report says of a rescue's poses."""

from typing import Any, cast

import numpy as np

from hypermol.report.verdict import _misplaced


class Rescued:
    """A run whose draws of mu are given."""

    def __init__(self, **draws: Any) -> None:
        self.info = {"poses": "rescue"}
        self._draws = {name: np.asarray(values) for name, values in draws.items()}

    def pooled(self, name: str) -> np.ndarray:
        return self._draws[name]


def test_shares_of_misplaced_poses_are_told_with_intervals_and_widths():
    run = Rescued(
        misplaced=np.stack([np.linspace(0.1, 0.3, 101), np.full(101, 0.05)], axis=1),
        shift_sd_px=np.full(101, 0.7),
        misplaced_shift_sd_px=np.full(101, 6.9),
    )
    said = _misplaced(cast(Any, run))
    assert "rotations of 20.0 % (90 % interval 11.0 to 29.0)" in said
    assert "shifts of 5.0 % (90 % interval 5.0 to 5.0) were further off" in said
    assert "(6.9 px an axis, 0.7 px)" in said
