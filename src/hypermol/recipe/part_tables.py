"""Models as tables of a recipe, `[[model.part]]`, to parts; every mistake is named."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hypermol.io.errors import InputError
from hypermol.molecule.parts import IDENTITY, Matrix, Place
from hypermol.molecule.region import Ball, Mask, Region, check_inside, read_mask
from hypermol.molecule.state_basis import BASES, Variation, named_state_basis
from hypermol.molecule.symmetry import symmetry_operators
from hypermol.molecule.trajectory import Hinge, RigidBody, Still, Trajectory, Translation
from hypermol.recipe.design import SPATIAL_BASES, Design, PartDesign

#: Keys of a part, of its region, of a place, and of each kind of trajectory.
PART_KEYS = (
    "name",
    "region",
    "spatial_basis",
    "state_basis",
    "n_terms",
    "constant",
    "state_name",
    "trajectory",
    "symmetry",
    "places",
    "copy_of",
)
#: Keys of a part that is a copy: the rest it has from the part that it copies.
COPY_KEYS = ("name", "copy_of", "symmetry", "places")
REGION_KEYS = ("centre_angstrom", "radius_angstrom", "mask")
PLACE_KEYS = ("knobs", "rotation")
TRAJECTORY_KEYS: dict[str, tuple[str, ...]] = {
    "still": (),
    "translation": (
        "basis",
        "n_terms",
        "state_name",
        "scale_angstrom",
        "start_angstrom",
    ),
    "hinge": (
        "basis",
        "n_terms",
        "state_name",
        "pivot_angstrom",
        "axis",
        "turns",
        "angle_scale_rad",
        "axis_scale_rad",
        "pivot_scale_angstrom",
        "start_rad",
    ),
    "rigid_body": ("centre_angstrom", "rotation_sd_rad", "shift_sd_angstrom"),
}


def read_parts(tables: Sequence[Mapping[str, Any]], box: int, pixel_size_angstrom: float) -> Design:
    """Build the design that part tables describe.

    Args:
        tables: one mapping a part, as TOML gives them.
        box: side of the images in pixels.
        pixel_size_angstrom: of the images.

    Raises:
        InputError: naming the part and the key, and what to write.
    """
    names = [str(table.get("name", "")) for table in tables]
    for number, name in enumerate(names, start=1):
        if not name:
            raise InputError(f"part {number} of the model has no name: add name = ...")
        if names.count(name) > 1:
            raise InputError(f"part {name!r} appears {names.count(name)} times: name parts apart")
    parts: dict[str, PartDesign] = {}
    for table in sorted(tables, key=lambda table: "copy_of" in table):
        try:
            if "copy_of" in table:
                found = _with_copies(table, parts)
            else:
                found = _part(table, box, pixel_size_angstrom)
        except InputError:
            raise
        except (ValueError, TypeError) as error:
            raise InputError(f"part {table['name']!r} of the model: {error}") from error
        parts[found.name] = found
    design = Design(tuple(parts.values()))
    try:
        design.state_space(box, pixel_size_angstrom)
    except ValueError as error:
        raise InputError(f"the model's parts do not fit together: {error}") from error
    return design


def read_generic(
    basis: str, n_terms: int | None, state_name: str, spatial_basis: str = "voxels"
) -> Design:
    """The design of one generic molecule: a part without a name, in the ball of the level.

    Raises:
        InputError: a basis that is not known, or a number of terms that it cannot have.
    """
    if spatial_basis not in SPATIAL_BASES:
        raise InputError(
            f"spatial_basis {spatial_basis!r} is not known: use {', '.join(SPATIAL_BASES)}"
        )
    if basis not in BASES:
        raise InputError(f"basis {basis!r} is not known: use one of {', '.join(BASES)}")
    terms = BASES[basis].n_terms if n_terms is None else n_terms
    try:
        named_state_basis(basis, terms, state_name)
    except ValueError as error:
        raise InputError(str(error)) from error
    states = ((basis, terms, state_name),)
    rises = n_terms is None and BASES[basis].can_rise
    part = PartDesign("", None, spatial_basis, states, Still(), (Place(),), rises=rises)
    return Design((part,))


def _refuse_unknown(where: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in given:
        if key not in known:
            raise InputError(f"{where}: key {key!r} is not known: use {', '.join(known) or 'none'}")


def _vector(where: str, value: Any) -> tuple[float, float, float]:
    numbers = np.asarray(value, float)
    if numbers.shape != (3,):
        raise InputError(f"{where} is {value}: give three numbers [x, y, z]")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _part(table: Mapping[str, Any], box: int, pixel: float) -> PartDesign:
    where = f"part {table['name']!r} of the model"
    _refuse_unknown(where, table, PART_KEYS)
    if "region" not in table:
        raise InputError(
            f"{where} has no region: add region = {{ centre_angstrom = [x, y, z], "
            "radius_angstrom = r } or { mask = 'file.mrc' }"
        )
    spatial = table.get("spatial_basis", "voxels")
    if spatial not in SPATIAL_BASES:
        raise InputError(
            f"{where}: spatial_basis {spatial!r} is not known: use {', '.join(SPATIAL_BASES)}"
        )
    states = _states(where, table)
    trajectory = _trajectory(where, table.get("trajectory", {"type": "still"}), table)
    region = _region(where, table["region"], box, pixel)
    check_inside(region, box, pixel, table["name"])
    if isinstance(region, Mask) and spatial != "voxels":
        raise InputError(f"{where}: a mask needs spatial_basis = 'voxels', not {spatial!r}")
    constant = _constant(where, table, states, trajectory)
    free = "n_terms" not in table and len(states) == 1
    rises = free and BASES[states[0][0]].can_rise
    part = PartDesign(table["name"], region, spatial, states, trajectory, (), constant, rises)
    for knob in _listed(table.get("state_name", ())):
        if knob not in part.own_knobs:
            raise InputError(
                f"{where}: state_name {knob!r} names no state, for the part neither deforms nor "
                "moves with it: remove it, or add a state_basis"
            )
    return replace(part, places=_places(where, table, part.own_knobs, ()))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _states(where: str, table: Mapping[str, Any]) -> tuple[tuple[str, int, str], ...]:
    """(basis, terms, knob) of each knob; keys hold one value, or lists for several knobs."""
    kinds = _listed(table.get("state_basis", "constant"))
    for kind in kinds:
        if kind not in BASES:
            raise InputError(f"{where}: state_basis {kind!r} is not known: use {', '.join(BASES)}")
    default = [table["name"]]
    if len(kinds) > 1:
        default = [f"{table['name']}_{i}" for i in range(1, len(kinds) + 1)]
    knobs = _listed(table.get("state_name", default))
    terms = _listed(table.get("n_terms", [BASES[kind].n_terms for kind in kinds]))
    if not len(kinds) == len(knobs) == len(terms):
        raise InputError(
            f"{where}: state_basis, n_terms and state_name hold {len(kinds)}, {len(terms)} and "
            f"{len(knobs)} values: give one for each knob"
        )
    for kind, count, knob in zip(kinds, terms, knobs, strict=True):
        named_state_basis(kind, count, knob)
    return tuple((k, int(n), str(name)) for k, n, name in zip(kinds, terms, knobs, strict=True))


def _constant(
    where: str,
    table: Mapping[str, Any],
    states: tuple[tuple[str, int, str], ...],
    trajectory: Trajectory,
) -> bool:
    """Whether the part has a density of its own that is the same in all states."""
    constant = table.get("constant", True)
    if not isinstance(constant, bool):
        raise InputError(f"{where}: constant is {constant!r}: write true or false")
    if not constant and trajectory.space.dim:
        raise InputError(
            f"{where}: constant = false leaves a part that only varies, but a trajectory moves it: "
            "remove one of the two"
        )
    if not constant:
        for state in states:
            Variation(named_state_basis(*state))
    return constant


def _region(where: str, table: Mapping[str, Any], box: int, pixel: float) -> Region:
    _refuse_unknown(f"{where}, region", table, REGION_KEYS)
    if "mask" in table:
        if len(table) > 1:
            other = next(key for key in table if key != "mask")
            raise InputError(f"{where}: its region has a mask and {other}: remove one of the two")
        return read_mask(Path(table["mask"]), box, pixel)
    if "radius_angstrom" not in table:
        raise InputError(f"{where}: its region has no radius_angstrom (nor a mask): add one")
    centre = _vector(f"{where}: centre_angstrom", table.get("centre_angstrom", (0.0, 0.0, 0.0)))
    return Ball(centre, float(table["radius_angstrom"]))


def _trajectory(where: str, table: Mapping[str, Any], part: Mapping[str, Any]) -> Trajectory:
    kind = table.get("type", "")
    if kind not in TRAJECTORY_KEYS:
        raise InputError(
            f"{where}: trajectory type {kind!r} is not known: use {', '.join(TRAJECTORY_KEYS)}"
        )
    values = {key: value for key, value in table.items() if key != "type"}
    _refuse_unknown(f"{where}, trajectory", values, TRAJECTORY_KEYS[kind])
    for key in values:
        if key in ("pivot_angstrom", "axis", "start_angstrom", "centre_angstrom"):
            values[key] = _vector(f"{where}, trajectory: {key}", values[key])
    if kind == "still":
        return Still()
    if kind == "rigid_body":
        return RigidBody(part["name"], **values)
    basis = values.pop("basis", "chebyshev" if kind == "translation" else "cosine")
    pairs = basis in BASES and BASES[basis].in_pairs
    # a hinge may go round without a term of its own
    terms = values.pop("n_terms", 2 if not pairs else 3 if kind == "translation" else 1)
    knob = values.pop("state_name", _listed(part.get("state_name", part["name"]))[0])
    path = named_state_basis(basis, terms, knob)
    if terms == 1 and not values.get("turns"):
        raise InputError(
            f"{where}: its {kind} has n_terms = 1, the constant, and does not move: give at least "
            f"{3 if pairs else 2}{' or turns' if pairs and kind == 'hinge' else ''}"
        )
    if kind == "translation":
        return Translation(path, **values)
    for key in ("pivot_angstrom", "axis"):
        if key not in values:
            raise InputError(f"{where}: its hinge has no {key}: add {key} = [x, y, z]")
    return Hinge(path, **values)


def _places(
    where: str, table: Mapping[str, Any], own: Sequence[str], called: Sequence[str]
) -> tuple[Place, ...]:
    """The places of a part with the knobs `own`, by a group or one by one.

    `called` names them where the table does not; () leaves them to the part.
    """
    tables = table.get("places")
    operators = symmetry_operators(table["symmetry"]) if "symmetry" in table else None
    if tables is None:
        if operators is None:
            return (Place(),)
        return tuple(
            Place(tuple(f"{knob}_{i}" for knob in called or own), operator)
            for i, operator in enumerate(operators, start=1)
        )
    if operators is not None and len(operators) != len(tables):
        raise InputError(
            f"{where}: symmetry {table['symmetry']} has {len(operators)} operators but there are "
            f"{len(tables)} places: give one place an operator, or leave places out"
        )
    return tuple(
        _place(
            f"{where}, place {number}",
            place,
            (own, called),
            None if operators is None else operators[number - 1],
        )
        for number, place in enumerate(tables, start=1)
    )


def _place(
    where: str,
    table: Mapping[str, Any],
    knobs: tuple[Sequence[str], Sequence[str]],
    operator: Matrix | None,
) -> Place:
    """One place; its own rotation unless a group gives it an operator."""
    _refuse_unknown(where, table, PLACE_KEYS)
    if operator is not None and "rotation" in table:
        raise InputError(f"{where}: the part's symmetry gives its rotation: remove one of the two")
    rows = table.get("rotation", IDENTITY) if operator is None else operator
    matrix = tuple(_vector(f"{where}: a row of rotation", row) for row in rows)
    own, called = knobs
    given = table.get("knobs", tuple(called))
    if not isinstance(given, Mapping):
        return Place(tuple(given), matrix)
    for name in given:
        if name not in own:
            known = f"use {', '.join(own)}" if own else "the part has none, remove knobs"
            raise InputError(f"{where}: {name!r} is no state of the part: {known}")
    return Place(tuple(str(given.get(name, name)) for name in own), matrix)


def _with_copies(table: Mapping[str, Any], parts: Mapping[str, PartDesign]) -> PartDesign:
    """The part that a `copy_of` table names, with the copy's places appended to its own."""
    name, source = table["name"], table["copy_of"]
    where = f"part {name!r} of the model"
    if source not in parts:
        raise InputError(
            f"{where}: copy_of = {source!r} is no part with a region of its own: use one of "
            f"{', '.join(parts) or 'none'}"
        )
    for key in table:
        if key in PART_KEYS and key not in COPY_KEYS:
            raise InputError(
                f"{where}: it copies {source!r} and shares its region, bases, trajectory and "
                f"coefficients: remove {key}, or remove copy_of"
            )
    _refuse_unknown(where, table, COPY_KEYS)
    part = parts[source]
    own = part.own_knobs
    turned = "symmetry" in table or all("rotation" in place for place in table.get("places", ()))
    if not turned or not ("symmetry" in table or table.get("places")):
        raise InputError(
            f"{where}: a copy stands where a rotation puts it: add symmetry, or places = "
            "[ { rotation = [[...], [...], [...]] } ]"
        )
    called = tuple(f"{name}_{knob}" if own[1:] else name for knob in own)
    copies = _places(where, table, own, called)
    if "places" not in table:
        copies = copies[1:]  # the group's identity is where the part itself stands
    first = tuple(replace(p, knobs=p.knobs or own) for p in part.places)
    return replace(part, places=first + copies)
