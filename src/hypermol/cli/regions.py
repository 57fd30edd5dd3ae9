"""`hypermol regions`: where a run's molecule moves, as a recipe of parts."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from hypermol.analysis.regions import Motion, find_motion
from hypermol.analysis.run import Run, load_run
from hypermol.analysis.volumes import mean_state_volumes
from hypermol.io.atomic import make_folder
from hypermol.io.errors import InputError
from hypermol.io.mrc import write_volume
from hypermol.recipe.options import FitOptions, make_design
from hypermol.recipe.outlines import outlines
from hypermol.recipe.toml import read_recipe, write_recipe

#: States of each region's own knob: the run's, where it has one basis that may leave its constant
#: term out; else these.
_KEPT = ("cosine", "chebyshev", "fourier", "haar")
_BASIS, _TERMS = "cosine", 5
_NODES = 8


def regions(
    run: Annotated[Path, typer.Argument(help="Run directory (`hypermol fit`'s --out).")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; by default `regions` in the run.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a recipe that is there.")] = False,
) -> None:
    """Propose the regions that move, each with a knob of its own, as a recipe to fit next."""
    folder = out or run / "regions"
    if (folder / "recipe.toml").exists() and not overwrite:
        raise InputError(
            f"{folder / 'recipe.toml'} exists: add --overwrite, or choose another --out"
        )
    console = Console()
    recipe = propose(console, run, folder)
    if recipe is not None:
        console.print(
            f"next: hypermol fit {particles_of(run)} --recipe {recipe} "
            f"--poses {poses_after(run)} --out {parts_folder(run)}",
            markup=False,
            soft_wrap=True,
        )


def propose(console: Console, run: Path, folder: Path) -> Path | None:
    """Write a run's regions into a folder: the recipe that names them; None where nothing moves."""
    opened, recipe = load_run(run), folder / "recipe.toml"
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
        return None
    _write(opened, motion, folder, recipe)
    for number, region in enumerate(motion.regions, start=1):
        centre = ", ".join(f"{value:.0f}" for value in region.centre_angstrom)
        console.print(
            f"region_{number}: {region.share:.0%} of what moves, about ({centre}) Angstrom",
            markup=False,
        )
    console.print(f"picture: {folder / 'regions.png'}", markup=False, soft_wrap=True)
    return recipe


def poses_after(run: Path) -> str:
    """How a fit of parts takes the run's poses: those of a search may be anywhere still."""
    return "refine" if load_run(run).info["poses"] in ("refine", "fixed") else "rescue"


def parts_folder(run: Path) -> Path:
    """Where the fit of a run's regions goes."""
    return run.with_name(run.name + "-parts")


def particles_of(run: Path) -> Path:
    """The run's particles with its poses."""
    return run / ("particles.cs" if (run / "particles.cs").exists() else "particles.star")


def _write(run: Run, motion: Motion, folder: Path, recipe: Path) -> None:
    """Masks, the recipe that names them, and a picture of both."""
    voxel = run.info["pixel_size_angstrom"]
    radius = float(run.info["radius_angstrom"])
    ball = {"centre_angstrom": [0.0, 0.0, 0.0], "radius_angstrom": radius}
    tables: list[dict[str, Any]] = [{"name": "body", "region": ball}]
    kept = run.info["basis"] in _KEPT
    basis, terms = (run.info["basis"], run.info["n_terms"]) if kept else (_BASIS, _TERMS)
    for number, region in enumerate(motion.regions, start=1):
        name = f"region_{number}"
        write_volume(folder / f"{name}.mrc", region.mask, voxel)
        part = {"name": name, "region": {"mask": f"{name}.mrc"}, "constant": False}
        tables.append({**part, "state_basis": basis, "n_terms": terms})
    ours = read_recipe(run.directory.path / "recipe.toml")
    parts = FitOptions(
        part=tuple(tables),
        resolution_angstrom=ours.resolution_angstrom,
        radius_angstrom=radius,
        invert_contrast=ours.invert_contrast,
        leave_out_outliers=ours.leave_out_outliers,
        normalise=ours.normalise,
        density_prior=ours.density_prior,
        prior=ours.prior,
    )
    write_recipe(recipe, parts)
    design = make_design(read_recipe(recipe), run.info["box"], voxel)
    mean = mean_state_volumes(run, run.nodes(_NODES)).mean(axis=0)
    _draw(mean, voxel, outlines(design, read_recipe(recipe)), folder / "regions.png")


def _draw(density: Any, voxel: float, drawn: Any, path: Path) -> None:
    """What draws figures is loaded here."""
    from hypermol.report.regions import regions_figure  # noqa: PLC0415
    from hypermol.report.style import save  # noqa: PLC0415

    save(regions_figure(density, voxel, drawn), path)
