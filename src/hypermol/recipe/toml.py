"""Recipes: the options of a fit as a readable TOML file, both ways. Unknown keys are errors."""

import tomllib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import tomli_w

from hypermol.io.atomic import write_text
from hypermol.io.errors import InputError
from hypermol.posterior.priors import HyperPrior, InverseGamma
from hypermol.recipe.density_priors import ENTRIES, read_density_prior
from hypermol.recipe.options import FitOptions

#: Which option stands in which table of the file.
TABLES: dict[str, tuple[str, ...]] = {
    "model": (
        "basis",
        "n_terms",
        "state_name",
        "spatial_basis",
        "resolution_angstrom",
        "radius_angstrom",
        "part",
        "type",
        "arguments",
        "folder",
    ),
    "data": ("invert_contrast", "leave_out_outliers", "normalise"),
    "sampling": (
        "poses",
        "chains",
        "starts",
        "trials",
        "subset",
        "schedule",
        "theta",
        "particles",
        "spectrum",
        "burn_in",
        "samples",
        "thin",
        "budget",
        "seed",
        "checkpoint_every",
        "start_steps",
    ),
}


def write_recipe(path: str | Path, options: FitOptions) -> None:
    """Write options as TOML; what is None (chosen from the data) or empty is left out."""
    given = vars(options)
    content = {table: {name: given[name] for name in names} for table, names in TABLES.items()}
    content["prior"] = asdict(options.prior) | options.density_prior
    write_text(path, tomli_w.dumps(_without_empty(content)))


def _without_empty(table: dict[str, Any]) -> dict[str, Any]:
    """A table without values that TOML does not have, in tables and lists of tables within, too."""
    found = {}
    for key, value in table.items():
        if isinstance(value, dict):
            value = _without_empty(value)
        elif isinstance(value, list | tuple):
            value = [_without_empty(v) if isinstance(v, dict) else v for v in value]
        if value is not None and value != {} and value != []:
            found[key] = value
    return found


def read_recipe(path: str | Path) -> FitOptions:
    """Read options from TOML; what is left out keeps its default.

    Raises:
        InputError: the file is missing or malformed, a table or key is not known, or two keys do
            not go together.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"recipe {path} cannot be read ({error}): check the path") from error
    except ValueError as error:  # of the syntax, or of bytes that are no text
        raise InputError(f"recipe {path} is not valid TOML: {error}") from error
    _refuse_unknown(path, "table", content, (*TABLES, "prior"))
    chosen: dict[str, Any] = {}
    for table, names in TABLES.items():
        _refuse_unknown(path, f"key in [{table}]", content.get(table, {}), names)
        chosen.update(content.get(table, {}))
    chosen["part"] = _parts(path, chosen.get("part", ()))
    if not isinstance(chosen.get("arguments", {}), dict):
        raise InputError(f"recipe {path}: write model.arguments as a table [model.arguments]")
    if "type" in chosen:
        folder = Path(path).parent / chosen.get("folder", ".")
        chosen["folder"] = str(folder.resolve())
    given = dict(content.get("prior", {}))
    densities = {name: given.pop(name) for name in ENTRIES if name in given}
    prior = _prior(path, given)
    try:
        # the tables say nothing of the images: any box tells whether they can be read
        read_density_prior(densities, 2, 1.0)
        return FitOptions(**chosen, prior=prior, density_prior=densities)
    except InputError as error:
        raise InputError(f"recipe {path}: {error}") from error


def _parts(path: str | Path, tables: Any) -> tuple[dict[str, Any], ...]:
    """Part tables as they stand, masks found beside the recipe; their keys are read with the data.

    Raises:
        InputError: `part` is not a list of tables.
    """
    if not isinstance(tables, list | tuple) or not all(isinstance(t, dict) for t in tables):
        raise InputError(f"recipe {path}: write every part as a table [[model.part]]")
    parts = []
    for table in tables:
        region = table.get("region", {})
        if isinstance(region, dict) and "mask" in region:
            mask = str((Path(path).parent / region["mask"]).resolve())
            table = {**table, "region": {**region, "mask": mask}}
        parts.append(table)
    return tuple(parts)


def _prior(path: str | Path, table: dict[str, Any]) -> HyperPrior:
    known = {entry.name: entry.default for entry in fields(HyperPrior)}
    _refuse_unknown(path, "key in [prior]", table, (*known, *ENTRIES))
    values = {}
    for name, value in table.items():
        if isinstance(known[name], InverseGamma):
            _refuse_unknown(path, f"key in prior.{name}", value, ("shape", "scale"))
            value = InverseGamma(**value)
        values[name] = value
    return HyperPrior(**values)


def _refuse_unknown(path: str | Path, what: str, given: dict, known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise InputError(
                f"recipe {path}: {what} {name!r} is not known: use one of {', '.join(known)}"
            )
