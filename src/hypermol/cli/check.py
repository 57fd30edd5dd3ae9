"""`hypermol check`: a model and its particles before a fit."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

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
from hypermol.data.particles import ParticleSet, ParticleSource
from hypermol.fitting.forecast import (
    Memory,
    final_molecule,
    predict_memory,
    predict_seconds,
    quick_consensus,
)
from hypermol.fitting.stages import default_schedule, make_plan
from hypermol.molecule.check import Report, check_model
from hypermol.molecule.parts import Place
from hypermol.molecule.region import Ball
from hypermol.recipe.design import Assembly, Design, Grid
from hypermol.recipe.options import FitOptions, make_design
from hypermol.recipe.own_class import load_model
from hypermol.recipe.toml import read_recipe
from hypermol.report.regions import Outline, regions_figure
from hypermol.report.style import save
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
    loaded = source.load(invert_contrast=options.invert_contrast)
    if options.type is not None:
        report = _own_class(console, options, loaded, model.parent)
    else:
        make_plan(options, loaded)  # mistakes in the recipe are said before images are read
        design = make_design(options, loaded.box, loaded.pixel_size_angstrom)
        loaded = _inspected(console, options, loaded)
        schedule = default_schedule(make_plan(options, loaded))
        console.print(f"hypermol check {model} on {configure()}", markup=False)
        with console.status("testing the molecule"):
            report = _conformance(design, loaded)
        _print_findings(console, str(model), report)
        molecule = final_molecule(design, options, loaded, schedule[-1])
        memory = predict_memory(molecule, schedule, loaded.box, loaded.n)
        _print_memory(console, memory)
        with console.status("reconstructing a consensus"):
            start = quick_consensus(loaded, options, schedule[0])
        path = (out or model.with_name(f"{model.stem}-check")) / "regions.png"
        level, state = start
        density = level.molecule.mean(state.theta)
        voxel = level.basis.voxel_size_angstrom
        save(regions_figure(density, voxel, outlines(design, options)), path)
        console.print(f"regions over a consensus: {path}", markup=False)
        if timing:
            with console.status("compiling and timing a sweep"):
                seconds = predict_seconds(loaded, options, schedule, molecule, start)
            console.print(
                f"estimate: {seconds.sweep:,.1f} s a sweep at full resolution for {loaded.n:,} "
                f"particles (measured on {seconds.measured_on} and scaled), about "
                f"{seconds.fit / 60:,.1f} min for the whole fit on this machine"
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


def _own_class(
    console: Console, options: FitOptions, particles: ParticleSet, folder: Path
) -> Report:
    """Conformance of a user's own class, which has no regions to draw and no march to time."""
    assert options.type is not None
    own = load_model(options.type, options.arguments, folder)
    particles = _inspected(console, options, particles)
    side = particles.box * particles.pixel_size_angstrom
    report = check_model(
        own,
        radius_angstrom=options.radius_angstrom or 0.5 * side,
        resolution_angstrom=options.resolution_angstrom or side / _CHECK_KMAX,
    )
    _print_findings(console, options.type, report)
    return report


def _conformance(design: Design, particles: ParticleSet) -> Report:
    side = particles.box * particles.pixel_size_angstrom
    grid = Grid(particles.box, particles.pixel_size_angstrom, _MOLECULE_KMAX, 0.45 * side)
    return check_model(
        design.molecule(grid, design.n_terms),
        radius_angstrom=0.5 * side,
        resolution_angstrom=side / _CHECK_KMAX,
    )


def outlines(design: Design, options: FitOptions) -> list[Outline]:
    """What to draw: each part's region, or the ball of one generic molecule if it is given."""
    if isinstance(design, Assembly):
        return [Outline(part.name, part.region, part.places) for part in design.parts]
    if options.radius_angstrom is None:
        return []
    return [Outline("molecule", Ball((0.0, 0.0, 0.0), options.radius_angstrom), (Place(),))]


def _print_findings(console: Console, title: str, report: Report) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("checked")
    table.add_column("")
    table.add_column("finding")
    for finding in report.findings:
        mark = "[green]right[/green]" if finding.passed else "[red]wrong[/red]"
        table.add_row(finding.name, mark, finding.message.replace("[", r"\["))
    console.print(table)


def _print_memory(console: Console, memory: Memory) -> None:
    console.print(
        f"memory: {_size(memory.total)} = {_size(memory.images)} images (12 bytes x Fourier "
        f"pixels of all levels x particles) + {_size(memory.grids)} grids (2 x slicing grids) + "
        f"{_size(memory.coefficients)} coefficients (7 x theta)"
    )


def _size(n_bytes: int) -> str:
    for unit, name in _UNITS:
        if n_bytes >= unit:
            return f"{n_bytes / unit:.1f} {name}"
    return f"{n_bytes} bytes"
