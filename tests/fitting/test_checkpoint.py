"""Checkpoints: tunings come back as they were left, or are refused in a sentence."""

import numpy as np
import pytest

from hypermol.fitting.checkpoint import Checkpoint, named_leaves, restored_tunings
from hypermol.io.errors import InputError


def test_tunings_of_another_version_are_refused():
    saved = {"theta": np.array([0.1, 0.2])}
    found = Checkpoint(named_leaves(saved, "tuning"), 3)
    np.testing.assert_allclose(restored_tunings(found, {"theta": np.zeros(2)})["theta"], [0.1, 0.2])
    with pytest.raises(InputError, match=r"no tuning\.jumps.*another version.*another --out"):
        restored_tunings(found, {"theta": np.zeros(2), "jumps": np.zeros(1)})
