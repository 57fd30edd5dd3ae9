"""`hypermol report`: one self-contained page about a run."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Run directory: what `hypermol fit` got as --out.")],
) -> None:
    """Write report.html (figures, diagnostics, verdict) and figures/*.png into a run."""
    from hypermol.report import write_report  # noqa: PLC0415 - whoever fits need not hold it

    path = write_report(run)
    typer.echo(f"{path} (open it in a browser; pictures in {path.parent / 'figures'})")
