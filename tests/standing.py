"""A chain that stands where a test puts it."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.fitting.level import Level
from hypermol.fitting.maps import thetas_of_parts
from hypermol.fitting.march import first_state
from hypermol.fitting.sweep import ChainState
from hypermol.imaging.blocks import to_blocks
from hypermol.space.rotation import quaternion_from_matrix


def standing(level: Level, rotations: np.ndarray, states: np.ndarray) -> ChainState:
    """Particles at these rotations [N, 3, 3] and states [N], of contrast 1, and the best theta."""
    shape = level.data.images.present.shape

    def blocks(values: np.ndarray) -> Array:
        return jnp.asarray(to_blocks(np.asarray(values, np.float32), *shape[::-1]))

    state = first_state(level)
    latents = state.latents._replace(
        quaternion=blocks(quaternion_from_matrix(rotations)),
        state=blocks(states[:, None]),
        contrast=jnp.ones(shape),
    )
    state = state._replace(latents=latents)
    theta = thetas_of_parts(level, state, [np.ones(shape)])[0]
    return state._replace(theta=theta)
