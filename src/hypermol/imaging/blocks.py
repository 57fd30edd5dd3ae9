"""Real images to blocks of half-plane Fourier pixels with their CTFs."""

import jax
import jax.numpy as jnp
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
        out[indices] = np.asarray(ctf_values(particles.ctf.take(indices), frequencies))
    return out


def to_blocks(values: np.ndarray, block: int) -> Array:
    """[N, ...] to [n_blocks, block, ...]; the last block is filled with the first particles.

    Blocks may share the memory of `values`, which is not to be written to any more.
    """
    n = len(values)
    filled = -(-n // block) * block
    if filled > n:  # images are large: copied only where something is added
        values = values[np.arange(filled) % n]
    return jnp.asarray(values.reshape(filled // block, block, *values.shape[1:]))


def from_blocks(values: Array, n: int) -> np.ndarray:
    """Undo `to_blocks`: [n_blocks, block, ...] to [N, ...]."""
    flat = np.asarray(values)
    return flat.reshape(flat.shape[0] * flat.shape[1], *flat.shape[2:])[:n]


def image_blocks(pixels: np.ndarray, ctf: np.ndarray, block: int) -> ImageBlocks:
    """Blocks of images [N, K] with their CTFs [N, K]."""
    n = len(pixels)
    n_blocks = -(-n // block)
    present = (np.arange(n_blocks * block) < n).astype(np.float32).reshape(n_blocks, block)
    return ImageBlocks(to_blocks(pixels, block), to_blocks(ctf, block), jnp.asarray(present))


def consensus_poses(particles: ParticleSet, block: int) -> Consensus:
    """The input's poses as blocks."""
    quaternion = quaternion_from_matrix(particles.rotations).astype(np.float32)
    shift = (particles.shifts_angstrom / particles.pixel_size_angstrom).astype(np.float32)
    return Consensus(to_blocks(quaternion, block), to_blocks(shift, block))


def first_latents(consensus: Consensus, n_states: int) -> Latents:
    """Start at the input's poses, contrast 1, all state variables 1/2."""
    shape = consensus.quaternion.shape[:-1]
    return Latents(
        consensus.quaternion,
        consensus.shift_px,
        jnp.ones(shape),
        jnp.full((*shape, n_states), 0.5, jnp.float32),
    )
