"""The command line: one file a verb, mounted here."""

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from hypermol.cli import simulate
from hypermol.cli.check import check
from hypermol.cli.demo import demo
from hypermol.cli.export import export
from hypermol.cli.fit import fit
from hypermol.cli.import_bodies import import_bodies
from hypermol.cli.report import report
from hypermol.cli.score import score
from hypermol.io.errors import InputError


class _Sentences(TyperGroup):
    """Ends a command with one line, not a traceback, where the user's input was at fault."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Sentences,
    help="Recover the continuous motions of macromolecules from cryo-EM images.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(simulate.app, name="simulate")
app.command("demo")(demo)
app.command("check")(check)
app.command("fit")(fit)
app.command("import-bodies")(import_bodies)
app.command("report")(report)
app.command("export")(export)
app.command("score")(score)

if __name__ == "__main__":
    sys.exit(app())
