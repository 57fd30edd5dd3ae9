"""Burn-in only: each state in the frame in which the molecule moves least.

Where no pose is known, nothing says how a deforming molecule stands in one state relative to
another: V(g(tau) r, tau) seen from poses R g(tau) gives the same images (sec. 6.2). To first order
a rigid motion of the mean density is a combination of six fields, its turns and its displacements.
The part of V(., tau) that they explain is the motion g of the state; it is taken out of all poses,
and theta's next draw, exact given the poses, follows.
"""

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.data.latents import Latents
from hypermol.fitting.blocks.moving_frame import frame_numbers
from hypermol.fitting.sweep import Block, ChainState, Data, Info, Tuning
from hypermol.posterior.posterior import Posterior
from hypermol.space.rotation import (
    matrix_from_quaternion,
    quaternion_from_vector,
    quaternion_multiply,
)


def rigid_fields(density: Array) -> Array:
    """[6, n, n, n]: first-order changes of a density [z, y, x] as it turns about x, y, z through
    the origin n // 2, by a radian, and moves along them, by a voxel."""
    n = density.shape[0]
    place = jnp.arange(n) - n // 2
    z, y, x = jnp.meshgrid(place, place, place, indexing="ij")
    by_z, by_y, by_x = jnp.gradient(density)
    turns = (y * by_z - z * by_y, z * by_x - x * by_z, x * by_y - y * by_x)
    return -jnp.stack([*turns, by_x, by_y, by_z])


def rigid_parts(mean: Array, densities: Array) -> Array:
    """[G, 6]: how far each density [G, n, n, n] is the mean's turning (rad) and moving (voxels)."""
    fields = rigid_fields(mean).reshape(6, -1)
    normal = fields @ fields.T
    # in a molecule of spherical symmetry nothing tells a turn: it gets none
    normal = normal + 1e-3 * jnp.diag(jnp.diag(normal)) + 1e-20 * jnp.eye(6)
    return jnp.linalg.solve(normal, fields @ densities.reshape(len(densities), -1).T).T


def take_out_own_motion(
    shown: Array, weights: Array, latents: Latents, present: Array, px_per_voxel: float
) -> tuple[Latents, Array, Array]:
    """Poses that carry the rigid motion which the molecule's states have.

    Args:
        shown: [G, n, n, n] densities, whose sum by weight is the molecule in a state.
        weights: [n_blocks, B, G] at the latents' states.
        latents: blocks.
        present: [n_blocks, B].
        px_per_voxel: pixels of the images a voxel.

    Returns:
        The latents; the root mean square of what was taken out, in radians and pixels.
    """
    total = jnp.maximum(jnp.sum(present), 1.0)
    middle = jnp.einsum("nbg,nb->g", weights, present) / total
    parts = rigid_parts(jnp.einsum("g,gzyx->zyx", middle, shown), shown)
    motion = (weights - middle) @ parts
    turn, move = motion[..., :3], px_per_voxel * motion[..., 3:]
    # x = R (exp(turn) y + move): the pose of the molecule at rest, y
    rotations = matrix_from_quaternion(latents.quaternion)
    shift = jnp.einsum("nbxa,nba->nbx", rotations[..., :2, :], move)
    quaternion = quaternion_multiply(latents.quaternion, quaternion_from_vector(turn))
    sizes = [jnp.sqrt(jnp.sum(present * jnp.sum(v**2, -1)) / total) for v in (turn, shift)]
    moved = latents._replace(quaternion=quaternion, shift_px=latents.shift_px + shift)
    return moved, sizes[0], sizes[1]


def resting_frame(posterior: Posterior) -> Block:
    """The step as a block, to stand between poses and theta; not exact: for burn-in only."""
    molecule, box = posterior.molecule, posterior.plane.box

    @jax.jit
    def step(key: Array, state: ChainState, tuning: Tuning, data: Data) -> tuple[ChainState, Info]:
        shown = molecule.shown(state.theta)
        weights = molecule.shown_weights(state.latents.state)
        latents, turn, drift = take_out_own_motion(
            shown, weights, state.latents, data.images.present, box / shown.shape[-1]
        )
        return state._replace(latents=latents), {"turn_rad": turn, "drift_px": drift}

    return Block("resting frame", step, numbers=frame_numbers, is_exact=False)
