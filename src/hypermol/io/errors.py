"""The one exception for anything wrong with what the user gave."""


class InputError(ValueError):
    """A file, row or option of the user's is wrong.

    The message is one sentence that names the file (and the particle's row, counted from 1, or
    the option) and says what to do about it.
    """
