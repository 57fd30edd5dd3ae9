"""What the verdict says of hands."""

import pytest

from hypermol.analysis.hands import HandStanding
from hypermol.fitting.found import Found, Unfolding
from hypermol.report.hands import hands_finding

STATES = [[1.0], [0.5], [0.0]]


@pytest.mark.parametrize(
    ("kept", "mirrored", "weight", "title"),
    [
        ([0.99, 0.96], [0.60, 0.70], "good", "One hand in all states"),
        ([0.60, 0.96], [0.90, 0.70], "warning", "Some states are mirror images of others"),
        # as the cat's states were found, folded
        ([0.96, 0.95], [0.98, 0.95], "warning", "The molecule is nearly its own mirror image"),
    ],
)
def test_each_case_has_its_sentence(kept, mirrored, weight, title):
    found = hands_finding(HandStanding(STATES, kept, mirrored), Found())
    assert (found.weight, found.title) == (weight, title)
    assert f"State 0.50: {kept[0]:.2f} as it is, {mirrored[0]:.2f} mirrored" in found.text


def test_a_rigid_molecule_has_none():
    assert hands_finding(None, Found()) is None


@pytest.mark.parametrize("kept", [[0.96, 0.95], [0.92, 0.90]])
def test_a_motion_that_was_unfolded_is_no_warning(kept):
    """Its ends may well be mirror images of one another (0.90 as it is, 0.99 mirrored)."""
    folded = Unfolding(gain=1.3, gain_error=0.1, mirrored_difference=-0.6, turn=1.7)
    known = Found(unfolding={"0": folded})
    found = hands_finding(HandStanding(STATES, kept, [0.98, 0.99]), known)
    assert found.weight == "note"
    assert "unfolded" in found.text


def test_a_start_that_was_not_unfolded_is_still_warned_of():
    folded = Unfolding(gain=1.3, gain_error=0.1, mirrored_difference=-0.6, turn=1.7)
    known = Found(unfolding={"0": folded, "1": Unfolding(gain=0.1, gain_error=0.1)})
    found = hands_finding(HandStanding(STATES, [0.96, 0.95], [0.98, 0.95]), known)
    assert found.weight == "warning"
