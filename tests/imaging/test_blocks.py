"""Particle sets as blocks of Fourier pixels: nothing is lost, doubled or moved."""

import numpy as np
import pytest

from hypermol.data import load_particles
from hypermol.imaging.blocks import (
    consensus_poses,
    first_latents,
    from_blocks,
    image_blocks,
    particle_ctf,
    read_half_plane,
    to_blocks,
)
from hypermol.imaging.ctf import ctf_values
from hypermol.io.mrc import write_stack
from hypermol.space.fourier import half_plane, image_to_half_plane
from hypermol.space.rotation import matrix_from_quaternion

BOX = 8
PLANE = half_plane(BOX, 3)


@pytest.fixture
def images(tmp_path):
    values = np.random.default_rng(0).normal(size=(4, BOX, BOX)).astype(np.float32)
    write_stack(tmp_path / "stack.mrcs", values, 1.5)
    return values


@pytest.fixture
def particles(write_star, relion31, images):
    return load_particles(write_star(relion31))


@pytest.mark.parametrize(("n", "block"), [(7, 3), (6, 3), (2, 5), (1, 1)])
def test_blocks_round_trip(n: int, block: int):
    values = np.arange(n * 2, dtype=np.float32).reshape(n, 2)
    blocks = to_blocks(values, block)
    assert blocks.shape == (-(-n // block), block, 2)
    np.testing.assert_array_equal(from_blocks(blocks, n), values)


def test_filling_is_absent_and_finite():
    pixels = np.ones((7, 5), np.complex64)
    blocks = image_blocks(pixels, np.ones((7, 5), np.float32), 4)
    np.testing.assert_array_equal(blocks.present, [[1, 1, 1, 1], [1, 1, 1, 0]])
    assert np.all(np.isfinite(blocks.pixels)) and np.all(np.isfinite(blocks.ctf))


def test_pixels_and_ctf_are_those_of_the_files(particles, images):
    found = read_half_plane(particles, PLANE)
    np.testing.assert_allclose(found, image_to_half_plane(images, PLANE), atol=1e-6)
    expected = ctf_values(particles.ctf, PLANE.frequencies / (BOX * 1.5))
    np.testing.assert_allclose(particle_ctf(particles, PLANE), expected, atol=1e-6)


def test_consensus_is_the_files_poses_in_pixels(particles):
    consensus = consensus_poses(particles, 3)
    assert consensus.quaternion.shape == (2, 3, 4)
    found = np.asarray(matrix_from_quaternion(from_blocks(consensus.quaternion, 4)))
    np.testing.assert_allclose(found, particles.rotations, atol=1e-6)
    # the file's origins are (1.5, 0), (-3, 6), (0, -1.5), (0.75, 0.25) Angstrom at 1.5 a pixel
    expected = [[-1.0, 0.0], [2.0, -4.0], [0.0, 1.0], [-0.5, -1 / 6]]
    np.testing.assert_allclose(from_blocks(consensus.shift_px, 4), expected, atol=1e-6)


def test_first_latents_start_at_the_input(particles):
    consensus = consensus_poses(particles, 3)
    latents = first_latents(consensus, 1)
    np.testing.assert_array_equal(latents.quaternion, consensus.quaternion)
    np.testing.assert_array_equal(latents.contrast, 1.0)
    assert latents.state.shape == (2, 3, 1)
