"""A user's own class as the model: `[model] type = "package.module:Class"`; mistakes are named."""

import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from hypermol.io.errors import InputError
from hypermol.molecule.protocol import Molecule

#: What a molecule of a user's own must have, as it would be written.
_PROTOCOL = {
    "state_space": "state_space = hypermol.space.state_space.Interval('name')",
    "init": "def init(self, key): ...",
    "fourier": "def fourier(self, theta, k, tau): ...",
    "log_prior": "def log_prior(self, theta): ...",
}


def load_model(
    spec: str, arguments: Mapping[str, Any], beside: str | Path | None = None
) -> Molecule:
    """A molecule of a user's own class: `[model] type = "package.module:Class"`.

    Args:
        spec: where the class is.
        arguments: what it is called with, the table `[model.arguments]`.
        beside: a folder where modules are looked for besides Python's own path: the recipe's.

    Raises:
        InputError: no such module or class, arguments that it does not take, or names of the
            protocol that it lacks, with what to write.
    """
    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise InputError(f"model.type is {spec!r}: write it as 'package.module:Class'")
    module = _import(module_name, beside)
    make = getattr(module, name, None)
    if not callable(make):
        known = [key for key, value in vars(module).items() if _defines_class(module, value)]
        raise InputError(
            f"model.type: {module_name} has no class {name}: it has {', '.join(known) or 'none'}"
        )
    try:
        model = make(**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"model.arguments {dict(arguments)} do not make a {name} ({error}): it takes "
            f"{name}{inspect.signature(make)}"
        ) from error
    missing = [text for key, text in _PROTOCOL.items() if not hasattr(model, key)]
    if missing:
        raise InputError(f"{spec} is no molecule yet: add {'; '.join(missing)}")
    return model


def _import(name: str, beside: str | Path | None) -> ModuleType:
    path = sys.path
    # restored below: a recipe's folder must not shadow what is imported later
    sys.path = [*path, str(Path(beside).absolute())] if beside is not None else path
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if name == missing or name.startswith(f"{missing}."):
            raise InputError(
                f"model.type: module {missing} is not found: install it, put it beside the recipe, "
                "or name its folder in PYTHONPATH"
            ) from error
        raise InputError(
            f"model.type: module {name} needs {missing}, which is not installed: install it"
        ) from error
    except Exception as error:  # whatever a user's module may raise
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"model.type: importing {name} fails with {text}: correct it") from error
    finally:
        sys.path = path


def _defines_class(module: ModuleType, value: Any) -> bool:
    return inspect.isclass(value) and value.__module__ == module.__name__
