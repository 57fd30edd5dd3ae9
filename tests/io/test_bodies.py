"""RELION's body STAR files, and what is wrong with some of them."""

import pytest

from bodies import STAR, write_bodies
from hypermol.io.bodies import read_bodies
from hypermol.io.errors import InputError


def test_rows_of_an_old_file(tmp_path):
    large, head = read_bodies(write_bodies(tmp_path))
    assert large.mask == tmp_path / "large.mrc" and head.mask == tmp_path / "head.mrc"
    assert (large.relative_to, head.relative_to) == (1, 0)
    assert (head.rotation_sd_deg, head.offset_sd_angstrom(3.0)) == (15.0, 3.0)
    assert head.reference is None and not head.held


def test_columns_of_newer_files(tmp_path):
    text = """
# version 30001

data_

loop_
_rlnBodyMaskName #1
_rlnBodyRotateRelativeTo #2
_rlnBodySigmaTilt #3
_rlnBodySigmaPsi #4
_rlnBodySigmaOffsetAngst #5
_rlnBodyReferenceName #6
large.mrc -1 0 0 0 None
head.mrc 1 8 12 4.5 head.mrc
"""
    large, head = read_bodies(write_bodies(tmp_path, text))
    assert large.held and large.relative_to is None and large.reference is None
    assert (head.rotation_sd_deg, head.offset_sd_angstrom(3.0)) == (12.0, 4.5)
    assert head.reference == tmp_path / "head.mrc"


def test_masks_are_found_above_the_file_as_in_a_relion_project(tmp_path):
    folder = tmp_path / "MultiBody" / "job007"
    folder.mkdir(parents=True)
    path = write_bodies(folder, STAR.replace("large.mrc", "masks/large.mrc"))
    (tmp_path / "masks").mkdir()
    (folder / "large.mrc").rename(tmp_path / "masks" / "large.mrc")
    assert read_bodies(path)[0].mask == tmp_path / "masks" / "large.mrc"


def test_an_optimiser_file_names_the_bodies(tmp_path):
    write_bodies(tmp_path)
    path = tmp_path / "run_optimiser.star"
    path.write_text(
        "data_optimiser_general\n\n_rlnBodyStarFile bodies.star\n_rlnCurrentIteration 0\n"
    )
    assert len(read_bodies(path)) == 2
    path.write_text("data_optimiser_general\n\n_rlnBodyStarFile None\n_rlnCurrentIteration 0\n")
    with pytest.raises(InputError, match="rlnBodyStarFile is 'None', which is no file"):
        read_bodies(path)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("_rlnBodyMaskName", "_rlnMaskName", "no column rlnBodyMaskName: give the body STAR"),
        ("_rlnBodySigmaAngles", "_rlnSigma", "no column rlnBodySigmaAngles .*in degrees"),
        ("_rlnBodySigmaOffset", "_rlnOffset", "no column rlnBodySigmaOffset .*in pixels"),
        ("1 15 1", "1 wide 1", "row 2: rlnBodySigmaAngles is 'wide', not a finite number"),
        ("1 15 1", "1 15 -1", "row 2: rlnBodySigmaOffset is -1: give a width"),
        ("1 15 1", "2 15 1", "row 2: rlnBodyRotateRelativeTo is 2: give the number of another"),
        ("1 15 1", "3 15 1", "row 2: rlnBodyRotateRelativeTo is 3: .* 1 to 2, or -1"),
        ("head.mrc ", "tail.mrc ", "row 2: rlnBodyMaskName is 'tail.mrc', which is neither"),
        ("head.mrc  1 15 1\n", "", "lists 1 body: give at least two"),
        ("1 15 1", "1 15", r"row 2 \(line 10\) has 3 values for 4 columns"),
    ],
)
def test_faults_are_named(tmp_path, before, after, said):
    assert before in STAR
    path = write_bodies(tmp_path, STAR.replace(before, after))
    with pytest.raises(InputError, match=rf"bodies\.star.*{said}"):
        read_bodies(path)
