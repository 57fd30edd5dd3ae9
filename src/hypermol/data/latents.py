"""What is unknown about each particle, and what the input says about it."""

from typing import NamedTuple

from jax import Array


class Latents(NamedTuple):
    """Per-particle unknowns; leading axes [n_blocks, block] or [N].

    Attributes:
        quaternion: [..., 4] unit, molecule to microscope.
        shift_px: [..., 2] (x, y) in pixels of the images.
        contrast: [...].
        state: [..., dim].
    """

    quaternion: Array
    shift_px: Array
    contrast: Array
    state: Array


class Consensus(NamedTuple):
    """The input's poses, centre of the pose prior: quaternion [..., 4], shift_px [..., 2]."""

    quaternion: Array
    shift_px: Array


class ImageBlocks(NamedTuple):
    """All images as a stack of blocks of one shape, the last one filled up with absent particles.

    Attributes:
        pixels: complex64 [n_blocks, block, K], half-plane Fourier pixels.
        ctf: float32 [n_blocks, block, K]; instruments other than the microscope keep here what
            their `Imaging.transfer` needs to know of each image, [n_blocks, block, ...].
        present: float32 [n_blocks, block], 0 for filling.
    """

    pixels: Array
    ctf: Array
    present: Array
