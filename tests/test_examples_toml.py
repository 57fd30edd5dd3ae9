"""Every recipe in examples/ builds, on small grids of the box that it is written for."""

from pathlib import Path

import pytest

from hypermol.fitting.schedules import paper
from hypermol.fitting.stages import Plan
from hypermol.molecule.spatial_basis.prolates import Prolates
from hypermol.recipe.design import Grid
from hypermol.recipe.options import check_counts, make_design
from hypermol.recipe.toml import read_recipe

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted((ROOT / "examples").glob("*.toml"))
#: Images whose box holds every example: 64 pixels of 5 Angstrom.
BOX, PIXEL = 64, 5.0


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_examples_build(path):
    options = read_recipe(path)
    check_counts(options)
    design = make_design(options, BOX, PIXEL)
    molecule = design.molecule(Grid(BOX, PIXEL, 6, 150.0), 3)
    knobs = {
        "antibody": ("turn",),
        "arms_from_nothing": ("arm_1", "arm_2"),
        "class_and_motion": ("breath", "bound"),
        "hinge": ("bend",),
        "paper": ("arm",),
        "pretzel": ("arm_1", "arm_2"),
    }
    assert molecule.state_space.names == knobs[path.stem]
    if options.poses == "search":
        assert design.axes is not None


def test_the_papers_recipe_is_the_papers():
    """Prolates times cosines, and the kernels and stages of section 5."""
    options = read_recipe(ROOT / "examples" / "paper.toml")
    design = make_design(options, BOX, PIXEL)
    (part,) = design.molecule(Grid(BOX, PIXEL, 6, 150.0), design.n_terms).parts
    assert isinstance(part.basis, Prolates) and design.kind == "cosine"
    stages = paper(Plan(10, 5, "cosine", theta=options.theta, particles=options.particles))
    assert {(stage.theta, stage.particles) for stage in stages} == {("mala", "random-walk")}
    rising = [(stage.kmax, stage.n_terms) for stage in stages]
    assert rising == sorted(rising) and rising[0][1] == 1 and rising[-1] == (10, 5)
    assert (options.schedule, options.spectrum) == ("paper", "flat")
