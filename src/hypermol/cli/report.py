"""`hypermol report`: one self-contained page about a run."""

from pathlib import Path
from typing import Annotated

import typer

from hypermol.report import write_report


def report(
    run: Annotated[Path, typer.Argument(help="Run directory: what `hypermol fit` got as --out.")],
) -> None:
    """Write report.html (figures, diagnostics, verdict) and figures/*.png into a run."""
    path = write_report(run)
    typer.echo(f"{path} (open it in a browser; pictures in {path.parent / 'figures'})")
