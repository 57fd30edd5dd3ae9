"""Recipes as files: what is written is read again, whatever characters and tables it holds."""

import tomllib
from dataclasses import replace

import pytest

from hypermol.io.errors import InputError
from hypermol.recipe.options import FitOptions
from hypermol.recipe.toml import read_recipe, write_recipe

PART = {
    "name": 'arm "left"',
    "region": {"centre_angstrom": [1.0, -2.5, 1e-7], "radius_angstrom": 30.0},
    "state_basis": ["cosine", "haar"],
    "n_terms": [3, 2],
    "state_name": ["bend", "ligand\\bound"],
    "trajectory": {"type": "hinge", "axis": [0.0, 0.0, 1.0], "pivot_angstrom": [0.0, 0.0, 0.0]},
    "places": [{"knobs": {"arm": "a"}}, {"rotation": [[-1.0, 0, 0], [0, -1.0, 0], [0, 0, 1.0]]}],
}


@pytest.mark.parametrize(
    "options",
    [
        FitOptions(),
        FitOptions(basis="hats", n_terms=7, state_name="öffnen\n\t", radius_angstrom=80.0),
        FitOptions(part=(PART, {"name": "body", "region": {"radius_angstrom": 9.0}})),
        FitOptions(type="own:Ball", arguments={"path": 'C:\\maps\\"a".mrc', "deep": {"x": [1]}}),
        FitOptions(density_prior={"adjacent_states": {"weight": 0.1, "nodes": 8}}, seed=3),
    ],
    ids=["defaults", "generic", "parts", "own class", "prior"],
)
def test_what_is_written_is_read(tmp_path, options):
    write_recipe(tmp_path / "recipe.toml", options)
    read = read_recipe(tmp_path / "recipe.toml")
    assert read == (replace(options, folder=str(tmp_path)) if options.type else options)
    # wherever it is copied to, its module is looked for where it was
    (tmp_path / "elsewhere").mkdir()
    write_recipe(tmp_path / "elsewhere" / "recipe.toml", read)
    assert read_recipe(tmp_path / "elsewhere" / "recipe.toml") == read


def test_what_is_not_said_is_left_out(tmp_path):
    """Also within tables, where TOML has no word for it."""
    part = {**PART, "symmetry": None, "trajectory": {"type": "still", "axis": None}}
    write_recipe(tmp_path / "recipe.toml", FitOptions(part=(part,)))
    model = tomllib.loads((tmp_path / "recipe.toml").read_text())["model"]
    assert list(model) == ["part"]
    assert model["part"][0]["trajectory"] == {"type": "still"}
    assert "symmetry" not in model["part"][0]


def test_files_that_are_no_recipe_are_named(tmp_path):
    path = tmp_path / "recipe.toml"
    for content in (b"[model\n", b"\xff\xfe\x00", b"[model]\nbasis = \xe4\n"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"recipe .*recipe\.toml is not valid TOML"):
            read_recipe(path)


@pytest.mark.parametrize("given", [{"part": (PART,)}, {"type": "own:Ball"}], ids=["part", "type"])
@pytest.mark.parametrize(
    "other", [{"basis": "cosine"}, {"n_terms": 5}, {"state_name": "s"}, {"spatial_basis": "voxels"}]
)
def test_options_of_two_kinds_of_model_are_refused_from_python_too(given, other):
    """Even where the other kind's value is its default."""
    words = f"model.{next(iter(given))} and model.{next(iter(other))} do not go together"
    with pytest.raises(InputError, match=words):
        FitOptions(**given, **other)
    with pytest.raises(InputError, match=r"go with model\.type"):
        FitOptions(arguments={"n": 1})
