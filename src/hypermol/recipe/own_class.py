"""A user's own class as the model: `[model] type = "package.module:Class"`; mistakes are named."""

import importlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, final

from hypermol.io.errors import InputError
from hypermol.molecule.by_fourier import ByFourier
from hypermol.molecule.protocol import Molecule, SlicedMolecule
from hypermol.molecule.tabulation import shown_states
from hypermol.recipe.design import Design, Grid, PartDesign
from hypermol.recipe.part_tables import read_parts
from hypermol.space.state_space import StateSpace

#: What a molecule of a user's own must have, as it would be written.
_PROTOCOL = {
    "state_space": "state_space = hypermol.Interval('name')",
    "init": "def init(self, key): ...",
    "fourier": "def fourier(self, theta, k, tau): ...",
    "log_prior": "def log_prior(self, theta): ...",
}


@final
@dataclass(frozen=True, eq=False)
class OwnDesign:
    """A molecule of the user's own at any resolution.

    Attributes:
        model: has the four names of `molecule.protocol.Molecule`.
        shown_parts: the part tables that it is shown as, over the same states.
        form: their design.
    """

    model: Molecule
    shown_parts: tuple[dict[str, Any], ...]
    form: Design

    kind = "own"
    is_linear = False
    axes = None
    parts: ClassVar[tuple[PartDesign, ...]] = ()
    rising: ClassVar[frozenset[str]] = frozenset()

    @property
    def n_terms(self) -> int:
        """Of the basis that it is shown in."""
        return self.form.n_terms

    @property
    def n_knobs(self) -> int:
        """All of its states."""
        return self.form.n_knobs

    @property
    def bases(self) -> tuple[tuple[str, str, int], ...]:
        """None that takes its terms from particles."""
        return ()

    def molecule(self, grid: Grid, n_terms: int) -> ByFourier:
        """The same at every level; `n_terms` is of linear molecules."""
        form = self.form.molecule(grid, self.form.n_terms)
        side = grid.box * grid.pixel_size_angstrom
        return ByFourier(self.model, side, form, grid.voxels)

    def written(self, grid: Grid) -> Molecule:
        """As the user wrote it."""
        return self.model

    def subspace(self, grid: Grid, n_components: int) -> SlicedMolecule:
        """There is none.

        Raises:
            ValueError: always.
        """
        raise ValueError("a molecule that is not linear has no linear subspace")

    def state_space(self, box: int, pixel_size_angstrom: float) -> StateSpace:
        """The model's."""
        return self.model.state_space


def own_design(model: Molecule, box: int, pixel_size_angstrom: float) -> OwnDesign:
    """The design of a molecule of the user's own on images of this size.

    Raises:
        InputError: it has a knob that cannot be shown.
    """
    region = {"radius_angstrom": 0.5 * box * pixel_size_angstrom}
    table = {"name": "whole", "region": region, **shown_states(model.state_space)}
    return OwnDesign(model, (table,), read_parts((table,), box, pixel_size_angstrom))


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
