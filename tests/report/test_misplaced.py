"""What the report says of a rescue's poses."""

from typing import Any, cast

import numpy as np
import pytest

from hypermol.report.verdict import _misplaced


class Rescued:
    """A run whose draws of mu are given."""

    def __init__(self, **draws: Any) -> None:
        self.info = {"poses": "rescue"}
        self._draws = {name: np.asarray(values) for name, values in draws.items()}

    def pooled(self, name: str) -> np.ndarray:
        return self._draws[name]


@pytest.mark.parametrize(
    ("wide", "words"),
    [
        (6.9, "its shifts of 20.0 % (90 % interval 20.0 to 20.0) were further off than"),
        (0.9, "its shifts were all about as far off (0.9 px an axis, 0.7 px)"),
    ],
)
def test_a_share_of_shifts_is_told_only_where_they_are_of_two_kinds(wide: float, words: str):
    """Two Gaussians of nearly one width share the particles as they please."""
    run = Rescued(
        misplaced=np.tile([0.2, 0.2], (9, 1)),
        shift_sd_px=np.full(9, 0.7),
        misplaced_shift_sd_px=np.full(9, wide),
    )
    said = _misplaced(cast(Any, run))
    assert words in said and "rotations of 20.0 %" in said
