"""How a command ends where the user's input or the file system is at fault: with one line."""

import errno
from typing import Any

import typer
from typer.core import TyperGroup

from hypermol.io.atomic import cannot_use
from hypermol.io.errors import InputError


class Sentences(TyperGroup):
    """Says `Error:` and one sentence in place of a traceback, with exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            typer.Exit: with code 1, after the sentence.
        """
        try:
            return super().invoke(ctx)
        except InputError as error:
            raise _end(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has gone: not worth a word
                raise
            raise _end(cannot_use(error)) from error


def _end(sentence: str) -> typer.Exit:
    typer.echo(f"Error: {sentence}", err=True)
    return typer.Exit(1)
