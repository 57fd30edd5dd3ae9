"""The verdict says where a motion was laid anew, and nothing where it was not."""

from hypermol.fitting.found import Found
from hypermol.report.tears import tears_finding


def test_what_was_done_is_told_by_chain() -> None:
    told = tears_finding(Found(tears={"0": [], "1": ["pieces changed over", "first piece turned"]}))
    assert told is not None and told.weight == "note"
    assert "chain 2: pieces changed over, then first piece turned" in told.text
    assert "chain 1" not in told.text


def test_nothing_is_said_of_a_motion_in_order() -> None:
    assert tears_finding(Found()) is None
    assert tears_finding(Found(tears={"0": [], "1": []})) is None
