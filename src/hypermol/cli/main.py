"""The command line: one file a verb, mounted here."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from hypermol.cli import simulate
from hypermol.cli.check import check
from hypermol.cli.compare import compare
from hypermol.cli.demo import demo
from hypermol.cli.export import export
from hypermol.cli.fit import fit
from hypermol.cli.import_bodies import import_bodies
from hypermol.cli.regions import regions
from hypermol.cli.report import report
from hypermol.cli.score import score
from hypermol.cli.sentences import Sentences

app = typer.Typer(
    cls=Sentences,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"hypermol {version('hypermol')}")
        raise typer.Exit


@app.callback()
def hypermol(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_say_version, is_eager=True, help="Show the version and stop."
        ),
    ] = False,
) -> None:
    """Recover the continuous motions of macromolecules from cryo-EM images."""


app.add_typer(simulate.app, name="simulate")
app.command("demo")(demo)
app.command("check")(check)
app.command("fit")(fit)
app.command("import-bodies")(import_bodies)
app.command("regions")(regions)
app.command("report")(report)
app.command("export")(export)
app.command("score")(score)
app.command("compare")(compare)

if __name__ == "__main__":
    sys.exit(app())
