"""Parallel-beam X-ray tomography: transmission images of one moving object, directions known.

A detector pixel counts photons: N ~ Poisson(N0 exp(-p)), p the line integral of the attenuation
(Beer and Lambert). What is fitted are the line integrals p = log(N0 / N), taken as Gaussian:

- To first order var(log N) = var(N) / N^2 = 1 / N. At 30 counts the mean of log N is too low by
  1 / (2 N) = 0.017 and its sd, 0.18, right to 2 %; below ten counts another model is needed.
- The variance differs from pixel to pixel (the thick parts are noisy). Only its mean over a view
  is kept, which is the exact variance of each Fourier coefficient; that coefficients are then
  correlated is ignored. Views are divided by the square root of their mean variance, so that the
  noise variance of every shell is near 1 and views through the long axis of a body count for less.
- Drift of the tube's output multiplies N and thus adds a constant to p: it touches k = 0 alone,
  which no half plane holds. The contrast of eq. 5, which multiplies p, has no cause here but
  beam hardening: give it a narrow prior about 1.
"""

from dataclasses import dataclass
from typing import final

import jax.numpy as jnp
import numpy as np
from jax import Array
from typing_extensions import override

from hypermol.data.latents import Consensus, ImageBlocks
from hypermol.imaging.blocks import image_blocks, to_blocks
from hypermol.imaging.operator import Imaging
from hypermol.space.fourier import HalfPlane, image_to_half_plane
from hypermol.space.rotation import quaternion_from_matrix


@final
@dataclass(frozen=True)
class ParallelBeam(Imaging):
    """Line integrals averaged over square detector pixels; nothing shifts, there is no CTF.

    `ImageBlocks.ctf` holds one number a view: the weight that its pixels were multiplied by.

    Attributes:
        pixel_size: side of a detector pixel, which is that of the grid the slices are taken on
            (`Voxels.pixel_size_angstrom`, in any unit of length): slices are sums over samples
            that far apart, hence times this they are integrals, and densities are in 1/length.
    """

    pixel_size: float

    @override
    def transfer(self, ctf: Array, plane: HalfPlane) -> Array:
        """Weight of the view x pixel size x the pixel's aperture: [..., 1] -> [..., K]."""
        aperture = np.prod(np.sinc(plane.frequencies / plane.box), axis=-1)
        return ctf * jnp.asarray(self.pixel_size * aperture, jnp.float32)

    @override
    def phases(self, plane: HalfPlane, shifts_px: Array) -> Array:
        """1, whatever the shifts: the axis of the gantry is known."""
        del plane
        return jnp.ones((*shifts_px.shape[:-1], 1))


def views_about_z(angles: np.ndarray) -> np.ndarray:
    """Rotations [N, 3, 3] of a gantry that turns about the object's z axis by angles [N] (radians).

    Image rows run along z; image x is the direction (cos a, sin a, 0), rays run along
    (sin a, -cos a, 0). Half a turn sees all there is to see.
    """
    cos, sin, zero = np.cos(angles), np.sin(angles), np.zeros(len(angles))
    rows = [[cos, sin, zero], [zero, zero, zero + 1.0], [sin, -cos, zero]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=1)


def line_integrals(counts: np.ndarray, open_beam: float) -> tuple[np.ndarray, np.ndarray]:
    """Counts to line integrals, with the weight of each view.

    Args:
        counts: [N, box, box] photons; none counts as one.
        open_beam: photons a pixel expects with nothing in the beam.

    Returns:
        line integrals float32 [N, box, box], and weights float32 [N]: 1 / sd of their noise, the
        variance 1 / counts averaged over the view.
    """
    seen = np.maximum(np.asarray(counts, np.float64), 1.0)
    weights = np.mean(1.0 / seen, axis=(1, 2)) ** -0.5
    return np.log(open_beam / seen).astype(np.float32), weights.astype(np.float32)


def view_blocks(
    integrals: np.ndarray,
    weights: np.ndarray,
    rotations: np.ndarray,
    plane: HalfPlane,
    block: int,
) -> tuple[ImageBlocks, Consensus]:
    """Views as the posterior reads them, in blocks.

    Args:
        integrals: [N, box, box] line integrals.
        weights: [N] their weights (`line_integrals`).
        rotations: [N, 3, 3] object to gantry.
        plane: Fourier pixels to keep.
        block: views in a block.
    """
    pixels = np.asarray(image_to_half_plane(integrals * weights[:, None, None], plane))
    images = image_blocks(pixels.astype(np.complex64), weights[:, None], block)
    quaternion = quaternion_from_matrix(rotations).astype(np.float32)
    still = np.zeros((len(rotations), 2), np.float32)
    return images, Consensus(to_blocks(quaternion, block), to_blocks(still, block))
