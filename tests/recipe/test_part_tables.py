"""What is wrong with a model is said before anything is computed, naming part and key."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bodies import BOX, PIXEL, soft_ball
from hypermol.data.source import load_particles
from hypermol.fitting.schedules import make_schedule
from hypermol.io.errors import InputError
from hypermol.io.mrc import write_stack, write_volume
from hypermol.io.star import write_particles_star
from hypermol.recipe.design import Design, Grid
from hypermol.recipe.options import FitOptions, make_design
from hypermol.recipe.part_tables import read_parts
from hypermol.recipe.toml import read_recipe
from runs import particle_metadata

BALL = {"centre_angstrom": [10.0, 0.0, 0.0], "radius_angstrom": 15.0}
BODY = {"name": "body", "region": {"radius_angstrom": 20.0}}
ARM = {"name": "arm", "region": BALL, "state_basis": "cosine", "n_terms": 3}
HALF_TURN = [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]]
MIRROR = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]]
COPY = {"name": "other", "copy_of": "arm", "places": [{"rotation": HALF_TURN}]}
HINGE = {"type": "hinge", "pivot_angstrom": [0.0, 0.0, 0.0], "axis": [0.0, 0.0, 1.0]}


def build(*tables: dict) -> Design:
    return read_parts(tables, BOX, PIXEL)


def knobs(*tables: dict) -> tuple[str, ...]:
    return build(*tables).molecule(Grid(BOX, PIXEL, 4, 30.0), 3).state_space.names


def test_a_copy_appends_its_places():
    design = build(BODY, COPY, ARM)  # in any order
    assert [part.name for part in design.parts] == ["body", "arm"]
    assert [place.knobs for place in design.parts[1].places] == [("arm",), ("other",)]
    named = {**COPY, "places": [{"rotation": HALF_TURN, "knobs": ["arm"]}]}
    assert knobs(ARM, named) == ("arm",)  # both copies move together
    ring = {"name": "ring", "copy_of": "arm", "symmetry": "C3"}
    assert knobs(ARM, ring) == ("arm", "ring_2", "ring_3")
    assert len(build({"name": "arm", "region": BALL}, ring).parts[0].places) == 3


@pytest.mark.parametrize(
    ("tables", "n"),
    [
        ((BODY,), 0),
        ((BODY, ARM), 1),
        ((ARM, COPY), 2),
        ((ARM, {**ARM, "name": "leg", "state_name": "arm"}), 1),
        ((ARM, {**COPY, "places": [{"rotation": HALF_TURN, "knobs": ["arm"]}]}), 1),
        (({**BODY, "trajectory": HINGE}, ARM), 1),
        (({**ARM, "state_basis": ["cosine", "fourier"], "n_terms": [3, 5]},), 2),
    ],
)
def test_knobs_that_deform_are_counted(tables, n):
    assert build(*tables).n_knobs == n


def test_knobs_by_the_name_they_have_in_the_part():
    moving = {**ARM, "trajectory": {**HINGE, "state_name": "bend"}}
    copy = {**COPY, "places": [{"rotation": HALF_TURN, "knobs": {"arm": "arm_2"}}]}
    assert knobs(moving, copy) == ("arm", "bend", "arm_2")
    free = {**COPY, "places": [{"rotation": HALF_TURN}]}
    assert knobs(moving, free) == ("arm", "bend", "other_arm", "other_bend")


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ([{**ARM, "colour": "red"}], r"part 'arm' of the model: key 'colour' is not known: use n"),
        ([{**ARM, "region": {"radius": 3.0}}], "part 'arm' .*, region: key 'radius' is not known"),
        ([{**ARM, "trajectory": {**HINGE, "pivot": 0}}], "trajectory: key 'pivot' is not known"),
        ([{**ARM, "places": [{"turn": 1}]}], "'arm' of the model, place 1: key 'turn' is not kno"),
        ([{**ARM, "state_basis": "spline"}], "state_basis 'spline' is not known: use cosine"),
        ([{**ARM, "region": {**BALL, "radius_angstrom": 30.0}}], "arm reaches 40 .* 36: move"),
        ([{**ARM, "n_terms": "many"}], "part 'arm' of the model: .*give a whole number"),
        (
            [{**BODY, "trajectory": {"type": "translation", "n_terms": 1}}],
            "translation has n_terms = 1, .* does not move: give at least 2",
        ),
        (
            [{**BODY, "trajectory": {**HINGE, "basis": "fourier"}}],
            "hinge has n_terms = 1, .*: give at least 3 or turns",
        ),
        ([{**BODY, "n_terms": 3}], "n_terms is 3 for a constant basis: .*leave n_terms out"),
        ([{**BODY, "state_name": "bend"}], "state_name 'bend' names no state.*add a state_basis"),
        (
            [{**ARM, "region": {"mask": "m.mrc", "radius_angstrom": 3.0}}],
            "its region has a mask and radius_angstrom: remove one of the two",
        ),
        ([{**ARM, "symmetry": "T"}], "part 'arm' of the model: symmetry 'T' is not known"),
        ([{**ARM, "places": [{"rotation": MIRROR}]}], "part 'arm' .* is not a rotation .*orthog"),
        (
            [{**ARM, "places": [{"knobs": {"elbow": "x"}}]}],
            "place 1: 'elbow' is no state .*: use arm",
        ),
        ([{**BODY, "places": [{"knobs": {"x": "y"}}]}], "'x' is no state .*: the part has none"),
        ([{**ARM, "places": [{"knobs": ["a", "b"]}]}], "names 2 knobs .* has 1"),
        (
            [ARM, {**COPY, "copy_of": "leg"}],
            "'other' .*: copy_of = 'leg' is no part .*: use one of arm",
        ),
        (
            [ARM, COPY, {**COPY, "name": "third", "copy_of": "other"}],
            "copy_of = 'other' is no part",
        ),
        ([ARM, {**COPY, "region": BALL}], "it copies 'arm' and shares its region.*: remove region"),
        ([ARM, {**COPY, "spatial_basis": "prolates"}], "remove spatial_basis, or remove copy_of"),
        ([ARM, {**COPY, "n_terms": 5}], "remove n_terms, or remove copy_of"),
        ([ARM, {**COPY, "colour": 1}], "'colour' is not known: use name, copy_of"),
        ([ARM, {"name": "other", "copy_of": "arm"}], "a copy stands where a rotation puts it"),
        ([ARM, {**COPY, "places": [{}]}], "a copy stands where a rotation puts it"),
        ([ARM, {**COPY, "places": [{"rotation": MIRROR}]}], "'other' .* is not a rotation"),
        ([ARM, ARM], "'arm' appears 2 times"),
        ([{**ARM, "constant": 0}], "part 'arm' of the model: constant is 0: write true or false"),
        ([{**ARM, "constant": False, "trajectory": HINGE}], "only varies, but a trajectory moves"),
        ([{**BODY, "constant": False}], "of the model: a basis of the constant alone"),
        ([{**ARM, "state_basis": "hats", "constant": False}], "no constant term .*: take haar"),
        (
            [{**ARM, "symmetry": "C2", "places": [{"rotation": MIRROR}, {}]}],
            "remove one of the two",
        ),
    ],
)
def test_faults_name_the_part_and_the_remedy(tables, said):
    with pytest.raises(InputError, match=said) as caught:
        build(*tables)
    assert str(caught.value).count("of the model") <= 1


@pytest.mark.parametrize(
    ("box", "pixel", "said"),
    [(16, PIXEL, "has 24 x 24 x 24 voxels but the images' box is 16"), (BOX, 2.0, "3 Angstrom")],
)
def test_masks_of_other_images(tmp_path, box, pixel, said):
    write_volume(tmp_path / "mask.mrc", soft_ball((0.0, 0.0, 0.0), 15.0), PIXEL)
    (tmp_path / "model.toml").write_text(
        '[[model.part]]\nname = "body"\nregion = { mask = "mask.mrc" }\n'
    )
    options = read_recipe(tmp_path / "model.toml")
    assert make_design(options, BOX, PIXEL).n_terms == 1
    with pytest.raises(InputError, match=rf"mask\.mrc .*{said}"):
        make_design(options, box, pixel)


def particles(folder: Path, n: int):
    """n images of noise."""
    write_stack(folder / "particles.mrcs", np.random.default_rng(0).normal(size=(n, 16, 16)), 2.0)
    metadata = particle_metadata(folder, np.tile(np.eye(3), (n, 1, 1)), np.zeros((n, 2)), 16)
    write_particles_star(folder / "particles.star", metadata)
    return load_particles(folder / "particles.star")


def test_states_that_no_particle_can_be_in(tmp_path):
    """As many classes or nodes as particles at most: the rest would be drawn from the prior."""
    few = particles(tmp_path, 6)
    for basis, what in (("onehot", "classes"), ("haar", "classes"), ("hats", "nodes")):
        options = FitOptions(basis=basis, n_terms=7)
        with pytest.raises(InputError, match=f"n_terms is 7 for a {basis} .* 6 particles.*{what}"):
            make_schedule(options, few, make_design(options, few.box, 2.0))
        fewer = replace(options, n_terms=6)
        make_schedule(fewer, few, make_design(fewer, few.box, 2.0))
    table = {**ARM, "state_basis": "hats", "n_terms": 9, "region": {"radius_angstrom": 10.0}}
    with pytest.raises(InputError, match="part 'arm' of the model: n_terms is 9"):
        options = FitOptions(part=(table,))
        make_schedule(options, few, make_design(options, few.box, 2.0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[model]\narguments = { a = 1 }\n", "go with model.type: add it"),
        ('[model]\ntype = "a:B"\narguments = 3\n', r"as a table \[model.arguments\]"),
        (
            '[model]\ntype = "a:B"\n[[model.part]]\nname = "x"\n',
            "model.type and model.part do not go together",
        ),
        ('[model]\ntype = "a:B"\nn_terms = 3\n', "model.type and model.n_terms do not"),
        ('[model]\ntype = "a:B"\nbasis = "cosine"\n', "model.type and model.basis do not"),
        ('[model]\nbasis = "cosine"\n[[model.part]]\nname = "x"\n', "model.part and model.basis"),
        ('[model]\nstate_name = "s"\n[[model.part]]\nname = "x"\n', "and model.state_name do"),
        (
            '[model]\nspatial_basis = "voxels"\n[[model.part]]\nname = "x"\n',
            "model.part and model.spatial_basis do not go together: remove one of the two",
        ),
        ("[model]\npart = 3\n", r"write every part as a table \[\[model.part\]\]"),
    ],
)
def test_recipes_that_mix_models(tmp_path, text, said):
    (tmp_path / "model.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_recipe(tmp_path / "model.toml")
