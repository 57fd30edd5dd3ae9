"""Composite hyper-molecules (eq. 3, 25-26): parts with their own regions, states and motions.

`V(r, tau) = sum over parts m and their places p of V_m(S_p^T r, tau_mp)`: a part is an expansion in
its own region (eq. 21), carried by a trajectory (eq. 27); places are its copies under symmetry
operators S_p (Remark 5), which share coefficients and trajectory and have their own states.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.molecule.protocol import Coefficients
from hypermol.molecule.spatial_basis.base import SpatialBasis
from hypermol.molecule.state_basis import StateBasis
from hypermol.molecule.trajectory import Still, Trajectory
from hypermol.space.fourier import crop_or_pad_volume
from hypermol.space.product import Product
from hypermol.space.state_space import StateSpace

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
    """A component (eq. 25).

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
    trajectory: Trajectory = Still()
    places: tuple[Place, ...] = (Place(),)

    @cached_property
    def _factors(self) -> tuple[tuple[str, StateSpace], ...]:
        """(part's own knob, space) of state basis and trajectory, one entry a knob."""
        found: dict[str, StateSpace] = {}
        for space in (self.state_basis.space, self.trajectory.space):
            for factor in space.factors if isinstance(space, Product) else (space,):
                if factor.dim and factor.names[0] not in found:
                    found |= {factor.names[0]: factor}
        return tuple(found.items())

    @property
    def own_knobs(self) -> tuple[str, ...]:
        """The names that state basis and trajectory use."""
        return tuple(name for _, factor in self._factors for name in factor.names)


class _Seat(NamedTuple):
    """A place with the coordinates it reads: of its state basis, and of its trajectory."""

    part: Part
    rotation: np.ndarray
    deforms: np.ndarray
    moves: np.ndarray
    index: int


@final
@dataclass(frozen=True)
class Composite:
    """A sum of parts. Build it with `composite`, which checks the parts against each other.

    Attributes:
        parts: names are unique.
        state_space: all knobs, in the order in which places name them.
    """

    parts: tuple[Part, ...]
    state_space: StateSpace

    # structure

    @cached_property
    def _seats(self) -> tuple[_Seat, ...]:
        where = {name: i for i, name in enumerate(self.state_space.names)}
        seats = []
        for part in self.parts:
            for place in part.places:
                named = dict(zip(part.own_knobs, place.knobs, strict=True))

                def columns(space: StateSpace, named: dict[str, str] = named) -> np.ndarray:
                    return np.array([where[named[name]] for name in space.names], int)

                seats.append(
                    _Seat(
                        part,
                        np.asarray(place.rotation, np.float32),
                        columns(part.state_basis.space),
                        columns(part.trajectory.space),
                        len(seats),
                    )
                )
        return tuple(seats)

    @cached_property
    def turning(self) -> tuple[bool, ...]:
        """Knobs that trajectories read."""
        mask = np.zeros(self.state_space.dim, bool)
        for seat in self._seats:
            mask[seat.moves] = True
        return tuple(bool(value) for value in mask)

    @cached_property
    def _starts(self) -> dict[str, int]:
        """First term of each part."""
        ends = np.cumsum([0] + [part.state_basis.n_terms for part in self.parts])
        return {part.name: int(start) for part, start in zip(self.parts, ends[:-1], strict=True)}

    def _rows(self, part: Part) -> slice:
        start = self._starts[part.name]
        return slice(start, start + part.state_basis.n_terms)

    @property
    def feature_terms(self) -> np.ndarray:
        """Place after place, the terms of its part."""
        terms = np.arange(len(self.term_labels))
        return np.concatenate([terms[self._rows(seat.part)] for seat in self._seats])

    @property
    def feature_places(self) -> np.ndarray:
        """The place of each feature."""
        return np.concatenate(
            [np.full(seat.part.state_basis.n_terms, seat.index) for seat in self._seats]
        )

    @property
    def term_labels(self) -> tuple[tuple[str, int], ...]:
        """Part after part."""
        return tuple(
            (part.name, order) for part in self.parts for order in range(part.state_basis.n_terms)
        )

    def _per_term(self, values: list[Any]) -> np.ndarray:
        """One value a part, repeated for its terms."""
        terms = [part.state_basis.n_terms for part in self.parts]
        return np.repeat(np.asarray(values), terms, axis=0)

    @property
    def whole_terms(self) -> np.ndarray:
        """Those of each part's state basis."""
        return np.concatenate([part.state_basis.constant_weights != 0.0 for part in self.parts])

    @property
    def term_sizes(self) -> np.ndarray:
        """The parts' free coefficients."""
        return self._per_term([part.basis.n_coefficients for part in self.parts])

    @property
    def slice_gain(self) -> np.ndarray:
        """The parts', [n_shells, T]."""
        return self._per_term([part.basis.slice_gain for part in self.parts]).T

    @property
    def power_gain(self) -> np.ndarray:
        """The parts', [T]."""
        return self._per_term([part.basis.power_gain for part in self.parts])

    # the protocol

    def init(self, key: Array) -> Coefficients:
        """Zero densities on trajectories as given."""
        maps = {
            part.name: jnp.zeros((part.state_basis.n_terms, *part.basis.coefficient_shape))
            for part in self.parts
        }
        return Coefficients(maps, {part.name: part.trajectory.init() for part in self.parts})

    def log_prior(self, theta: Coefficients) -> Array:
        """Unit-level Gaussian prior of the maps, and the trajectories' own."""
        ones = jnp.ones((len(self.term_labels), self.parts[0].basis.n_shells))
        energy = self.term_products(theta.maps, self.precision(theta.maps, ones))
        return -0.5 * jnp.sum(energy) + self.log_prior_motion(theta.motion)

    def log_prior_motion(self, motion: dict[str, Any]) -> Array:
        """log density of all trajectories' parameters."""
        return sum(
            (part.trajectory.log_prior(motion[part.name]) for part in self.parts), jnp.zeros(())
        )

    def fourier(self, theta: Coefficients, k: Array, tau: Array) -> Array:
        """V-hat(k, tau), complex [n], at k [n, 3] in 1/Angstrom, by direct evaluation."""
        total = jnp.zeros(len(k), jnp.complex64)
        for seat in self._seats:
            frame = seat.part.trajectory.frame(theta.motion[seat.part.name], tau[seat.moves])
            turned = k @ seat.rotation
            values = seat.part.basis.fourier(theta.maps[seat.part.name], turned @ frame.rotation)
            phase = jnp.exp(-2j * jnp.pi * (turned @ frame.translation))
            total = total + phase * (seat.part.state_basis(tau[seat.deforms]) @ values)
        return total

    def prepare(self, theta: Coefficients) -> tuple[dict[str, Array], dict[str, Any]]:
        """Every part's slicing grid, and the trajectories' parameters."""
        grids = {part.name: part.basis.prepare(theta.maps[part.name]) for part in self.parts}
        return grids, theta.motion

    def features(
        self,
        prepared: tuple[dict[str, Array], dict[str, Any]],
        rotations: Array,
        states: Array,
        frequencies: Array,
    ) -> Array:
        """Slices of every part's terms at every place, complex [B, F, K]."""
        grids, motion = prepared
        return jnp.concatenate(
            [self._seen(seat, grids, motion, rotations, states, frequencies) for seat in self._seats],
            axis=1,
        )

    def _seen(
        self,
        seat: _Seat,
        grids: dict[str, Array],
        motion: dict[str, Any],
        rotations: Array,
        states: Array,
        frequencies: Array,
    ) -> Array:
        """One place's slices, [B, F_m, K]: U seen from R S Q, moved by R S t."""
        part, placed = seat.part, rotations @ seat.rotation
        if not len(seat.moves):
            return part.basis.slices(grids[part.name], placed, frequencies)
        frames = jax.vmap(lambda tau: part.trajectory.frame(motion[part.name], tau))(
            states[:, seat.moves]
        )
        slices = part.basis.slices(grids[part.name], placed @ frames.rotation, frequencies)
        moved = jnp.einsum("bij,bj->bi", placed[:, :2], frames.translation) / self.box_angstrom
        return slices * jnp.exp(-2j * jnp.pi * (moved @ frequencies.T))[:, None]

    def weights(self, tau: Array) -> Array:
        """Each place's P_q at its own states, [..., F]."""
        return jnp.concatenate(
            [seat.part.state_basis(tau[..., seat.deforms]) for seat in self._seats], axis=-1
        )

    def lattice(self, tau: Array, n: int) -> Array:
        """The product of the lattices of the knobs that no trajectory reads, [T, dim]."""
        space = self.state_space
        factors = space.factors if isinstance(space, Product) else (space,)
        first, still, columns = 0, [], []
        for factor in factors:
            if factor.dim and not self.turning[first]:
                still.append(factor)
                columns += list(range(first, first + factor.dim))
            first += factor.dim
        if not still:
            return tau[None]
        where = np.array(columns)
        members = Product(tuple(still)).lattice(tau[where], n)
        return jnp.broadcast_to(tau, (len(members), len(tau))).at[:, where].set(members)

    # the Gaussian prior, part by part

    def precision(self, maps: dict[str, Array], spectrum: Array) -> dict[str, Array]:
        """The prior's matrix times the maps."""
        return {
            part.name: part.basis.precision(maps[part.name], spectrum[self._rows(part)])
            for part in self.parts
        }

    def precision_root(self, key: Array, spectrum: Array) -> dict[str, Array]:
        """A draw of N(0, precision)."""
        drawn = {}
        for part, part_key in zip(
            self.parts, jax.random.split(key, len(self.parts)), strict=True
        ):
            shape = (part.state_basis.n_terms, *part.basis.coefficient_shape)
            white = jax.random.normal(part_key, shape)
            drawn[part.name] = part.basis.precision_root(white, spectrum[self._rows(part)])
        return drawn

    def term_products(self, first: dict[str, Array], second: dict[str, Array]) -> Array:
        """Inner products, [T]."""
        return jnp.concatenate(
            [
                jnp.sum((first[name] * second[name]).reshape(len(first[name]), -1), axis=-1)
                for name in (part.name for part in self.parts)
            ]
        )

    def shell_power(self, maps: dict[str, Array]) -> Array:
        """Per term and shell, [T, n_shells]."""
        return jnp.concatenate([part.basis.shell_power(maps[part.name]) for part in self.parts])

    def multiply_shells(self, maps: dict[str, Array], matrices: Array) -> dict[str, Array]:
        """Mix the terms of each part shell by shell."""
        return {
            part.name: part.basis.multiply_shells(
                maps[part.name], matrices[:, self._rows(part), self._rows(part)]
            )
            for part in self.parts
        }

    # densities on the common grid

    @property
    def box_angstrom(self) -> float:
        """Side of the images' box."""
        return self.n * self.parts[0].basis.voxel_size_angstrom

    @property
    def n(self) -> int:
        """Side of the grid of `density`."""
        return self.parts[0].basis.n
