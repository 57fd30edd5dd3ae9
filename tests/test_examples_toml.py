"""Every recipe in examples/ builds, on small grids of the box that it is written for."""

from pathlib import Path

import pytest

from hypermol.recipe.design import Grid
from hypermol.recipe.options import make_design
from hypermol.recipe.toml import read_recipe

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "examples").glob("*.toml"))
#: Images whose box holds every example: 64 pixels of 5 Angstrom.
BOX, PIXEL = 64, 5.0


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_examples_build(path):
    options = read_recipe(path)
    design = make_design(options, BOX, PIXEL)
    molecule = design.molecule(Grid(BOX, PIXEL, 6, 150.0), 3)
    knobs = {
        "antibody": ("turn",),
        "class_and_motion": ("breath", "bound"),
        "hinge": ("bend",),
        "pretzel": ("arm_1", "arm_2"),
    }
    assert molecule.state_space.names == knobs[path.stem]
