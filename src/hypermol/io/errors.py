"""The exceptions for what is wrong with the user's input, and for what cannot be written."""


class InputError(ValueError):
    """A file, row or option of the user's is wrong.

    The message is one sentence that names the file (and the particle's row, counted from 1, or
    the option) and says what to do about it.
    """


class OutputError(InputError):
    """A file or folder cannot be written; the message names it, the reason and the remedy.

    It is an `InputError` because where to write is the user's choice.
    """
