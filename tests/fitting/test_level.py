"""Levels share one reading of the images: every level's pixels are those of a fresh reading."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from hypermol.data.particles import ParticleSet
from hypermol.data.source import load_particles
from hypermol.fitting.found import Found
from hypermol.fitting.level import BLOCK, FourierImages, Levels
from hypermol.fitting.stages import Stage
from hypermol.fitting.sweep import Data
from hypermol.imaging.blocks import (
    consensus_poses,
    from_blocks,
    image_blocks,
    particle_ctf,
    read_half_plane,
)
from hypermol.io.mrc import write_stack
from hypermol.io.star import write_particles_star
from hypermol.posterior.theta_conditional import full_block_count, group_count
from hypermol.recipe.options import FitOptions, make_design
from hypermol.space.fourier import half_plane, plane_columns
from runs import particle_metadata, random_rotations

BOX, FINEST = 12, 5
#: One more than eight blocks hold, so that they are filled up to ten.
N = 8 * BLOCK + 1


@pytest.fixture(scope="module")
def particles(tmp_path_factory) -> ParticleSet:
    folder, rng = tmp_path_factory.mktemp("particles"), np.random.default_rng(0)
    write_stack(folder / "particles.mrcs", rng.normal(size=(N, BOX, BOX)).astype(np.float32), 2.0)
    metadata = particle_metadata(folder, random_rotations((N,), rng), rng.normal(size=(N, 2)), BOX)
    path = folder / "particles.star"
    write_particles_star(path, replace(metadata, pixel_size_angstrom=2.0))
    return load_particles(path)


def fresh(particles: ParticleSet, kmax: int) -> Data:
    """Read and transformed for this level alone."""
    plane = half_plane(BOX, kmax)
    images = image_blocks(read_half_plane(particles, plane), particle_ctf(particles, plane), BLOCK)
    return Data(images, consensus_poses(particles, BLOCK))


@pytest.mark.parametrize("kmax", [2, 3, FINEST])
def test_a_levels_pixels_are_those_of_a_fresh_reading(particles: ParticleSet, kmax: int):
    found = FourierImages(particles, FINEST).up_to(half_plane(BOX, kmax), None)
    expected = fresh(particles, kmax)
    for name in ("pixels", "ctf", "present"):
        ours, theirs = (from_blocks(getattr(d.images, name), N) for d in (found, expected))
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for ours, theirs in zip(found.consensus, expected.consensus, strict=True):
        np.testing.assert_array_equal(from_blocks(ours, N), from_blocks(theirs, N))


@pytest.mark.parametrize("kmax", [1, 3, FINEST])
def test_columns_hold_the_frequencies_of_the_coarser_plane(kmax: int):
    finer, plane = half_plane(BOX, FINEST), half_plane(BOX, kmax)
    columns = plane_columns(finer, plane)
    np.testing.assert_array_equal(finer.frequencies[columns], plane.frequencies)
    assert len(np.unique(columns)) == len(plane.shells)


def test_filling_blocks_are_absent_and_make_groups_of_one_size(particles: ParticleSet):
    data = FourierImages(particles, FINEST).up_to(half_plane(BOX, 3), None)
    n_blocks = len(data.images.present)
    assert n_blocks == full_block_count(9) == 10
    assert group_count(n_blocks) == 2
    assert float(data.images.present.sum()) == N
    assert not np.any(np.asarray(data.images.present)[9:])
    for value in (*data.images, *data.consensus):
        assert len(value) == n_blocks and np.all(np.isfinite(np.asarray(value)))


def test_groups_hold_every_block_once():
    """Never more than eight blocks together, and few are filled up."""
    for n_blocks in range(1, 100):
        full = full_block_count(n_blocks)
        groups = group_count(full)
        assert full % groups == 0 and full // groups <= 8
        assert groups == -(-n_blocks // 8) and n_blocks <= full < n_blocks + groups


def test_some_blocks_are_those_of_all_particles(particles: ParticleSet):
    images, blocks = FourierImages(particles, FINEST), np.array([1, 4, 8])
    every, some = images.up_to(half_plane(BOX, 3), None), images.up_to(half_plane(BOX, 3), blocks)
    for ours, theirs in zip(
        (*some.images, *some.consensus), (*every.images, *every.consensus), strict=True
    ):
        np.testing.assert_array_equal(ours, np.asarray(theirs)[blocks])


@pytest.mark.parametrize("basis", ["voxels", "prolates"])
def test_what_shows_theta_is_compiled_once_for_all_samples(
    particles: ParticleSet, basis: str, monkeypatch: pytest.MonkeyPatch
):
    """Every sample is shown: a program for each would fill the memory of a long run."""
    options = FitOptions(n_terms=2, spatial_basis=basis, radius_angstrom=8.0)
    design = make_design(options, particles.box, particles.pixel_size_angstrom)
    stage = Stage("any", "whole", 3, 2, 1)
    level = Levels(particles, options, design, 3).level(stage, Found())
    theta = level.molecule.init(jax.random.key(0))
    calls, plain = [], type(level.molecule).shown

    def counted(molecule: object, theta: object) -> object:
        calls.append(theta)
        return plain(molecule, theta)

    monkeypatch.setattr(type(level.molecule), "shown", counted)
    first, second = level.shown(theta), level.shown(jax.tree.map(lambda x: x + 1.0, theta))
    assert len(calls) == 1
    assert first.shape == second.shape and not np.allclose(first, second)
