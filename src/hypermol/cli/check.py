"""`hypermol check`: a model and its particles before a fit."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from hypermol.cli.particle_options import (
    ImageDir,
    LeaveOutOutliers,
    Normalise,
    Passthrough,
    PixelSize,
)
from hypermol.data.inspection import inspect
from hypermol.data.particles import ParticleSet
from hypermol.data.source import ParticleSource
from hypermol.fitting.forecast import Memory, Seconds, Trial
from hypermol.fitting.schedules import make_schedule
from hypermol.molecule.check import Report, check_model
from hypermol.recipe.design import AnyDesign, Grid
from hypermol.recipe.options import FitOptions, make_design
from hypermol.recipe.outlines import Outline, outlines
from hypermol.recipe.toml import read_recipe
from hypermol.runtime import configure

#: Conformance is tested up to this frequency in 1/box, with a molecule of a little more: `fourier`
#: is a direct sum, and slow; densities on a grid fold what lies at its last shells.
_CHECK_KMAX, _MOLECULE_KMAX = 6, 8
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def check(
    model: Annotated[Path, typer.Argument(help="TOML recipe of the model (docs/recipe.md).")],
    particles: Annotated[Path, typer.Argument(help="RELION .star or cryoSPARC .cs file.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of regions.png; by default the recipe's name with -check."),
    ] = None,
    timing: Annotated[
        bool, typer.Option(help="Compile and time one sweep; leaving it out saves a minute.")
    ] = True,
    leave_out_outliers: LeaveOutOutliers = None,
    normalise: Normalise = None,
    image_dir: ImageDir = None,
    passthrough: Passthrough = None,
    pixel_size: PixelSize = None,
) -> None:
    """Test a model, draw its regions, and predict memory and time of its fit."""
    console = Console()
    given: dict[str, Any] = {"leave_out_outliers": leave_out_outliers, "normalise": normalise}
    options = replace(
        read_recipe(model), **{name: value for name, value in given.items() if value is not None}
    )
    source = ParticleSource(particles, image_dir, tuple(passthrough or ()), pixel_size)
    loaded = source.load(invert_contrast=options.invert_contrast, allow_missing=options.needless)
    design = make_design(options, loaded.box, loaded.pixel_size_angstrom)
    make_schedule(options, loaded, design)  # mistakes in the recipe are said before images are read
    loaded = _inspected(console, options, loaded)
    trial = Trial(loaded, options, design, make_schedule(options, loaded, design))
    console.print(f"hypermol check {model} on {configure()}", markup=False)
    with console.status("testing the molecule"):
        report = _conformance(design, loaded, options)
    _print_findings(console, options.type or str(model), report)
    _print_memory(console, trial.memory(), trial.largest_memory())
    with console.status("reconstructing a consensus"):
        start = trial.consensus()
    path = (out or model.with_name(f"{model.stem}-check")) / "regions.png"
    level, state = start
    density = level.molecule.mean(state.theta)
    voxel = level.grid.voxel_size_angstrom
    _draw_regions(density, voxel, outlines(design, options), path)
    console.print(f"regions over a consensus: {path}", markup=False)
    if timing:
        with console.status("compiling and timing a sweep"):
            seconds = trial.seconds(start)
        console.print(
            f"estimate: {seconds.sweep:,.1f} s a sweep at full resolution for {loaded.n:,} "
            f"particles (measured on {seconds.measured_on} and scaled), about "
            f"{seconds.fit / 60:,.1f} min for the whole fit on this machine"
            + longest_words(seconds)
        )
    raise typer.Exit(0 if report.ok else 1)


def _inspected(console: Console, options: FitOptions, particles: ParticleSet) -> ParticleSet:
    """The particles as a fit takes them, with what is to be said about them."""
    particles, remarks = inspect(
        particles,
        leave_out_outliers=options.leave_out_outliers,
        normalise=options.normalise,
    )
    for remark in remarks:
        console.print(remark, markup=False, soft_wrap=True)
    return particles


def _conformance(design: AnyDesign, particles: ParticleSet, options: FitOptions) -> Report:
    """The molecule as its maker wrote it, at a low resolution."""
    side = particles.box * particles.pixel_size_angstrom
    grid = Grid(particles.box, particles.pixel_size_angstrom, _MOLECULE_KMAX, 0.45 * side)
    return check_model(
        design.written(grid),
        radius_angstrom=0.5 * side if design.is_linear else options.radius_angstrom or 0.5 * side,
        resolution_angstrom=side / _CHECK_KMAX,
    )


def _draw_regions(density: np.ndarray, voxel: float, drawn: list[Outline], path: Path) -> None:
    """What draws figures is loaded here: whoever fits need not hold it."""
    from hypermol.report.regions import regions_figure  # noqa: PLC0415
    from hypermol.report.style import save  # noqa: PLC0415

    save(regions_figure(density, voxel, drawn), path)


def _print_findings(console: Console, title: str, report: Report) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("checked")
    table.add_column("")
    table.add_column("finding")
    for finding in report.findings:
        mark = "[green]right[/green]" if finding.passed else "[red]wrong[/red]"
        table.add_row(finding.name, mark, finding.message.replace("[", r"\["))
    console.print(table)


def _if_more(usual: float, most: float, said: str) -> str:
    """What it comes to if state terms rise as far as they may, where they may."""
    return f"; {said} if the states turn out to tell more terms" if most > usual else ""


def longest_words(seconds: Seconds) -> str:
    """What a fit takes that takes as long as it may."""
    if seconds.longest <= seconds.fit:
        return ""
    return (
        f"; up to {seconds.longest / 60:,.1f} min with all the state terms and chains that it may "
        "turn out to need"
    )


def _print_memory(console: Console, memory: Memory, largest: Memory) -> None:
    console.print(
        f"memory: {_size(memory.total)} = {_size(memory.images)} images (12 bytes x Fourier "
        "pixels of the finest level x particles) + "
        f"{_size(memory.grids)} grids (3 x slicing grids) + "
        f"{_size(memory.coefficients)} coefficients (7 x theta) + "
        f"{_size(memory.kernels)} kernels"
        + _if_more(memory.total, largest.total, _size(largest.total))
    )


def _size(n_bytes: int) -> str:
    for unit, name in _UNITS:
        if n_bytes >= unit:
            return f"{n_bytes / unit:.1f} {name}"
    return f"{n_bytes} bytes"
