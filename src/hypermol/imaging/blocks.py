"""Real images to blocks of half-plane Fourier pixels with their CTFs."""

import jax
import numpy as np
from jax import Array

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.data.particles import ParticleSet
from hypermol.imaging.ctf import ctf_values
from hypermol.space.fourier import HalfPlane, image_to_half_plane
from hypermol.space.rotation import quaternion_from_matrix

#: Images transformed together: bounds the memory of reading a stack.
READ_CHUNK = 512


def read_half_plane(particles: ParticleSet, plane: HalfPlane) -> np.ndarray:
    """All images as half-plane Fourier pixels, complex64 [N, K], read in chunks."""
    transform = jax.jit(lambda images: image_to_half_plane(images, plane))
    out = np.empty((particles.n, len(plane.shells)), np.complex64)
    for start in range(0, particles.n, READ_CHUNK):
        indices = np.arange(start, min(start + READ_CHUNK, particles.n))
        images = particles.images(indices)
        filled = np.zeros((READ_CHUNK, *images.shape[1:]), np.float32)
        filled[: len(indices)] = images
        out[indices] = np.asarray(transform(filled))[: len(indices)]
    return out


def particle_ctf(particles: ParticleSet, plane: HalfPlane) -> np.ndarray:
    """CTF of every particle at the plane's pixels, float32 [N, K]."""
    box_angstrom = plane.box * particles.pixel_size_angstrom
    frequencies = plane.frequencies / box_angstrom
    out = np.empty((particles.n, len(plane.shells)), np.float32)
    for start in range(0, particles.n, READ_CHUNK):
        indices = np.arange(start, min(start + READ_CHUNK, particles.n))
        out[indices] = ctf_values(particles.ctf.take(indices), frequencies)
    return out


def to_blocks(values: np.ndarray, block: int, n_blocks: int = 0) -> Array:
    """[N, ...] to [n_blocks, block, ...]; the last blocks are filled with the first particles.

    Blocks may share the memory of `values`, which is not to be written to any more.

    Args:
        values: of every particle.
        block: particles of a block.
        n_blocks: how many blocks there are to be; those that are needed, if more.
    """
    n = len(values)
    n_blocks = max(-(-n // block), n_blocks)
    if n_blocks * block > n:  # images are large: copied only where something is added
        values = values[np.arange(n_blocks * block) % n]
    return jax.device_put(values.reshape(n_blocks, block, *values.shape[1:]))


def from_blocks(values: Array, n: int) -> np.ndarray:
    """Undo `to_blocks`: [n_blocks, block, ...] to [N, ...]."""
    flat = np.asarray(values)
    return flat.reshape(flat.shape[0] * flat.shape[1], *flat.shape[2:])[:n]


def image_blocks(pixels: np.ndarray, ctf: np.ndarray, block: int, n_blocks: int = 0) -> ImageBlocks:
    """Blocks of images [N, K] with their CTFs [N, K]; `block` and `n_blocks` as in `to_blocks`."""
    n = len(pixels)
    n_blocks = max(-(-n // block), n_blocks)
    present = (np.arange(n_blocks * block) < n).astype(np.float32).reshape(n_blocks, block)
    blocks = to_blocks(pixels, block, n_blocks), to_blocks(ctf, block, n_blocks)
    return ImageBlocks(*blocks, jax.device_put(present))


def consensus_poses(particles: ParticleSet, block: int, n_blocks: int = 0) -> Consensus:
    """The input's poses as blocks; `block` and `n_blocks` as in `to_blocks`."""
    quaternion = quaternion_from_matrix(particles.rotations).astype(np.float32)
    shift = (particles.shifts_angstrom / particles.pixel_size_angstrom).astype(np.float32)
    return Consensus(*(to_blocks(values, block, n_blocks) for values in (quaternion, shift)))


def first_latents(consensus: Consensus, n_states: int) -> Latents:
    """Start at the input's poses, contrast 1, all state variables 1/2."""
    shape = consensus.quaternion.shape[:-1]
    return Latents(
        consensus.quaternion,
        consensus.shift_px,
        jax.device_put(np.ones(shape, np.float32)),
        jax.device_put(np.full((*shape, n_states), 0.5, np.float32)),
    )
