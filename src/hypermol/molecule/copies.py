"""Copies of a part that lie on one another: what an image says of all of them together.

Where V(r) = sum_p U(S_p^T r, tau_p) over a group of turns S_p that keep the part's region, images
tell the mean over the group of a term that does not change, and nothing of the rest of it.
"""

from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.molecule.composite_march import placed_density
from hypermol.molecule.parts import Part, Seat

#: Largest difference of two operators that rounding explains.
_SAME = 1e-4


def shared_operators(part: Part) -> np.ndarray:
    """The turns [P, 3, 3] from a part's first copy to all of them, if they are a group that keeps
    its region and the part rests; else the identity alone."""
    identity = np.eye(3)[None]
    if len(part.places) == 1 or part.trajectory.space.dim:
        return identity
    rotations = np.array([place.rotation for place in part.places])
    found = rotations[0].T @ rotations
    products = found[:, None] @ found[None]
    gaps = np.abs(products[:, :, None] - found).max(axis=(-2, -1)).min(axis=-1)
    kept = all(part.basis.is_kept_by(operator) for operator in found)
    return found if kept and gaps.max() < _SAME else identity


def averaged(part: Part, maps: Array) -> Array:
    """The maps [F, ...] of a part's terms, each the mean of its turned copies."""
    operators = shared_operators(part)
    if len(operators) == 1:
        return maps
    turned = [part.basis.turned(maps, operator) for operator in operators[1:]]
    return jnp.mean(jnp.stack([maps, *turned]), axis=0)


def resting_densities(seats: Iterable[Seat], maps: dict[str, Array]) -> Array:
    """Densities of the terms of every place, none of which moves, [F, n, n, n]: such that an image
    coefficient is their transform."""
    found = []
    for seat in seats:
        basis, own = seat.part.basis, maps[seat.part.name]
        if seat.is_turned and not basis.is_kept_by(seat.rotation):
            still = {seat.part.name: seat.part.trajectory.init()}
            at_rest = jnp.zeros(0)
            own = jnp.stack([placed_density(seat, term, still, at_rest) for term in own])
        else:
            turned = basis.turned(own, seat.rotation) if seat.is_turned else own
            own = basis.density(turned)
        found.append(basis.scale * own)
    return jnp.concatenate(found)
