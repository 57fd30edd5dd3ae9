"""`hypermol compare`: which of several models of the same particles the images prefer."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hypermol.fitting.comparison import (
    Difference,
    HeldOut,
    check_comparable,
    difference,
    held_out_of_run,
)
from hypermol.io.errors import InputError
from hypermol.runtime import configure


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more finished runs of the same particles.")
    ],
) -> None:
    """Tell which model predicts images best that its molecule has not seen (sec. 6.1)."""
    if len(runs) < 2:
        raise InputError(f"compare needs two runs or more, and {len(runs)} is given")
    configure()
    tell_best(Console(), runs)


def tell_best(console: Console, runs: list[Path]) -> None:
    """Print the table of the runs, and the sentence."""
    found = scores(console, runs)
    console.print(table(found))
    console.print(verdict(found), markup=False, soft_wrap=True)


def scores(console: Console, runs: list[Path]) -> dict[Path, HeldOut]:
    """The score of each run, worked out where it is not known yet."""
    check_comparable(runs)
    found = {}
    for run in runs:
        with console.status(f"leaving images out of {run}"):
            found[run] = _score(run)
    return found


def _score(run: Path) -> HeldOut:
    try:
        return held_out_of_run(run)
    except InputError:
        raise
    except ValueError as reason:
        raise InputError(f"{run} cannot be compared: {reason}") from reason


def ranked(found: dict[Path, HeldOut]) -> list[tuple[Path, Difference]]:
    """Every run, the one that predicts best first, and how much better it is than each."""
    order = sorted(found, key=lambda run: -found[run].scores.mean())
    return [(run, difference(found[order[0]], found[run])) for run in order]


def table(found: dict[Path, HeldOut]) -> Table:
    """The scores for people."""
    shown = Table(title="images left out of the molecule", title_justify="left")
    shown.add_column("run")
    shown.add_column("nats an image", justify="right")
    shown.add_column("below the best", justify="right")
    for run, behind in ranked(found):
        less = f"{behind.mean:.2f} +- {behind.error:.2f}" if behind.error else "-"
        shown.add_row(str(run), f"{found[run].scores.mean():.2f}", less)
    return shown


def verdict(found: dict[Path, HeldOut]) -> str:
    """One sentence: which run predicts best, and whether clearly."""
    (best, _), (second, behind), *_ = ranked(found)
    n = len(found[best].scores)
    if not behind.is_clear:
        return f"{n} images do not tell {best} and {second} apart: take the simpler model"
    return f"{best} predicts {n} images best, clearly (more than two standard errors)"
