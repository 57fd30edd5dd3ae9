"""`hypermol export`: volumes at a state, series, movies, and the particles of a state."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from hypermol.analysis.chains import has_states, is_circle
from hypermol.analysis.export import (
    export_at,
    export_movie,
    export_particles,
    export_series,
)
from hypermol.analysis.run import Run, load_run
from hypermol.io.errors import InputError

_FRAMES = 24


def export(
    run: Annotated[Path, typer.Argument(help="Run directory (`hypermol fit`'s --out).")],
    at: Annotated[
        str | None, typer.Option(help="A state, such as 0.3 or arm=0.3: its mean and sd as MRC.")
    ] = None,
    series: Annotated[
        int | None,
        typer.Option(help="So many MRC means along the state, and a ChimeraX script for them."),
    ] = None,
    movie: Annotated[
        Path | None,
        typer.Option(help="A looping GIF of projections and slices along the state."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            help="States LOW:HIGH whose particles to write (with --star); on a circle LOW may be "
            "above HIGH."
        ),
    ] = None,
    star: Annotated[
        Path | None, typer.Option(help="The STAR file that --where writes; RELION reads it.")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            help="With --at or --series: volumes of this posterior sample (from 0), not the mean."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for volumes; RUN/export by default.")
    ] = None,
) -> None:
    """Write volumes, a movie or particles of a run, at states of your choice."""
    opened = load_run(run)
    if at is None and series is None and movie is None and star is None and where is None:
        raise InputError("nothing to export: give --at, --series, --movie, or --where with --star")
    if (where is None) != (star is None):
        raise InputError("--where and --star go together: the states, and the file to write")
    if sample is not None and at is None and series is None:
        raise InputError("--sample goes with --at or --series: add one of them")
    folder = opened.directory.path / "export" if out is None else out
    written: list[Path] = []
    if at is not None:
        written += export_at(opened, parse_state(opened, at), folder, sample)
    if series is not None:
        written += export_series(opened, series, folder, sample)
    if movie is not None:
        written.append(export_movie(opened, movie, series or _FRAMES))
    if where is not None and star is not None:
        low, high = parse_range(opened, where)
        n = export_particles(opened, (low, high), star)
        typer.echo(f"{n} of {opened.info['n_particles']} particles in {star}")
    for path in written:
        typer.echo(str(path))


def _number(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value) or not 0.0 <= value <= 1.0:
        raise InputError(f"{option}: {text!r} is not a state: give a number from 0 to 1")
    return value


def parse_state(run: Run, text: str) -> np.ndarray:
    """A state [dim] from 0.3 or NAME=0.3.

    Raises:
        InputError: not a number in [0, 1], another name, or a rigid molecule.
    """
    if not has_states(run):
        raise InputError(
            f"{run.directory.path} is a rigid fit (one state): its volume is in volumes/, or use "
            "--series 1"
        )
    name, equals, value = text.rpartition("=")
    if equals and name.strip() != run.info["state_name"]:
        raise InputError(
            f"--at: the run has no state {name.strip()!r}: its state is {run.info['state_name']!r}"
        )
    return np.array([_number(value, "--at")])


def parse_range(run: Run, text: str) -> tuple[float, float]:
    """(low, high) from LOW:HIGH.

    Raises:
        InputError: not two states, or reversed on an interval.
    """
    low_text, colon, high_text = text.partition(":")
    if not colon:
        raise InputError(f"--where: {text!r} is no range: give LOW:HIGH, such as 0.2:0.4")
    low, high = _number(low_text, "--where"), _number(high_text, "--where")
    if low >= high and not is_circle(run):
        raise InputError(f"--where: {text!r} is empty: give the lower state first")
    return low, high
