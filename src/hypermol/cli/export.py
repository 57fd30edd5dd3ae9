"""`hypermol export`: volumes at a state, series, movies, and the particles of a state."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from hypermol.analysis.chains import has_states, run_knobs
from hypermol.analysis.export import (
    ParticleFiles,
    Walk,
    export_at,
    export_movie,
    export_particles,
    export_series,
    middle_state,
)
from hypermol.analysis.knobs import Knob
from hypermol.analysis.run import Run, load_run
from hypermol.io.errors import InputError

_FRAMES = 24

At = Annotated[
    str | None,
    typer.Option(
        help="A state, such as 0.3, or arm=0.3,lid=0.8 for several knobs: its mean and sd as MRC."
    ),
]
KnobName = Annotated[
    str | None,
    typer.Option(help="Of several knobs, the one that --series, --movie and --where mean."),
]
Hold = Annotated[
    str | None,
    typer.Option(
        help="Where --series and --movie hold other knobs, such as lid=0.8; in their middle "
        "without it."
    ),
]
Series = Annotated[
    int | None,
    typer.Option(help="So many MRC means along the state, and a ChimeraX script for them."),
]
Movie = Annotated[
    Path | None,
    typer.Option(help="A looping GIF of projections and slices along the state."),
]
Where = Annotated[
    str | None,
    typer.Option(
        help="States LOW:HIGH whose particles to write (with --star or --cs); on a circle LOW "
        "may be above HIGH."
    ),
]
Star = Annotated[
    Path | None, typer.Option(help="The STAR file that --where writes; RELION reads it.")
]
Cs = Annotated[
    Path | None,
    typer.Option(
        help="The .cs file that --where writes, of runs on cryoSPARC particles; cryoSPARC reads it."
    ),
]
ImageDir = Annotated[
    Path | None,
    typer.Option(help="With --star: folder where the stacks are now, if they were moved."),
]
Sample = Annotated[
    int | None,
    typer.Option(
        help="With --at or --series: volumes of this posterior sample (from 0), not the mean."
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder for volumes; RUN/export by default.")]


def export(
    run: Annotated[Path, typer.Argument(help="Run directory (`hypermol fit`'s --out).")],
    at: At = None,
    knob: KnobName = None,
    hold: Hold = None,
    series: Series = None,
    movie: Movie = None,
    where: Where = None,
    star: Star = None,
    cs: Cs = None,
    image_dir: ImageDir = None,
    sample: Sample = None,
    out: Out = None,
) -> None:
    """Write volumes, a movie or particles of a run, at states of your choice."""
    opened = load_run(run)
    files = ParticleFiles(star, cs, image_dir)
    if at is None and series is None and movie is None and where is None and star is cs is None:
        raise InputError(
            "nothing to export: give --at, --series, --movie, or --where with --star or --cs"
        )
    check_particle_files(where, files)
    if sample is not None and at is None and series is None:
        raise InputError("--sample goes with --at or --series: add one of them")
    folder = opened.directory.path / "export" if out is None else out
    written: list[Path] = []
    if at is not None:
        written += export_at(opened, parse_state(opened, at), folder, sample)
    if series is not None or movie is not None or where is not None:
        moved = choose_knob(opened, knob)
        held = parse_held(opened, hold)
        if series is not None:
            written += export_series(opened, Walk(moved, held, series), folder, sample)
        if movie is not None:
            frames = _FRAMES if series is None else series
            written.append(export_movie(opened, movie, Walk(moved, held, frames)))
        if where is not None:
            n, found = export_particles(opened, moved, parse_range(moved, where), files)
            names = " and ".join(str(path) for path in found)
            typer.echo(f"{n} of {opened.info['n_particles']} particles in {names}")
    for path in written:
        typer.echo(str(path))


def check_particle_files(where: str | None, files: ParticleFiles) -> None:
    """Refuse options about files of particles that do not go together.

    Raises:
        InputError: naming the options.
    """
    if (where is None) != (files.star is None and files.cs is None):
        raise InputError(
            "--where and --star (or --cs) go together: the states, and the file to write"
        )
    if files.image_dir is not None and files.star is None:
        raise InputError("--image-dir goes with --star: add it")
    for option, path, suffix in (("--star", files.star, ".star"), ("--cs", files.cs, ".cs")):
        if path is not None and path.suffix != suffix:
            raise InputError(f"{option} {path}: give a name that ends in {suffix}")


def _number(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value) or not 0.0 <= value <= 1.0:
        raise InputError(f"{option}: {text!r} is not a state: give a number from 0 to 1")
    return value


def choose_knob(run: Run, name: str | None) -> Knob | None:
    """The knob called so, or the only one; None for a rigid molecule.

    Raises:
        InputError: no such knob, or several and none named.
    """
    knobs = {knob.name: knob for knob in run_knobs(run)}
    if not knobs:
        return None
    known = ", ".join(knobs)
    if name is None:
        if len(knobs) > 1:
            raise InputError(f"the run has several knobs: add --knob, one of {known}")
        return next(iter(knobs.values()))
    if name not in knobs:
        raise InputError(f"--knob: the run has no knob {name!r}: use one of {known}")
    return knobs[name]


def _assigned(run: Run, text: str, option: str) -> dict[int, float]:
    """Columns and values of NAME=VALUE,NAME=VALUE."""
    columns = {knob.name: knob.column for knob in run_knobs(run)}
    found: dict[int, float] = {}
    for entry in text.split(","):
        name, equals, value = (part.strip() for part in entry.rpartition("="))
        if not equals and len(columns) > 1:
            raise InputError(
                f"{option}: {entry!r} names no knob: write NAME=VALUE for {', '.join(columns)}"
            )
        if equals and name not in columns:
            raise InputError(
                f"{option}: the run has no state {name!r}: its state is "
                + ", ".join(repr(known) for known in columns)
            )
        found[columns[name] if equals else 0] = _number(value, option)
    return found


def parse_state(run: Run, text: str) -> np.ndarray:
    """A state [dim] from 0.3 or NAME=0.3, or NAME=0.3,OTHER=0.5 with all of several knobs.

    Raises:
        InputError: not numbers in [0, 1], another name, a knob left out, or a rigid molecule.
    """
    if not has_states(run):
        raise InputError(
            f"{run.directory.path} is a rigid fit (one state): its volume is in volumes/, or use "
            "--series 1"
        )
    found = _assigned(run, text, "--at")
    missing = [knob.name for knob in run_knobs(run) if knob.column not in found]
    if missing:
        raise InputError(f"--at: {text!r} leaves {', '.join(missing)} out: give all knobs")
    return np.array([found[column] for column in sorted(found)])


def parse_held(run: Run, text: str | None) -> np.ndarray:
    """State [dim] at which knobs are held: what is given, the middle for the others.

    Raises:
        InputError: not numbers in [0, 1], or another name.
    """
    held = middle_state(run)
    for column, value in _assigned(run, text, "--hold").items() if text is not None else ():
        held[column] = value
    return held


def parse_range(knob: Knob | None, text: str) -> tuple[float, float]:
    """(low, high) from LOW:HIGH.

    Raises:
        InputError: not two states, or reversed on an interval.
    """
    low_text, colon, high_text = text.partition(":")
    if not colon:
        raise InputError(f"--where: {text!r} is no range: give LOW:HIGH, such as 0.2:0.4")
    low, high = _number(low_text, "--where"), _number(high_text, "--where")
    if low >= high and (knob is None or knob.kind != "circle"):
        raise InputError(f"--where: {text!r} is empty: give the lower state first")
    return low, high
