"""`hypermol fit`: the main job."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hypermol.analysis.run import load_run
from hypermol.analysis.summary import write_results
from hypermol.cli.auto import check_auto, fit_that_follows
from hypermol.cli.compare import tell_best
from hypermol.cli.next_fits import copies_folder, parts_folder, proposed
from hypermol.cli.particle_options import (
    ImageDir,
    LeaveOutOutliers,
    Normalise,
    Passthrough,
    PixelSize,
)
from hypermol.cli.regions import propose
from hypermol.data.source import ParticleSource
from hypermol.fitting.fit import Progress as SweepProgress
from hypermol.fitting.fit import fit as run_fit
from hypermol.io.errors import InputError
from hypermol.io.store import RunDirectory
from hypermol.molecule.state_basis import BASES, BASIS_OF
from hypermol.recipe.options import FitOptions, clashing
from hypermol.recipe.toml import read_recipe
from hypermol.runtime import configure

#: Command-line options by the options of a recipe that they set, where words differ.
_WORDS = {"basis": "--basis (or --state)", "n_terms": "--terms"}

Recipe = Annotated[Path | None, typer.Option(help="TOML recipe; options given here go before it.")]
State = Annotated[str | None, typer.Option(help=f"Where states live: {', '.join(BASIS_OF)}.")]
Basis = Annotated[str | None, typer.Option(help=f"State basis by name: {', '.join(BASES)}.")]
InvertContrast = Annotated[
    bool | None,
    typer.Option(help="Particles are dark on bright ground: multiply images by -1."),
]
Budget = Annotated[
    str | None,
    typer.Option(
        help="Add chains until samples are worth enough independent ones for intervals of 90 %, "
        "or the run has taken '30 minutes', or '400 sweeps' of sampling."
    ),
]
Resume = Annotated[bool, typer.Option(help="Go on with the run in --out from its checkpoints.")]
Auto = Annotated[
    bool,
    typer.Option(
        help="Then fit the regions that move, a knob each (OUT-parts), and equal copies "
        "(OUT-copies), where there may be any, and tell which predicts best."
    ),
]


def fit(
    particles: Annotated[Path, typer.Argument(help="RELION .star or cryoSPARC .cs file.")],
    out: Annotated[Path, typer.Option(help="Run directory to write.")],
    recipe: Recipe = None,
    state: State = None,
    basis: Basis = None,
    terms: Annotated[
        int | None, typer.Option(help="Terms of the state basis; the number of classes.")
    ] = None,
    poses: Annotated[
        str | None, typer.Option(help="refine, rescue, fixed, search or start.")
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
    budget: Budget = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    invert_contrast: InvertContrast = None,
    leave_out_outliers: LeaveOutOutliers = None,
    normalise: Normalise = None,
    image_dir: ImageDir = None,
    passthrough: Passthrough = None,
    pixel_size: PixelSize = None,
    resume: Resume = False,
    auto: Auto = False,
) -> None:
    """Recover the motion in a particle set, with error bars."""
    given = {
        "basis": _basis(state, basis),
        "n_terms": terms,
        "poses": poses,
        "resolution_angstrom": resolution,
        "radius_angstrom": radius,
        "chains": chains,
        "burn_in": burn_in,
        "samples": samples,
        "thin": thin,
        "budget": budget,
        "seed": seed,
        "invert_contrast": invert_contrast,
        "leave_out_outliers": leave_out_outliers,
        "normalise": normalise,
    }
    options = _options(recipe, out if resume else None, given)
    console = Console()
    console.print(f"hypermol fit {particles} on {configure()}")
    source = ParticleSource(particles, image_dir, tuple(passthrough or ()), pixel_size)
    if auto:
        check_auto(options, out, resume)
    finish(console, fit_with_progress(console, source, out, options, resume))
    if auto:
        _fit_proposed(console, source, out, options)


def _fit_proposed(console: Console, source: ParticleSource, out: Path, options: FitOptions) -> None:
    """The further fits of --auto, or what is left of them, and which run predicts best; none where
    nothing moves."""
    folder, done = out / "regions", [out]
    begun = any(
        (target / "run.json").exists() for target in (parts_folder(out), copies_folder(out))
    )
    for following in proposed(out, folder) if begun else propose(console, out, folder):
        own, chosen = fit_that_follows(source, following, options)
        resume = (following.out / "run.json").exists()
        finish(console, fit_with_progress(console, own, following.out, chosen, resume))
        done.append(following.out)
    if len(done) > 1:
        tell_best(console, done)


def _basis(state: str | None, basis: str | None) -> str | None:
    """The state basis that is asked for by its name or by what states live on, if any."""
    if state is None:
        return basis
    if state not in BASIS_OF:
        raise InputError(f"--state {state!r} is not known: use {', '.join(BASIS_OF)}")
    if basis in BASES and BASES[basis].states != state:
        raise InputError(
            f"--state {state} and --basis {basis} do not go together ({basis} is of "
            f"{BASES[basis].states} states): remove one of the two"
        )
    return basis or BASIS_OF[state]


def _options(recipe: Path | None, resumed: Path | None, given: dict[str, Any]) -> FitOptions:
    """Options from the recipe (a resumed run's own, if none is given), then the command line."""
    if recipe is None and resumed is not None and (resumed / "recipe.toml").exists():
        recipe = resumed / "recipe.toml"
    options = read_recipe(recipe) if recipe else FitOptions()
    chosen = {key: value for key, value in given.items() if value is not None}
    clash = clashing({"type": options.type, "part": options.part, **chosen})
    if clash is not None:
        raise InputError(
            f"{_WORDS[clash[1]]} and model.{clash[0]} of recipe {recipe} do not go together: "
            "remove one of the two"
        )
    return replace(options, **chosen)


def fit_with_progress(
    console: Console,
    source: ParticleSource,
    out: Path,
    options: FitOptions,
    resume: bool = False,
) -> RunDirectory:
    """Run a fit under a progress bar: stage, chain, sweep, rate, time left."""
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

        def listen(at: SweepProgress) -> None:
            bar.update(
                task,
                description=f"{at.stage.name}, chain {at.chain + 1}/{at.chains}, "
                f"sweep {at.sweep + 1}",
                total=1.0,
                completed=at.share,
                rate=f"{at.images / max(at.record['seconds'], 1e-3):,.0f} images/s",
            )

        def say(remark: str) -> None:
            console.print(remark, markup=False, soft_wrap=True)

        return run_fit(source, out, options, listen, resume, say)


def finish(console: Console, directory: RunDirectory) -> None:
    """Results, report, and where they are."""
    from hypermol.report import write_report  # noqa: PLC0415 - a fit need not hold it

    with console.status("writing volumes, particles.star, occupancy, diagnostics"):
        write_results(load_run(directory.path))
    with console.status("writing the report"):
        page = write_report(load_run(directory.path))
    tell_worth(console, directory)
    console.print(f"Done. Open {page}; volumes and particles.star are in {directory.path}")


def tell_worth(console: Console, directory: RunDirectory) -> None:
    """Say it where intervals are too narrow, and what it takes."""
    from hypermol.report.worth import worth_finding  # noqa: PLC0415 - a fit need not hold it

    found = worth_finding(load_run(directory.path))
    if found is not None and found.weight != "good":
        console.print(f"{found.title}. {found.text}", markup=False, soft_wrap=True)
