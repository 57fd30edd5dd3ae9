"""A run's molecule as equal copies of one part: a recipe, and the particles in the axes' frame."""

from pathlib import Path

from rich.console import Console

from hypermol.analysis.copies import find_copies
from hypermol.analysis.point_groups import PointGroup
from hypermol.analysis.run import Run, load_run
from hypermol.cli.next_fits import (
    COPIES_PARTICLES,
    COPIES_RECIPE,
    recipe_like,
    states_like,
    write_base,
)
from hypermol.io.atomic import make_folder
from hypermol.recipe.toml import write_recipe


def propose_copies(console: Console, run: Path, folder: Path) -> None:
    """Write a model of equal copies into a folder, where the run's molecule may be of such.

    Args:
        console: to say what is found.
        run: its folder.
        folder: to write to.
    """
    opened = load_run(run)
    with console.status("looking for copies under a point group"):
        group = find_copies(opened)
    if group is None:
        return
    make_folder(folder)
    _write_recipe(opened, group, folder / COPIES_RECIPE)
    write_base(opened, folder / COPIES_PARTICLES, group.frame)
    console.print(
        f"copies: under {group.name} the molecule agrees with itself by {group.agreement:.2f}: "
        f"{folder / COPIES_RECIPE}, particles turned to its axes in {folder / COPIES_PARTICLES}",
        markup=False,
        soft_wrap=True,
    )


def _write_recipe(run: Run, group: PointGroup, path: Path) -> None:
    ball = {
        "centre_angstrom": [0.0, 0.0, 0.0],
        "radius_angstrom": float(run.info["radius_angstrom"]),
    }
    part = {"name": "copy", "region": ball, "symmetry": group.name, **states_like(run)}
    write_recipe(path, recipe_like(run, (part,)))
