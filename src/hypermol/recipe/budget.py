"""What a run may take to have as many chains as its intervals need: "30 minutes", "400 sweeps"."""

from typing import NamedTuple

from hypermol.io.errors import InputError

_UNITS = ("minutes", "sweeps")


class Budget(NamedTuple):
    """One of the two, the other None.

    Attributes:
        minutes: of wall time that the whole run may take.
        sweeps: of sampling that all chains together may take.
    """

    minutes: float | None = None
    sweeps: int | None = None


def read_budget(text: str) -> Budget:
    """What a recipe or `--budget` says.

    Raises:
        InputError: it is not a number above zero and a unit.
    """
    number, _, unit = str(text).strip().partition(" ")
    unit = f"{unit.strip().rstrip('s')}s"
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    whole = unit == "minutes" or value.is_integer()
    if unit not in _UNITS or not 0.0 < value < float("inf") or not whole:
        raise InputError(
            f"budget {text!r} is not understood: write a number and its unit, as '30 minutes' (of "
            "the whole run) or '400 sweeps' (of sampling, of all chains together)"
        )
    return Budget(minutes=value) if unit == "minutes" else Budget(sweeps=int(value))
