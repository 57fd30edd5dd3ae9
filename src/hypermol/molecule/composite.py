"""Hyper-molecules (eq. 3, 20-21, 25-26): parts with their own regions, states and motions.

`V(r, tau) = sum over parts m and their places p of V_m(S_p^T r, tau_mp)`: a part is an expansion in
its own region (eq. 21), carried by a trajectory (eq. 27); places are its copies under symmetry
operators S_p (Remark 5), which share coefficients and trajectory and have their own states. The
generic molecule is one part (`expansion`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.molecule import composite_march
from hypermol.molecule.composite_march import placed_density, shown_densities, shown_path
from hypermol.molecule.copies import averaged, resting_densities, shared_operators
from hypermol.molecule.parts import (
    Part,
    Seat,
    factor_columns,
    fill_knobs,
    lattice_of_some,
    named_factors,
    seats,
)
from hypermol.molecule.protocol import Coefficients
from hypermol.molecule.spatial_basis.base import SpatialBasis
from hypermol.molecule.state_basis import StateBasis
from hypermol.space.normal import Normal
from hypermol.space.product import Product
from hypermol.space.state_space import Point, StateSpace

#: States whose mean density stands for the mean of parts that move.
_MEAN_STATES = 16


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

    @cached_property
    def _seats(self) -> tuple[Seat, ...]:
        return seats(self.parts, self.state_space)

    is_linear = True

    @cached_property
    def is_position(self) -> tuple[bool, ...]:
        """Knobs that trajectories read."""
        mask = np.zeros(self.state_space.dim, bool)
        for seat in self._seats:
            mask[seat.moves] = True
        return tuple(bool(value) for value in mask)

    @property
    def frame_is_free(self) -> bool:
        """Of one part that deforms, up to what its bases resolve; of several, those that a knob
        does not move, or their own regions, hold the frame."""
        alone = len(self._seats) == 1 and self._seats[0].rests
        return alone and self.state_space.dim > 0 and bool(self.whole_terms.any())

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
            [np.full(seat.part.state_basis.n_terms, seat.number) for seat in self._seats]
        )

    @property
    def term_labels(self) -> tuple[tuple[str, int], ...]:
        """Part after part."""
        return tuple(
            (part.name, order) for part in self.parts for order in range(part.state_basis.n_terms)
        )

    def _per_term(self, values: list[Any]) -> np.ndarray:
        """One value a part, repeated for its terms."""
        return np.repeat(np.asarray(values), [p.state_basis.n_terms for p in self.parts], axis=0)

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

    def init(self, key: Array) -> Coefficients:
        """Zero densities on trajectories as given."""
        maps = {
            part.name: jnp.zeros((part.state_basis.n_terms, *part.basis.coefficient_shape))
            for part in self.parts
        }
        return Coefficients(maps, composite_march.first_motion(self.parts))

    def log_prior(self, theta: Coefficients) -> Array:
        """Unit-level Gaussian prior of the maps, and the trajectories' own."""
        ones = jnp.ones((len(self.term_labels), self.parts[0].basis.n_shells))
        return -0.5 * jnp.sum(self.prior_energy(theta, ones)) + self.log_prior_beside(theta)

    def prior_energy(self, theta: Coefficients, spectrum: Array) -> Array:
        """Of the maps, [T]."""
        return self.term_products(theta.maps, self.precision(theta.maps, spectrum))

    def log_prior_beside(self, theta: Coefficients) -> Array:
        """log density of all trajectories' parameters."""
        return sum(
            (part.trajectory.log_prior(theta.motion[part.name]) for part in self.parts),
            jnp.zeros(()),
        )

    def parameters(self, theta: Coefficients) -> dict[str, Any]:
        """The trajectories'."""
        return theta.motion

    def fourier(self, theta: Coefficients, k: Array, tau: Array) -> Array:
        """V-hat(k, tau), complex [n], at k [n, 3] in 1/Angstrom, in orthonormal image units, by
        direct evaluation."""
        total = jnp.zeros(len(k), jnp.complex64)
        for seat in self._seats:
            part, turned = seat.part, seat.turned(k)
            if seat.rests:
                values = part.basis.fourier(theta.maps[part.name], turned)
            else:
                frame = part.trajectory.frame(theta.motion[part.name], tau[seat.moves])
                phase = jnp.exp(-2j * jnp.pi * (turned @ frame.translation))
                values = part.basis.fourier(theta.maps[part.name], turned @ frame.rotation) * phase
            total = total + seat.weights(tau) @ values
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
        return jnp.concatenate(
            [self._seen(seat, prepared, rotations, states, frequencies) for seat in self._seats],
            axis=1,
        )

    def _seen(
        self,
        seat: Seat,
        prepared: tuple[dict[str, Array], dict[str, Any]],
        rotations: Array,
        states: Array,
        frequencies: Array,
    ) -> Array:
        """One place's slices, [B, F_m, K]: U seen from R S Q, moved by R S t."""
        (grids, motion), part = prepared, seat.part
        placed = seat.turned(rotations)
        if seat.rests:
            return part.basis.slices(grids[part.name], placed, frequencies)
        frames = jax.vmap(lambda tau: part.trajectory.frame(motion[part.name], tau))(
            states[:, seat.moves]
        )
        slices = part.basis.slices(grids[part.name], placed @ frames.rotation, frequencies)
        moved = jnp.einsum("bij,bj->bi", placed[:, :2], frames.translation) / (
            part.basis.n * part.basis.voxel_size_angstrom
        )
        return slices * jnp.exp(-2j * jnp.pi * (moved @ frequencies.T))[:, None]

    def weights(self, tau: Array) -> Array:
        """Each place's P_q at its own states, [..., F]."""
        return jnp.concatenate([seat.weights(tau) for seat in self._seats], axis=-1)

    def lattice(self, tau: Array, n: int) -> Array:
        """The product of the lattices of the knobs that no trajectory reads, [T, dim]."""
        return lattice_of_some(self.state_space, ~np.array(self.is_position, bool), tau, n)

    # the Gaussian prior, part by part

    def precision(self, maps: dict[str, Array], spectrum: Array) -> dict[str, Array]:
        """The prior's matrix times the maps."""
        return {
            part.name: part.basis.precision(maps[part.name], spectrum[self._rows(part)])
            for part in self.parts
        }

    def precision_root(self, key: Array, spectrum: Array) -> dict[str, Array]:
        """A draw of N(0, precision)."""
        return composite_march.precision_root(self.parts, key, spectrum)

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
        """Mix the terms of each part shell by shell; terms of different parts stay apart."""
        own = {p.name: matrices[:, self._rows(p), self._rows(p)] for p in self.parts}
        return {p.name: p.basis.multiply_shells(maps[p.name], own[p.name]) for p in self.parts}

    @property
    def copies(self) -> np.ndarray:
        """Of parts whose copies lie on one another."""
        return self._per_term([len(shared_operators(part)) for part in self.parts])

    def averaged(self, maps: dict[str, Array]) -> dict[str, Array]:
        """See `copies.averaged`."""
        return {part.name: averaged(part, maps[part.name]) for part in self.parts}

    @property
    def features_rest(self) -> bool:
        """Whether no place moves."""
        return all(seat.rests for seat in self._seats)

    def feature_densities(self, maps: dict[str, Array]) -> Array:
        """See `copies.resting_densities`."""
        return resting_densities(self._seats, maps)

    def subspace(self, n_components: int) -> "Composite | None":
        """See `composite_march.subspace`."""
        found = composite_march.subspace(self.parts, n_components)
        return None if found is None else Composite(*found)

    def resize(self, theta: Coefficients, source: Any) -> Coefficients:
        """See `composite_march`: from another level of these parts, or from a whole density."""
        if isinstance(source, Composite) and self._starts.keys() == source._starts.keys():
            return composite_march.resized(self.parts, source.parts, theta)
        return composite_march.from_whole(self.parts, source.mean(theta))

    def first_states(
        self, key: Array, theta: Coefficients, states: np.ndarray, source: Any
    ) -> np.ndarray:
        """States [N, dim] to start from, given those [N, d] of another level; knobs of which a
        subspace says nothing start at draws from the base measure, or at rest."""
        tau = np.array(self.state_space.sample_base(key, (len(states),)))
        for factor, columns in factor_columns(self.state_space):
            if isinstance(factor, Normal):
                tau[:, columns] = 0.0
        if not isinstance(source, Composite) or not source.state_space.is_subspace:
            return tau
        for part in self.parts:
            old = [seat.deforms for seat in source.seats_of(part.name)]
            new = [seat.deforms for seat in self.seats_of(part.name)]
            if old and len(old[0]):
                maps = np.asarray(theta.maps[part.name])
                tau[:, new] = composite_march.ordered_states(part, maps, states[:, old])
        return tau

    def seats_of(self, name: str) -> list["Seat"]:
        """The places of one part."""
        return [seat for seat in self._seats if seat.part.name == name]

    # densities on the common grid

    @property
    def box_angstrom(self) -> float:
        """Side of the images' box."""
        return self.parts[0].basis.n * self.parts[0].basis.voxel_size_angstrom

    def density(self, theta: Coefficients, tau: Array) -> Array:
        """V(., tau) on the common grid, [n, n, n]."""
        return self._density(self._seats, theta, tau)

    def _density(self, some: Iterable[Seat], theta: Coefficients, tau: Array) -> Array:
        """What some places add to the density."""
        total = jnp.zeros((self.parts[0].basis.n,) * 3)
        for seat in some:
            maps = jnp.tensordot(seat.weights(tau), theta.maps[seat.part.name], axes=1)
            total = total + placed_density(seat, maps, theta.motion, tau)
        return total

    def shown(self, theta: Coefficients) -> Array:
        """Densities of every place's terms, [G, n, n, n], carried to where they are: of one that
        moves with one knob its own expansion in that knob; free rigid motions at rest."""
        return jnp.concatenate(
            [shown_densities(seat, theta.maps, theta.motion) for seat in self._seats]
        )

    def shown_weights(self, tau: Array) -> Array:
        """Place by place: P_q, times the path's own expansion where the place moves."""
        weights = []
        for seat in self._seats:
            terms = seat.weights(tau)
            path = shown_path(seat.part.trajectory)(tau[..., seat.moves])
            both = path[..., :, None] * terms[..., None, :]
            weights.append(both.reshape(*tau.shape[:-1], -1))
        return jnp.concatenate(weights, axis=-1)

    def mean(self, theta: Coefficients) -> np.ndarray:
        """Mean density over the states' base measure, [n, n, n]: exact for parts that rest, over
        a few drawn states for those that move."""
        total = jnp.zeros((self.parts[0].basis.n,) * 3)
        for seat in (seat for seat in self._seats if seat.rests):
            mean = jnp.asarray(seat.part.state_basis.mean_of(theta.maps[seat.part.name]))
            total = total + placed_density(seat, mean, theta.motion, jnp.zeros(0))
        moving = [seat for seat in self._seats if not seat.rests]
        if moving:
            states = self.state_space.sample_base(jax.random.key(0), (_MEAN_STATES,))
            total += jax.lax.map(lambda tau: self._density(moving, theta, tau), states).mean(axis=0)
        return np.asarray(total)


def expansion(basis: SpatialBasis, state_basis: StateBasis) -> Composite:
    """The generic molecule of eq. 20-21, V(r, tau) = sum_q V_q(r) P_q(tau): a part without a name.

    The homogeneous molecule has one term, linear subspaces (PPCA) have P_q = tau_q, continuous
    motions have cosines, polynomials or Fourier terms.
    """
    return composite((Part("", basis, state_basis),))


def composite(parts: tuple[Part, ...]) -> Composite:
    """Check parts against each other and collect their knobs.

    Raises:
        ValueError: repeated names, places that do not name the knobs of their part, one knob of
            two kinds, bases on different grids.
    """
    names = [part.name for part in parts]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"part {name!r} appears {names.count(name)} times: name parts apart")
    first = parts[0].basis
    knobs: dict[str, StateSpace] = {}
    filled = []
    for part in parts:
        if (part.basis.n, part.basis.n_shells) != (first.n, first.n_shells):
            raise ValueError(
                f"parts {parts[0].name!r} and {part.name!r} have different grids: give all bases "
                "the images' box, pixel size and one kmax"
            )
        places = tuple(fill_knobs(part, place) for place in part.places)
        filled.append(replace(part, places=places))
        for place in places:
            for name, factor in named_factors(part, place):
                if name in knobs and knobs[name] != factor:
                    raise ValueError(
                        f"knob {name!r} is {knobs[name]} in one part and {factor} in part "
                        f"{part.name!r}: use another name, or the same kind of state"
                    )
                knobs[name] = factor
    factors = tuple(dict.fromkeys(knobs.values()))
    if not factors:
        space: StateSpace = Point()
    else:
        space = factors[0] if len(factors) == 1 else Product(factors)
    return Composite(tuple(filled), space)
