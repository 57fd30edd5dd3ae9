"""Kinds of STAR data that are refused, columns that are said, groups, and names of images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hypermol.io.errors import InputError
from hypermol.io.image_paths import split_image_name
from hypermol.io.mrc import write_stack
from hypermol.io.star import read_particles_star

N = 4


@pytest.mark.parametrize(
    ("block", "column", "value"),
    [
        ("particles", "rlnCtfImage", "ctf.mrc"),
        ("particles", "rlnCoordinateZ", 0),
        ("particles", "rlnTomoName", "TS_01"),
        ("particles", "rlnTomoSubtomogramRot", 0.0),
        ("particles", "rlnCenteredCoordinateZAngst", 12.0),
        ("particles", "rlnOriginZAngst", 3.5),
        ("particles", "rlnOriginZ", -1),
        ("optics", "rlnTomoTiltSeriesPixelSize", 1.35),
        ("optics", "rlnImageDimensionality", 3),
    ],
)
def test_tomograms_are_refused(write_star: Callable, relion31: dict, block, column, value):
    relion31[block][column] = [value] * (N if block == "particles" else 1)
    message = rf"particles\.star lists particles of a tomogram \({column}.*give single particles"
    with pytest.raises(InputError, match=message):
        read_particles_star(write_star(relion31))


@pytest.mark.parametrize(
    ("column", "what"),
    [
        ("rlnCtfDataAreCtfPremultiplied", "premultiplied"),
        ("rlnCtfDataArePhaseFlipped", "flipped"),
        ("rlnIsFlip", "mirrored"),
    ],
)
def test_changed_images_are_refused(write_star: Callable, relion31: dict, column, what):
    relion31["particles"][column] = [0] * N
    assert len(read_particles_star(write_star(relion31))) == N
    relion31["particles"][column][2] = 1
    with pytest.raises(InputError, match=rf"row 3: .*{what}.*{column} 1, 1 such rows"):
        read_particles_star(write_star(relion31))


SAID = [
    ({"rlnMagMat00": 1.05, "rlnMagMat01": 0, "rlnMagMat10": 0, "rlnMagMat11": 0.95}, "anisotropic"),
    ({"rlnBeamTiltY": -0.2}, "has beam tilt, which the imaging model leaves out"),
    ({"rlnEvenZernike": "[0,0,3.1]"}, "even aberrations"),
    ({"rlnOddZernike": "[0.1,0,0]"}, "odd aberrations"),
    ({"rlnAngleTiltPrior": 90, "rlnAnglePsiPrior": 12}, "rlnAngleTiltPrior, rlnAnglePsiPrior"),
    ({"rlnHelicalTubeID": 3}, "helical segments"),
    ({"rlnPixelSize": 3.0}, "has rlnImagePixelSize 1.5, which is used, but rlnPixelSize 3"),
    ({"rlnOriginX": 1.0}, "has rlnOriginXAngst, which is used, and rlnOriginX, which is not"),
    ({"rlnVoltage": 200.0}, "rlnVoltage is 200.0 in the particle block, which is used, but 300.0"),
    ({"rlnCtfMaxResolution": "inf"}, "values that are not finite in rlnCtfMaxResolution"),
]


@pytest.mark.parametrize(("columns", "words"), SAID)
def test_what_is_not_used_is_said(write_star: Callable, relion31: dict, columns, words):
    relion31["particles"] |= {name: [value] * N for name, value in columns.items()}
    (remark,) = read_particles_star(write_star(relion31)).remarks
    assert words in remark and "particles.star" in remark


def test_groups_with_aberrations_of_their_own_are_said(write_star: Callable, relion31: dict):
    relion31["optics"] = {name: values * 2 for name, values in relion31["optics"].items()}
    relion31["optics"] |= {"rlnOpticsGroup": [1, 2], "rlnOddZernike": ["[0,0]", "[0,0.3]"]}
    assert read_particles_star(write_star(relion31)).remarks == ()  # no particle of group 2
    relion31["particles"]["rlnOpticsGroup"] = [1, 1, 2, 1]
    assert "odd aberrations" in read_particles_star(write_star(relion31)).remarks[0]


def test_norm_corrections_are_said_where_they_differ(write_star: Callable, relion31: dict):
    relion31["particles"]["rlnNormCorrection"] = [0.8, 0.9, 1.0, 1.1]
    assert read_particles_star(write_star(relion31)).remarks == ()
    relion31["particles"]["rlnNormCorrection"] = [0.2, 0.9, 1.0, 5.0]
    assert "rlnNormCorrection from" in read_particles_star(write_star(relion31)).remarks[0]


def two_groups(blocks: dict) -> dict:
    optics = {name: values * 2 for name, values in blocks["optics"].items()}
    blocks["optics"] = optics | {"rlnOpticsGroup": [1, 2], "rlnVoltage": [300.0, 200.0]}
    return blocks


def test_groups_are_not_guessed(write_star: Callable, relion31: dict):
    blocks = two_groups(relion31)
    groups = blocks["particles"].pop("rlnOpticsGroup")
    with pytest.raises(InputError, match="has 2 optics groups but no column rlnOpticsGroup"):
        read_particles_star(write_star(blocks))
    blocks["particles"]["rlnOpticsGroup"] = groups
    blocks["optics"]["rlnOpticsGroup"] = [1, 1]
    with pytest.raises(InputError, match="optics group 1 more than once"):
        read_particles_star(write_star(blocks))
    del blocks["optics"]["rlnOpticsGroup"]
    with pytest.raises(InputError, match="2 rows but no rlnOpticsGroup in data_optics"):
        read_particles_star(write_star(blocks))


def test_one_group_needs_no_column(write_star: Callable, relion31: dict):
    del relion31["particles"]["rlnOpticsGroup"]
    relion31["optics"]["rlnOpticsGroup"] = [7]
    assert set(read_particles_star(write_star(relion31)).optics_group) == {7}


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("000012@a/b.mrcs", ("000012", "a/b.mrcs")),
        ("12@lab@site/b.mrcs", ("12", "lab@site/b.mrcs")),
        ("lab@site/b.mrc", ("", "lab@site/b.mrc")),
        ("1@", ("1", "")),
        ("b.mrc", ("", "b.mrc")),
    ],
)
def test_image_names_are_split_after_the_number(text, split):
    assert split_image_name(text) == split


@pytest.mark.parametrize("name", ["lab@site/x.mrcs", "job#3/x.mrcs", "it's/x.mrcs", "#1@2/x.mrcs"])
def test_paths_are_read_as_they_are(write_star: Callable, relion31: dict, tmp_path: Path, name):
    relion31["particles"]["rlnImageName"] = [f"{i + 1}@{name}" for i in range(N)]
    found = read_particles_star(write_star(relion31))
    assert set(found.stack_paths) == {str(tmp_path / name)}
    assert found.table["particles"]["rlnImageName"][1] == f"2@{name}"
    assert found.stack_indices.tolist() == [0, 1, 2, 3] and found.numbered.all()


def test_one_stack_of_image_dir_is_not_two(write_star: Callable, relion31: dict, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "j1").mkdir(parents=True)
    write_stack(elsewhere / "x.mrcs", np.zeros((4, 8, 8)), 1.5)
    relion31["particles"]["rlnImageName"] = [
        "1@j1/x.mrcs",
        "1@j2/x.mrcs",
        "2@./j1/x.mrcs",
        "3@j1/x.mrcs",
    ]
    path = write_star(relion31, "meta/particles.star")
    with pytest.raises(
        InputError, match=r"the stacks \S*j1/x\.mrcs and \S*j2/x\.mrcs would both be"
    ):
        read_particles_star(path, elsewhere)
    write_stack(elsewhere / "j1" / "x.mrcs", np.zeros((4, 8, 8)), 1.5)
    found = read_particles_star(path, elsewhere)
    assert set(found.stack_paths) == {str(elsewhere / "x.mrcs"), str(elsewhere / "j1" / "x.mrcs")}


def test_a_single_image_may_have_an_at_sign(write_star: Callable, relion31: dict, tmp_path: Path):
    relion31["particles"]["rlnImageName"][3] = "lab@site/x.mrc"
    with pytest.raises(InputError, match=r"row 4: rlnImageName is 'lab@site/x\.mrc': write"):
        read_particles_star(write_star(relion31))
    (tmp_path / "lab@site").mkdir()
    write_stack(tmp_path / "lab@site" / "x.mrc", np.zeros((1, 8, 8)), 1.5)
    found = read_particles_star(write_star(relion31))
    assert found.stack_paths[3] == str(tmp_path / "lab@site" / "x.mrc")
    assert found.numbered.tolist() == [True, True, True, False]
