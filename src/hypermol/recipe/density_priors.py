"""Density priors as tables of a recipe: `adjacent_states = { weight = 1.0, nodes = 16 }`."""

from typing import Any, NamedTuple

from hypermol.io.errors import InputError
from hypermol.posterior.density_priors import DensityPrior, NoPrior, Positivity, Sum
from hypermol.posterior.state_smoothness import AdjacentStates, MassFlow

#: A recipe's tables by name, as numbers.
Tables = dict[str, dict[str, Any]]


class Entry(NamedTuple):
    """A prior's table: what must be given, and what may be, with its default."""

    required: tuple[str, ...]
    optional: dict[str, float]


#: What a recipe may say under [prior]. `length` is a share of the images' box there.
ENTRIES: dict[str, Entry] = {
    "adjacent_states": Entry(("weight",), {"nodes": 16}),
    "mass_flow": Entry(("weight",), {"nodes": 16, "length": 0.25, "reference": 1.0}),
    "positivity": Entry(("weight", "width"), {"nodes": 8}),
}


def read_density_prior(tables: Tables, box: int, pixel_size_angstrom: float) -> DensityPrior:
    """The sum of the priors that the tables name, for densities in a box of images.

    Raises:
        InputError: names the table, the key, and what it may be.
    """
    parts: list[DensityPrior] = []
    for name, table in tables.items():
        values = _complete(name, table)
        try:
            if name == "adjacent_states":
                parts.append(AdjacentStates(**values, box=box))
            elif name == "mass_flow":
                length = values.pop("length") * box * pixel_size_angstrom
                flow = MassFlow(
                    **values, box=box, pixel_size_angstrom=pixel_size_angstrom,
                    length_angstrom=length,
                )  # fmt: skip
                parts.append(flow)
            else:
                parts.append(Positivity(**values, box=box))
        except ValueError as error:
            raise InputError(f"prior.{name}: {error}") from error
    return Sum(tuple(parts)) if parts else NoPrior()


def _complete(name: str, table: Any) -> dict[str, Any]:
    """A table with its defaults, every value a number."""
    if name not in ENTRIES:
        raise InputError(f"prior {name!r} is not known: use one of {', '.join(ENTRIES)}")
    required, optional = ENTRIES[name]
    if not isinstance(table, dict):
        raise InputError(f"prior.{name} is {table!r}: write a table {{ {required[0]} = ... }}")
    for key, value in table.items():
        if key not in (*required, *optional):
            known = ", ".join((*required, *optional))
            raise InputError(f"prior.{name}: key {key!r} is not known: use one of {known}")
        whole = key == "nodes"
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            kind = "a whole number" if whole else "a number"
            raise InputError(f"prior.{name}: {key} is {value!r}: give {kind}")
    missing = [key for key in required if key not in table]
    if missing:
        raise InputError(f"prior.{name}: {missing[0]} is missing: give it a number")
    return {**optional, **table}
