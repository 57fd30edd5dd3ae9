"""The imaging model of eq. 6, 8 and 22: slice, CTF, shift, contrast."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from hypermol.data.latents import Latents
from hypermol.molecule.protocol import LinearMolecule
from hypermol.space.fourier import HalfPlane, shift_phases
from hypermol.space.rotation import matrix_from_quaternion


def predict(
    molecule: LinearMolecule, prepared: Any, latents: Latents, ctf: Array, plane: HalfPlane
) -> Array:
    """Noiseless half-plane images of a block of particles (eq. 22).

    Args:
        molecule: the model.
        prepared: `molecule.prepare(theta)`.
        latents: of the block, leading axis [B].
        ctf: [B, K].
        plane: the Fourier pixels.

    Returns:
        complex [B, K].
    """
    frequencies = jnp.asarray(plane.frequencies, jnp.float32)
    rotations = matrix_from_quaternion(latents.quaternion)
    features = molecule.features(prepared, rotations, latents.state, frequencies)
    weights = latents.contrast[:, None] * molecule.weights(latents.state)
    slices = jnp.einsum("bf,bfk->bk", weights.astype(features.dtype), features)
    return slices * ctf * shift_phases(plane, latents.shift_px)
