"""After a search from nothing: a rigid molecule, and its poses, in another frame.

The search's own frame is any. A model that the user wrote stands somewhere, and has one hand: the
search's map is turned onto the model as it is before it has seen an image.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from hypermol.analysis.alignment import align_volumes
from hypermol.analysis.gauge import Gauge, apply_to_volume
from hypermol.data.latents import Latents
from hypermol.fitting.found import FrameStanding
from hypermol.fitting.level import Level
from hypermol.fitting.sweep import ChainState
from hypermol.molecule.composite_march import from_whole
from hypermol.space.rotation import (
    matrix_from_quaternion,
    quaternion_from_matrix,
    quaternion_multiply,
)

#: z -> -z takes a rotation R to J R J: of its quaternion, what turns about x and y changes sign.
_MIRRORED = (1.0, -1.0, -1.0, 1.0)


def rigid_theta(level: Level, volume: np.ndarray) -> Any:
    """theta of a density on the grid of a rigid molecule's level."""
    molecule: Any = level.molecule
    return from_whole(molecule.parts, np.asarray(volume, np.float32))


def turned(level: Level, state: ChainState, frame: Gauge) -> ChainState:
    """A rigid molecule in another frame, and its poses with it: the same images.

    R' = (J R J) G^T and s' = s - (R' c)_xy (`analysis.gauge`).
    """
    voxel = level.grid.voxel_size_angstrom
    volume = apply_to_volume(frame, level.molecule.mean(state.theta), voxel)
    latents = posed(level, state.latents, frame)
    return state._replace(theta=rigid_theta(level, volume), latents=latents)


def posed(level: Level, latents: Latents, frame: Gauge) -> Latents:
    """Poses of particles whose molecule is seen in another frame (`turned`)."""
    own = latents.quaternion
    if frame.flipped:
        own = own * jnp.asarray(_MIRRORED, own.dtype)
    back = jnp.asarray(quaternion_from_matrix(frame.rotation.T), jnp.float32)
    quaternion = quaternion_multiply(own, back)
    pixel = level.grid.box_angstrom / level.posterior.plane.box
    shift = jnp.asarray(frame.shift_angstrom / pixel, jnp.float32)
    moved = latents.shift_px - (matrix_from_quaternion(quaternion) @ shift)[..., :2]
    return latents._replace(quaternion=quaternion, shift_px=moved)


def turned_onto(
    level: Level, state: ChainState, density: np.ndarray
) -> tuple[ChainState, FrameStanding]:
    """A rigid molecule turned onto a density [n, n, n] on the level's grid, all rotations and both
    hands tried; as it is where that tells no frame."""
    voxel = level.grid.voxel_size_angstrom
    frame = align_volumes(level.molecule.mean(state.theta), density, voxel, search="global")
    standing = FrameStanding(float(frame.score), frame.flipped)
    return (turned(level, state, frame) if standing.is_clear else state), standing
