"""The verdict says whether single particles' intervals can be trusted."""

from hypermol.analysis.run import load_run
from hypermol.report.worth import worth_finding
from runs import apart_run, write_run


def test_chains_at_places_of_their_own_are_a_warning(tmp_path):
    found = worth_finding(load_run(write_run(tmp_path / "run", apart_run(3, 8, own=10.0))))
    assert found is not None and found.weight == "warning"
    assert "shift 3" in found.text and "a 90 % interval need 19" in found.text
    # as many times more as are missing
    assert "--chains 19" in found.text


def test_a_few_more_are_a_note_and_enough_are_good(tmp_path):
    some = worth_finding(load_run(write_run(tmp_path / "some", apart_run(8, 4, own=1.0))))
    assert some is not None and some.weight == "note"
    enough = worth_finding(load_run(write_run(tmp_path / "enough", apart_run(8, 8, own=0.0))))
    assert enough is not None and enough.weight == "good"


def test_chains_of_a_search_share_what_they_do_not_show(tmp_path):
    found = worth_finding(
        load_run(write_run(tmp_path / "run", apart_run(8, 8, own=0.0, poses="search")))
    )
    assert found is not None and found.weight == "note" and "share a search" in found.text


def test_one_chain_does_not_tell(tmp_path):
    assert worth_finding(load_run(write_run(tmp_path / "run", apart_run(1, 8, own=1.0)))) is None
