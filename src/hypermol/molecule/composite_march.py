"""Carrying composites from level to level of the march, and densities along trajectories."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.molecule.parts import Part, Seat
from hypermol.molecule.protocol import Coefficients
from hypermol.molecule.spatial_basis.base import SpatialBasis
from hypermol.molecule.state_basis import (
    Constant,
    Cosine,
    Fourier,
    Linear,
    StateBasis,
    principal_coordinates,
)
from hypermol.molecule.trajectory import Frame, Still, Trajectory
from hypermol.runtime import on_device
from hypermol.space.fourier import crop_or_pad_volume
from hypermol.space.normal import Gaussian
from hypermol.space.state_space import Circle, Interval


def subspace(
    parts: tuple[Part, ...], n_components: int
) -> tuple[tuple[Part, ...], Gaussian] | None:
    """The same parts with linear subspaces for state bases: a start without any states.

    None where no part deforms. Trajectories rest, for only linear states are drawn exactly.
    """
    linear, count = [], 0
    for part in parts:
        if part.state_basis.n_terms == 1 and part.state_basis.constant_weights.all():
            still = tuple(replace(place, knobs=()) for place in part.places)
            linear.append(replace(part, state_basis=Constant(), trajectory=Still(), places=still))
            continue
        size = max(n_components, part.state_basis.space.n_axes)
        places = []
        for place in part.places:
            places.append(replace(place, knobs=Gaussian(count + size).names[count:]))
            count += size
        basis = part.state_basis.alike(Linear(Gaussian(size)))
        linear.append(replace(part, state_basis=basis, trajectory=Still(), places=tuple(places)))
    return (tuple(linear), Gaussian(count)) if count else None


def precision_root(parts: tuple[Part, ...], key: Array, spectrum: Array) -> dict[str, Array]:
    """A draw of N(0, precision) of all parts, spectrum [T, n_shells] being theirs in turn."""
    drawn, start = {}, 0
    for part, part_key in zip(parts, jax.random.split(key, len(parts)), strict=True):
        terms = part.state_basis.n_terms
        white = jax.random.normal(part_key, (terms, *part.basis.coefficient_shape))
        drawn[part.name] = part.basis.precision_root(white, spectrum[start : start + terms])
        start += terms
    return drawn


def first_motion(parts: tuple[Part, ...]) -> dict[str, Any]:
    """The trajectories' parameters as given, by part."""
    return {part.name: part.trajectory.init() for part in parts}


def from_whole(parts: tuple[Part, ...], mean: np.ndarray) -> Coefficients:
    """What of a mean density [n, n, n] lies in each part's region, the same in every state.

    A start for the solver, which draws all maps anew.
    """
    whole = crop_or_pad_volume(mean[None], parts[0].basis.n).astype(np.float32)
    maps = {
        part.name: on_device(
            part.state_basis.from_mean(np.asarray(jax.jit(part.basis.expand)(whole))[0])
        )
        for part in parts
    }
    return Coefficients(maps, first_motion(parts))


def resized(
    parts: tuple[Part, ...],
    old_parts: tuple[Part, ...],
    theta: Coefficients,
) -> Coefficients:
    """theta of the same parts at another resolution or over other states."""
    maps: dict[str, Array] = {}
    motion = first_motion(parts)
    for old, new in zip(old_parts, parts, strict=True):
        densities = np.asarray(jax.jit(old.basis.density)(theta.maps[old.name]))
        densities = crop_or_pad_volume(densities, new.basis.n)
        if old.state_basis.space == new.state_basis.space:
            weights = new.state_basis.coefficients_of(old.state_basis)
            grown = np.tensordot(weights, densities, axes=1)
        else:
            grown = new.state_basis.from_mean(old.state_basis.mean_of(densities))
        maps[new.name] = jax.jit(new.basis.expand)(np.asarray(grown, np.float32))
        if type(old.trajectory) is type(new.trajectory):
            motion[new.name] = theta.motion[old.name]
    return Coefficients(maps, motion)


def ordered_states(part: Part, maps: np.ndarray, states: np.ndarray) -> np.ndarray:
    """States of all copies of a part from its subspace: ordered together, for they share it.

    Args:
        part: whose states are wanted.
        maps: [d or 1 + d, ...] of the subspace, the last d those of its states.
        states: [N, copies, d].

    Returns:
        [N, copies, dim].
    """
    n, copies, d = states.shape
    pooled = principal_coordinates(maps[-d:], states.reshape(n * copies, d))
    return part.state_basis.space.from_subspace(pooled).reshape(n, copies, -1)


def carried_density(basis: SpatialBasis, maps: Array, operator: np.ndarray, frame: Frame) -> Array:
    """One density [1, ...] carried by a frame and then a symmetry operator, on the grid [n, n, n].

    Through the transform: the slicing grid is read at the points that the motion asks for.
    """
    n = basis.n
    axis = np.fft.fftfreq(n, 1.0 / n)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    points = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float32)
    inside = np.sum(points**2, axis=1) <= (basis.n_shells - 2) ** 2
    rotation = jnp.asarray(operator, jnp.float32) @ frame.rotation
    values = basis.slices(basis.prepare(maps), rotation[None], jnp.asarray(points[inside]))[0, 0]
    moved = jnp.asarray(operator, jnp.float32) @ frame.translation
    turns = points[inside] @ moved / (n * basis.voxel_size_angstrom)
    values = values * jnp.exp(-2j * jnp.pi * turns)
    full = jnp.zeros(n**3, jnp.complex64).at[np.flatnonzero(inside)].set(values)
    density = jnp.fft.ifftn(full.reshape(n, n, n)).real / basis.scale
    return jnp.fft.fftshift(density)


def placed_density(seat: Seat, maps: Array, motion: dict[str, Any], tau: Array) -> Array:
    """One density of a place, of coefficients [*shape], on the grid [n, n, n] where it is seen."""
    part = seat.part
    if seat.rests and not seat.is_turned:
        return part.basis.density(maps[None])[0]
    frame = part.trajectory.frame(motion[part.name], tau[seat.moves])
    return carried_density(part.basis, maps[None], seat.rotation, frame)


#: Terms of the expansion that shows a place moving with one knob: half turns, or turns twice.
_SHOWN_TERMS = 33


def shown_path(trajectory: Trajectory) -> StateBasis:
    """The state basis that a trajectory is shown in: one term where it rests or is not one knob."""
    space = trajectory.space
    if isinstance(space, Circle):
        return Fourier(_SHOWN_TERMS, space)
    if isinstance(space, Interval):
        return Cosine(_SHOWN_TERMS, space)
    return Constant()


def shown_densities(seat: Seat, maps: dict[str, Array], motion: dict[str, Any]) -> Array:
    """One place's densities, [G n_terms, n, n, n] with G terms of its path, the path's first."""
    part, trajectory = seat.part, seat.part.trajectory
    path, terms = shown_path(trajectory), maps[part.name]
    if path.n_terms == 1 and not seat.is_turned:
        return part.basis.density(terms)

    def carried(tau: Array) -> Array:
        frame = trajectory.frame(motion[part.name], tau)
        return jnp.stack(
            [carried_density(part.basis, term[None], seat.rotation, frame) for term in terms]
        )

    if path.n_terms == 1:
        return carried(jnp.zeros(trajectory.space.dim))
    with jax.ensure_compile_time_eval():  # numbers, also where maps and motion are traced
        nodes = path.space.nodes(_SHOWN_TERMS)
        inverse = np.linalg.pinv(np.asarray(path(nodes), np.float64)).astype(np.float32)
    at_nodes = jax.lax.map(carried, nodes)
    return jnp.tensordot(inverse, at_nodes, axes=1).reshape(-1, *at_nodes.shape[2:])
