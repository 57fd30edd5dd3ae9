"""The STAR parser: what a value may contain, comments, quotes, and every fault of the text."""

import pytest
import starfile

from hypermol.io.star_text import parse_star


def test_values_keep_their_text():
    text = (
        "# a comment\n\ndata_particles\n\nloop_\n_rlnImageName #1\n_rlnGroupName #2\n_rlnX #3\n"
        "000001@job#3/lab@site/x.mrcs 'two words' nan # more\n"
        "2@it's.mrcs \"it's #2\" 1e-3\n"
        "  3@a\"b.mrcs NA None  \n\n# between\n4@x '' 00.10"
    )
    table = parse_star(text)["particles"]
    assert list(table["rlnImageName"]) == [
        "000001@job#3/lab@site/x.mrcs",
        "2@it's.mrcs",
        '3@a"b.mrcs',
        "4@x",
    ]
    assert list(table["rlnGroupName"]) == ["two words", "it's #2", "NA", ""]
    assert list(table["rlnX"]) == ["nan", "1e-3", "None", "00.10"]


def test_blocks_of_every_form():
    blocks = parse_star(
        "junk before\ndata_\n_rlnA   1 # why\n_rlnB 'x y'\n_rlnEmpty\ndata_none\n\n"
        "data_empty\nloop_\n_rlnC #1\n\r\ndata_rows\nloop_ \n_rlnC\n_rlnD\n1\t2\r\n"
    )
    assert blocks[""] == {"rlnA": "1", "rlnB": "x y", "rlnEmpty": ""}
    assert list(blocks) == ["", "empty", "rows"]
    assert list(blocks["empty"]) == ["rlnC"] and len(blocks["empty"]) == 0
    assert blocks["rows"].to_numpy().tolist() == [["1", "2"]]


def test_another_reader_finds_the_same(shared_data):
    for name in ("relion31.star", "relion5.star", "sample_particles_relion30.star"):
        path = shared_data / "formats" / name
        for block, ours in parse_star(path.read_text()).items():
            theirs = starfile.read(path, always_dict=True, parse_as_string=list(ours))[block]
            if not isinstance(ours, dict):
                ours, theirs = ours.to_dict("list"), theirs.to_dict("list")
            assert ours == theirs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data_a\nloop_\n_x\n_y\n1 2\n3\n", r"row 2 \(line 6\) has 1 values for 2 columns"),
        ("data_a\nloop_\n_x\n_y\n1 2 3\n", r"row 1 \(line 5\) has 3 values for 2 columns"),
        ("data_a\nloop_\n_x\n_x\n1 2\n", "the column x is there twice"),
        ("data_a\n_x 1\ndata_a\n_x 2\n", "the block data_a is there twice"),
        ("data_a\n_x 1 2\n", "line 2 is not a label with one value"),
        ("data_a\nx 1\n", "line 2 is not a label"),
    ],
)
def test_faults_name_the_line(text, said):
    with pytest.raises(ValueError, match=said):
        parse_star(text)
