"""`hypermol fit`: the main job."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hypermol.analysis.run import load_run
from hypermol.analysis.summary import write_results
from hypermol.cli.particle_options import (
    ImageDir,
    LeaveOutOutliers,
    Normalise,
    Passthrough,
    PixelSize,
)
from hypermol.data.particles import ParticleSource
from hypermol.fitting.blackbox_fit import fit_black_box_run
from hypermol.fitting.fit import Listener
from hypermol.fitting.fit import Progress as SweepProgress
from hypermol.fitting.fit import fit as run_fit
from hypermol.io.errors import InputError
from hypermol.io.store import RunDirectory
from hypermol.molecule.state_basis import BASES
from hypermol.recipe.options import FitOptions
from hypermol.recipe.toml import read_recipe
from hypermol.report import write_report
from hypermol.runtime import configure

#: `fit`, or what fits a class of the user's own.
Job = Callable[[Path, Path, FitOptions, Listener, bool, Path | None], RunDirectory]
#: Bases of stages that all chains share.
_SHARED = ("constant", "subspace", "start")
#: What `--state` names, as state bases.
STATES = {"interval": "cosine", "circle": "fourier", "classes": "haar", "rigid": "constant"}

InvertContrast = Annotated[
    bool | None,
    typer.Option(help="Particles are dark on bright ground: multiply images by -1."),
]
Resume = Annotated[bool, typer.Option(help="Go on with the run in --out from its checkpoints.")]


def fit(
    particles: Annotated[Path, typer.Argument(help="RELION .star or cryoSPARC .cs file.")],
    out: Annotated[Path, typer.Option(help="Run directory to write.")],
    recipe: Annotated[
        Path | None, typer.Option(help="TOML recipe; options given here go before it.")
    ] = None,
    state: Annotated[
        str | None, typer.Option(help="Where states live: interval, circle, classes or rigid.")
    ] = None,
    basis: Annotated[
        str | None,
        typer.Option(help=f"State basis by name: {', '.join(BASES)}."),
    ] = None,
    terms: Annotated[
        int | None, typer.Option(help="Terms of the state basis; the number of classes.")
    ] = None,
    poses: Annotated[
        str | None, typer.Option(help="refine (draw poses about the input's) or fixed.")
    ] = None,
    resolution: Annotated[
        float | None, typer.Option(help="Finest detail to model, in Angstrom.")
    ] = None,
    radius: Annotated[
        float | None, typer.Option(help="Radius of the ball that holds the molecule, Angstrom.")
    ] = None,
    chains: Annotated[int | None, typer.Option(help="Markov chains.")] = None,
    burn_in: Annotated[int | None, typer.Option(help="Sweeps of a marching stage.")] = None,
    samples: Annotated[int | None, typer.Option(help="Samples kept per chain.")] = None,
    thin: Annotated[int | None, typer.Option(help="Sweeps per kept sample.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    invert_contrast: InvertContrast = None,
    leave_out_outliers: LeaveOutOutliers = None,
    normalise: Normalise = None,
    image_dir: ImageDir = None,
    passthrough: Passthrough = None,
    pixel_size: PixelSize = None,
    resume: Resume = False,
) -> None:
    """Recover the motion in a particle set, with error bars."""
    given = {
        "basis": basis or _basis_of(state),
        "n_terms": terms,
        "poses": poses,
        "resolution_angstrom": resolution,
        "radius_angstrom": radius,
        "chains": chains,
        "burn_in": burn_in,
        "samples": samples,
        "thin": thin,
        "seed": seed,
        "invert_contrast": invert_contrast,
        "leave_out_outliers": leave_out_outliers,
        "normalise": normalise,
    }
    options = _options(recipe, out if resume else None, given)
    console = Console()
    console.print(f"hypermol fit {particles} on {configure()}")
    source = ParticleSource(particles, image_dir, tuple(passthrough or ()), pixel_size)
    directory = fit_with_progress(console, source, out, options, resume, _job(options, recipe))
    finish(console, directory)


def _job(options: FitOptions, recipe: Path | None) -> Job:
    """What fits the model: a class of the user's own is looked for beside the recipe."""
    if options.type is None:
        return run_fit
    return partial(fit_black_box_run, beside=None if recipe is None else recipe.parent)


def _basis_of(state: str | None) -> str | None:
    if state is None:
        return None
    if state not in STATES:
        raise InputError(f"--state {state!r} is not known: use interval, circle, classes or rigid")
    return STATES[state]


def _options(recipe: Path | None, resumed: Path | None, given: dict[str, Any]) -> FitOptions:
    """Options from the recipe (a resumed run's own, if none is given), then the command line."""
    if recipe is None and resumed is not None and (resumed / "recipe.toml").exists():
        recipe = resumed / "recipe.toml"
    options = read_recipe(recipe) if recipe else FitOptions()
    return replace(options, **{key: value for key, value in given.items() if value is not None})


def fit_with_progress(
    console: Console,
    source: ParticleSource,
    out: Path,
    options: FitOptions,
    resume: bool = False,
    run: Job = run_fit,
) -> RunDirectory:
    """Run a fit under a progress bar: stage, sweep, rate, time left."""
    if source.passthrough or source.pixel_size_angstrom is not None:
        raise InputError(
            "--passthrough and --pixel-size do not reach the fit yet: see hypermol check"
        )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("reading particles, compiling", total=None, rate="")
        directory = run(source.path, out, options, _listener(bar, task), resume, source.image_dir)
    return directory


def _listener(bar: Progress, task: Any) -> Listener:
    """Progress in units of cost, so that the time left knows that fine sweeps take longer."""

    def listen(at: SweepProgress) -> None:
        costs = [stage.cost for stage in at.schedule for _ in range(stage.sweeps)]
        shared = sum(
            stage.cost * stage.sweeps
            for stage in at.schedule
            if stage.basis in _SHARED and at.chains > 1
        )
        chain_cost = sum(costs)
        done = at.chain * (chain_cost - shared) + sum(costs[: at.sweep + 1])
        bar.update(
            task,
            description=f"chain {at.chain + 1}/{at.chains}, {at.stage.name}, "
            f"sweep {at.sweep + 1}/{len(costs)}",
            total=chain_cost + (at.chains - 1) * (chain_cost - shared),
            completed=done,
            rate=f"{at.images / max(at.record['seconds'], 1e-3):,.0f} images/s",
        )

    return listen


def finish(console: Console, directory: RunDirectory) -> None:
    """Results, report, and where they are."""
    with console.status("writing volumes, particles.star, occupancy, diagnostics"):
        write_results(load_run(directory.path))
    with console.status("writing the report"):
        page = write_report(load_run(directory.path))
    console.print(f"Done. Open {page}; volumes and particles.star are in {directory.path}")
