"""Parts of composite hyper-molecules, and their copies under symmetry (eq. 25-26, Remark 5)."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, final

import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.molecule.spatial_basis.base import SpatialBasis
from hypermol.molecule.state_basis import StateBasis
from hypermol.molecule.trajectory import Still, Trajectory
from hypermol.space.product import Product
from hypermol.space.state_space import StateSpace

STILL = Still()
IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
Matrix = tuple[tuple[float, float, float], ...]


@final
@dataclass(frozen=True)
class Place:
    """One copy of a part.

    Attributes:
        knobs: names of its state variables: those of the part's state basis, then those of its
            trajectory, a name that both have standing once. Copies that name the same knob move
            together.
        rotation: symmetry operator S, a rotation matrix by rows.
    """

    knobs: tuple[str, ...] = ()
    rotation: Matrix = IDENTITY

    def __post_init__(self) -> None:
        matrix = np.asarray(self.rotation, float)
        if (
            matrix.shape != (3, 3)
            or not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-4)
            or np.linalg.det(matrix) < 0.0
        ):
            raise ValueError(
                f"symmetry operator {self.rotation} is not a rotation (orthogonal, determinant "
                "+1): give a rotation matrix by rows, or a group such as C2"
            )


@final
@dataclass(frozen=True)
class Part:
    """A part: a component of eq. 25.

    Attributes:
        name: unique in its composite.
        basis: spatial basis in the part's region.
        state_basis: of its deformation; `Constant()` for a rigid part.
        trajectory: its rigid motion.
        places: where it stands; several share its coefficients.
    """

    name: str
    basis: SpatialBasis
    state_basis: StateBasis
    trajectory: Trajectory = STILL
    places: tuple[Place, ...] = (Place(),)

    @cached_property
    def factors(self) -> tuple[tuple[str, StateSpace], ...]:
        """(part's own knob, space) of state basis and trajectory, one entry a knob."""
        found: dict[str, StateSpace] = {}
        for space in (self.state_basis.space, self.trajectory.space):
            for factor in space.simple_spaces:
                if factor.dim and factor.names[0] not in found:
                    found |= {factor.names[0]: factor}
        return tuple(found.items())

    @property
    def own_knobs(self) -> tuple[str, ...]:
        """The names that state basis and trajectory use."""
        return tuple(name for _, factor in self.factors for name in factor.names)


def fill_knobs(part: Part, place: Place) -> Place:
    """A place with its knobs named, by default as the part's own."""
    own = part.own_knobs
    if not place.knobs and len(part.places) == 1:
        return replace(place, knobs=own)
    if len(place.knobs) != len(own):
        raise ValueError(
            f"a place of part {part.name!r} names {len(place.knobs)} knobs {place.knobs} but the "
            f"part has {len(own)}: {own}; name as many in every place"
        )
    return place


def named_factors(part: Part, place: Place) -> list[tuple[str, StateSpace]]:
    """(knob, its space under that name) of a place."""
    named = dict(zip(part.own_knobs, place.knobs, strict=True))
    found = []
    for _, factor in part.factors:
        given = tuple(named[name] for name in factor.names)
        found.append((given[0], factor.renamed(given)))
    return found


def factor_columns(space: StateSpace) -> list[tuple[StateSpace, np.ndarray]]:
    """Simple factors of a space with their coordinates."""
    ends = np.cumsum([factor.dim for factor in space.simple_spaces])
    return [
        (factor, np.arange(end - factor.dim, end))
        for factor, end in zip(space.simple_spaces, ends, strict=True)
    ]


def lattice_of_some(space: StateSpace, moves: np.ndarray, tau: Array, n: int) -> Array:
    """The product of the lattices of the coordinates that move, bool [dim]; others stay: [T, dim].

    tau [dim] comes first. A factor moves as a whole.
    """
    if np.all(moves):
        return space.lattice(tau, n)
    moving, columns = [], []
    for factor, own in factor_columns(space):
        if factor.dim and moves[own[0]]:
            moving.append(factor)
            columns.append(own)
    if not moving:
        return tau[None]
    where = np.concatenate(columns)
    members = Product(tuple(moving)).lattice(tau[where], n)
    return jnp.broadcast_to(tau, (len(members), len(tau))).at[:, where].set(members)


class Seat(NamedTuple):
    """A place with the coordinates it reads: of its state basis, and of its trajectory."""

    part: Part
    rotation: np.ndarray
    deforms: np.ndarray
    moves: np.ndarray
    number: int

    @property
    def rests(self) -> bool:
        """Whether its density stays where it is."""
        return not len(self.moves)

    @property
    def is_turned(self) -> bool:
        """Whether its operator is not the identity."""
        return not np.allclose(self.rotation, IDENTITY)

    def turned(self, vectors: Array) -> Array:
        """Rows [..., 3], or rotations [..., 3, 3], times the operator."""
        return vectors @ self.rotation if self.is_turned else vectors

    def weights(self, tau: Array) -> Array:
        """P_q [..., terms] at states [..., dim] of the whole."""
        return self.part.state_basis(tau[..., self.deforms])


def seats(parts: tuple[Part, ...], space: StateSpace) -> tuple[Seat, ...]:
    """Part after part, the places with their coordinates in a space of all knobs."""
    where = {name: i for i, name in enumerate(space.names)}
    found: list[Seat] = []
    for part in parts:
        for place in part.places:
            column = {
                own: where[knob] for own, knob in zip(part.own_knobs, place.knobs, strict=True)
            }
            deforms, moves = (
                np.array([column[name] for name in own.space.names], int)
                for own in (part.state_basis, part.trajectory)
            )
            rotation = np.asarray(place.rotation, np.float32)
            found.append(Seat(part, rotation, deforms, moves, len(found)))
    return tuple(found)
