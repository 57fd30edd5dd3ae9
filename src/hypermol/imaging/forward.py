"""The imaging model of eq. 6, 8 and 22: slice, transfer, shift, contrast."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from hypermol.data.latents import Latents
from hypermol.imaging.operator import Imaging, Microscope
from hypermol.molecule.protocol import SlicedMolecule
from hypermol.space.fourier import HalfPlane
from hypermol.space.rotation import matrix_from_quaternion


def predict(
    molecule: SlicedMolecule,
    prepared: Any,
    latents: Latents,
    ctf: Array,
    plane: HalfPlane,
    imaging: Imaging = Microscope(),
) -> Array:
    """Noiseless half-plane images of a block of particles (eq. 22).

    Args:
        molecule: the model.
        prepared: `molecule.prepare(theta)`.
        latents: of the block, leading axis [B].
        ctf: [B, K]; for another instrument, whatever its `transfer` reads.
        plane: the Fourier pixels.
        imaging: the instrument.

    Returns:
        complex [B, K].
    """
    frequencies = jnp.asarray(plane.frequencies, jnp.float32)
    rotations = matrix_from_quaternion(latents.quaternion)
    features = molecule.features(prepared, rotations, latents.state, frequencies)
    weights = latents.contrast[:, None] * molecule.weights(latents.state)
    slices = jnp.einsum("bf,bfk->bk", weights.astype(features.dtype), features)
    return slices * imaging.transfer(ctf, plane) * imaging.phases(plane, latents.shift_px)
