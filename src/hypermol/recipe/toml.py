"""Recipes: the options of a fit as a readable TOML file, both ways. Unknown keys are errors."""

import tomllib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

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
        "resolution_angstrom",
        "radius_angstrom",
        "part",
        "type",
        "arguments",
    ),
    "data": ("invert_contrast", "leave_out_outliers", "normalise"),
    "sampling": (
        "poses",
        "chains",
        "burn_in",
        "samples",
        "thin",
        "seed",
        "checkpoint_every",
        "start_steps",
    ),
}


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(entry) for entry in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_literal(v)}" for key, v in value.items()) + " }"
    return repr(value)


def write_recipe(path: str | Path, options: FitOptions) -> None:
    """Write options as TOML; what is None (chosen from the data) is left out."""
    lines = []
    parts: tuple[dict[str, Any], ...] = ()
    for table, names in TABLES.items():
        lines.append(f"[{table}]")
        for name in names:
            value = getattr(options, name)
            if name == "part":
                parts = value
            elif value is not None and value != {}:
                lines.append(f"{name} = {_literal(value)}")
        lines.append("")
    for part in parts:
        lines.append("[[model.part]]")
        lines += [f"{key} = {_literal(value)}" for key, value in part.items()]
        lines.append("")
    lines.append("[prior]")
    lines += [f"{name} = {_literal(value)}" for name, value in asdict(options.prior).items()]
    lines += [f"{name} = {_literal(table)}" for name, table in options.density_prior.items()]
    write_text(path, "\n".join(lines) + "\n")


def read_recipe(path: str | Path) -> FitOptions:
    """Read options from TOML; what is left out keeps its default.

    Raises:
        InputError: the file is missing or malformed, or a table or key is not known.
    """
    try:
        content = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise InputError(f"recipe {path} cannot be read ({error}): check the path") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe {path} is not valid TOML: {error}") from error
    _refuse_unknown(path, "table", content, (*TABLES, "prior"))
    chosen: dict[str, Any] = {}
    for table, names in TABLES.items():
        _refuse_unknown(path, f"key in [{table}]", content.get(table, {}), names)
        chosen.update(content.get(table, {}))
    chosen["part"] = _parts(path, chosen.get("part", ()))
    _refuse_mixtures(path, chosen)
    given = dict(content.get("prior", {}))
    densities = {name: given.pop(name) for name in ENTRIES if name in given}
    try:
        # the tables say nothing of the images: any box tells whether they can be read
        read_density_prior(densities, 2, 1.0)
    except InputError as error:
        raise InputError(f"recipe {path}: {error}") from error
    return FitOptions(**chosen, prior=_prior(path, given), density_prior=densities)


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


def _refuse_mixtures(path: str | Path, chosen: dict[str, Any]) -> None:
    """One kind of model a recipe: parts, a user's own class, or one expansion."""
    if not isinstance(chosen.get("arguments", {}), dict):
        raise InputError(f"recipe {path}: write model.arguments as a table [model.arguments]")
    if "arguments" in chosen and "type" not in chosen:
        raise InputError(f"recipe {path}: model.arguments go with model.type: add it")
    if "type" in chosen and chosen["part"]:
        raise InputError(f"recipe {path}: model.type and [[model.part]] exclude each other")


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
