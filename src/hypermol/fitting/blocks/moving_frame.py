"""Burn-in only: bring a state-dependent rigid motion of the whole molecule back to zero.

V(g(tau) r, tau) seen from poses R g(tau) gives the same images as V(r, tau) seen from R (sec.
6.2): along this direction only the pose prior speaks, and alternating draws of theta and poses
crawl. One regression of all poses' deviations from the consensus on the state basis finds the
smooth motion g that they share, and takes it out of them; theta's next draw, exact given the
poses, follows in one step. Only molecules whose `frame_is_free` have this direction: in a
composite, a part at rest holds the frame, and what poses share with a state is signal.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import Consensus, Latents
from hypermol.fitting.sweep import Block, ChainState, Data, Info, Tuning
from hypermol.posterior.hyper_draws import latent_sums
from hypermol.posterior.pose_priors import Near, pose_vector
from hypermol.posterior.posterior import Posterior
from hypermol.space.rotation import (
    matrix_from_quaternion,
    quaternion_from_vector,
    quaternion_multiply,
)

#: Ridge of the regressions in particles: terms that fewer particles speak of stay near zero.
_RIDGE = 10.0


def _regress(design: Array, values: Array, weights: Array, scale: float) -> Array:
    """Ridge regression: design [n, p], values [n, q], each row counted weights [n] times -> [p, q].

    The weights stand once on both sides: squared on one, rows half believed would be overshot.
    """
    weighed = design * weights[:, None]
    normal = weighed.T @ design + _RIDGE * scale * jnp.eye(design.shape[1])
    return jnp.linalg.solve(normal, weighed.T @ values)


def take_out_shared_motion(
    weights: Array, latents: Latents, consensus: Consensus, telling: Near
) -> tuple[Latents, Array, Array]:
    """Poses less the smooth motion of the state that they share.

    Args:
        weights: [n_blocks, B, F] the state basis at the latents' states: the motion is sought
            in its span.
        latents, consensus: blocks, leading axes [n_blocks, B].
        telling: [n_blocks, B] 0 to 1: how much the rotation, and the shift, of each say of it.

    Returns:
        The latents; the root mean square of what was taken out, in radians and pixels.
    """
    rotations = matrix_from_quaternion(latents.quaternion)
    deviation = pose_vector(latents.quaternion, consensus.quaternion)
    turned = jnp.einsum(
        "nbji,nbj->nbi", matrix_from_quaternion(consensus.quaternion), deviation
    )  # R = exp(v) R_c = R_c exp(R_c' v): the deviation in the molecule's own axes
    terms = weights.shape[-1]
    flat = weights.reshape(-1, terms)
    turn = weights @ _regress(flat, turned.reshape(-1, 3), telling.rotation.reshape(-1), 1.0)
    quaternion = quaternion_multiply(latents.quaternion, quaternion_from_vector(-turn))

    # a displacement d of the molecule moves its image by the first two components of R d
    design = jnp.einsum("nbf,nbxa->nbxfa", weights, rotations[..., :2, :])
    design = design.reshape(*design.shape[:3], terms * 3)
    moved = (latents.shift_px - consensus.shift_px).reshape(-1, 1)
    each = jnp.repeat(telling.shift.reshape(-1), 2)
    drift = (design @ _regress(design.reshape(-1, terms * 3), moved, each, 2.0 / 3.0))[..., 0]

    sizes = [
        jnp.sqrt(jnp.sum(each * jnp.sum(value**2, -1)) / jnp.maximum(jnp.sum(each), 1.0))
        for each, value in zip(telling, (turn, drift), strict=True)
    ]
    latents = latents._replace(quaternion=quaternion, shift_px=latents.shift_px - drift)
    return latents, sizes[0], sizes[1]


def moving_frame(posterior: Posterior) -> Block:
    """The step as a block, to stand between poses and theta; not exact: for burn-in only."""

    @jax.jit
    def step(key: Array, state: ChainState, tuning: Tuning, data: Data) -> tuple[ChainState, Info]:
        weights = posterior.molecule.weights(state.latents.state)
        said = latent_sums(posterior, state.mu, state.latents, data.consensus, data.images.present)
        # those of the wide Gaussian tell less of shifts, by how much wider it is; of any rotation,
        # nothing
        wide = (state.mu.shift_sd_px / state.mu.misplaced_shift_sd_px) ** 2
        shift = said.near_shift + (1.0 - said.near_shift) * jnp.minimum(wide, 1.0)
        present = data.images.present
        telling = Near(present * said.near_rotation, present * shift)
        latents, turn, drift = take_out_shared_motion(
            weights, state.latents, data.consensus, telling
        )
        return state._replace(latents=latents), {"turn_rad": turn, "drift_px": drift}

    return Block("moving frame", step, numbers=frame_numbers, is_exact=False)


def frame_numbers(info: Info) -> dict[str, float]:
    """What the trace records of a motion taken out."""
    return {
        "frame_turn_deg": float(np.degrees(info["turn_rad"])),
        "frame_drift_px": float(info["drift_px"]),
    }
