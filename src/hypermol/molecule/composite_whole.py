"""Preconditioning a composite's maps: what parts side by side have in common.

Images weigh low frequencies most, by about 1 / |k|, which is not local in space: the mean
densities of two parts are coupled however far apart their regions are. One multiplier on the sum
of all parts' mean densities, read back in each region, knows that coupling, but nothing of
regions that overlap, where parts may be exchanged for one another; a multiplier for each part
alone knows the latter and not the former. Half of each is good for both.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.molecule.parts import Part
from hypermol.space.fourier import frequency_radii

_AXES = (-3, -2, -1)


def _rests(part: Part) -> bool:
    """Whether a part has one place, where it was put, and no motion."""
    only = len(part.places) == 1 and np.allclose(part.places[0].rotation, np.eye(3))
    return only and part.trajectory.space.dim == 0


def _whole(part: Part) -> np.ndarray:
    """Unit vector [terms] of a density that is the same in every state."""
    weights = np.asarray(part.state_basis.constant_weights, np.float32)
    return weights / np.linalg.norm(weights)


def add_whole(
    parts: tuple[Part, ...],
    own: dict[str, Array],
    maps: dict[str, Array],
    blocks: dict[str, Array],
) -> dict[str, Array]:
    """Half of `own` and half of one multiplier on the sum of mean densities; symmetric.

    Args:
        parts: of the composite; those that are turned or move are left as they are.
        own: the maps, each part multiplied alone.
        maps: what is multiplied.
        blocks: [n_shells, terms, terms] of each part.
    """
    resting = [part for part in parts if _rests(part)]
    if len(resting) < 2:
        return own
    wholes = {part.name: _whole(part) for part in resting}
    found = dict(own)
    total: Array | float = 0.0
    multiplier: Array | float = 0.0
    for part in resting:
        whole = wholes[part.name]
        mean = jnp.tensordot(whole, maps[part.name], axes=1)[None]
        total = total + part.basis.density(mean)[0]
        block = blocks[part.name]
        multiplier = multiplier + jnp.einsum("q,sqr,r->s", whole, block, whole) / len(resting)
    filtered = _filter(jnp.asarray(total), jnp.asarray(multiplier))
    for part in resting:
        zero = jnp.zeros((1, *part.basis.coefficient_shape))
        (back,) = jax.linear_transpose(part.basis.density, zero)(filtered[None])
        share = wholes[part.name].reshape(-1, *[1] * (back.ndim - 1)) * back
        found[part.name] = 0.5 * own[part.name] + 0.5 * share
    return found


def _filter(density: Array, multiplier: Array) -> Array:
    """A density [n, n, n] times a multiplier [n_shells] of its transform, the last beyond all."""
    n = density.shape[-1]
    shells = np.minimum(np.rint(frequency_radii(n)).astype(int), multiplier.shape[0] - 1)
    transform = jnp.fft.rfftn(density, axes=_AXES) * multiplier[shells]
    return jnp.fft.irfftn(transform, s=(n,) * 3, axes=_AXES)
