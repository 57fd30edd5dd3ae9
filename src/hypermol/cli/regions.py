"""`hypermol regions`: what a run's molecule may be made of, as recipes to fit next."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from hypermol.analysis.gauge import Gauge
from hypermol.analysis.regions import Motion, find_motion
from hypermol.analysis.run import Run, load_run
from hypermol.analysis.volumes import mean_state_volumes
from hypermol.cli.copies import propose_copies
from hypermol.cli.next_fits import (
    COPIES_RECIPE,
    REGIONS_PARTICLES,
    REGIONS_RECIPE,
    NextFit,
    proposed,
    recipe_like,
    states_like,
    write_base,
)
from hypermol.io.atomic import make_folder
from hypermol.io.errors import InputError
from hypermol.io.mrc import write_volume
from hypermol.recipe.options import make_design
from hypermol.recipe.outlines import outlines
from hypermol.recipe.toml import read_recipe, write_recipe

#: States that a picture is the mean of.
_NODES = 8


def regions(
    run: Annotated[Path, typer.Argument(help="Run directory (`hypermol fit`'s --out).")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; by default `regions` in the run.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a recipe that is there.")] = False,
) -> None:
    """Propose models to fit next: the regions that move, a knob each, and equal copies."""
    folder = out or run / "regions"
    taken = [name for name in (REGIONS_RECIPE, COPIES_RECIPE) if (folder / name).exists()]
    if taken and not overwrite:
        raise InputError(f"{folder / taken[0]} exists: add --overwrite, or choose another --out")
    for name in taken:
        (folder / name).unlink()
    console = Console()
    fits = propose(console, run, folder)
    for fit in fits:
        console.print(f"next: {fit.command}", markup=False, soft_wrap=True)
    if fits:
        told = " ".join(str(fit.out) for fit in fits)
        console.print(f"and then: hypermol compare {run} {told}", markup=False, soft_wrap=True)


def propose(console: Console, run: Path, folder: Path) -> list[NextFit]:
    """Write what a run's molecule may be made of into a folder: the regions that move, each with a
    knob of its own, and equal copies; nothing where nothing moves."""
    opened, recipe = load_run(run), folder / REGIONS_RECIPE
    with console.status("comparing half maps over all states"):
        motion = find_motion(opened)
    make_folder(folder)
    variation = folder / "variation.mrc"
    write_volume(variation, motion.variation, opened.info["pixel_size_angstrom"])
    if not motion.regions:
        console.print(
            "nothing moves beyond what the half maps differ by: no recipe is written "
            f"(variation: {variation})",
            markup=False,
            soft_wrap=True,
        )
        return []
    _write(opened, motion, folder, recipe)
    write_base(opened, folder / REGIONS_PARTICLES, Gauge())
    for number, region in enumerate(motion.regions, start=1):
        centre = ", ".join(f"{value:.0f}" for value in region.centre_angstrom)
        console.print(
            f"region_{number}: {region.share:.0%} of what moves, about ({centre}) Angstrom",
            markup=False,
        )
    console.print(f"picture: {folder / 'regions.png'}", markup=False, soft_wrap=True)
    propose_copies(console, run, folder)
    return proposed(run, folder)


def _write(run: Run, motion: Motion, folder: Path, recipe: Path) -> None:
    """Masks, the recipe that names them, and a picture of both."""
    voxel = run.info["pixel_size_angstrom"]
    radius = float(run.info["radius_angstrom"])
    ball = {"centre_angstrom": [0.0, 0.0, 0.0], "radius_angstrom": radius}
    tables: list[dict[str, Any]] = [{"name": "body", "region": ball}]
    states = states_like(run)
    for number, region in enumerate(motion.regions, start=1):
        name = f"region_{number}"
        write_volume(folder / f"{name}.mrc", region.mask, voxel)
        part = {"name": name, "region": {"mask": f"{name}.mrc"}, "constant": False}
        tables.append({**part, **states})
    parts = recipe_like(run, tuple(tables))
    write_recipe(recipe, parts)
    design = make_design(read_recipe(recipe), run.info["box"], voxel)
    mean = mean_state_volumes(run, run.nodes(_NODES)).mean(axis=0)
    _draw(mean, voxel, outlines(design, read_recipe(recipe)), folder / "regions.png")


def _draw(density: Any, voxel: float, drawn: Any, path: Path) -> None:
    """What draws figures is loaded here."""
    from hypermol.report.regions import regions_figure  # noqa: PLC0415
    from hypermol.report.style import save  # noqa: PLC0415

    save(regions_figure(density, voxel, drawn), path)
