"""Poses that say where to begin, and nothing of where particles are."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from hypermol.analysis.gauge import align_poses, pose_errors
from hypermol.analysis.particle_summary import summarise_particles
from hypermol.analysis.run import load_run
from hypermol.analysis.truth import load_truth
from hypermol.data.source import ParticleSource, load_particles
from hypermol.fitting.fit import fit
from hypermol.fitting.march import placed
from hypermol.fitting.sweep import ChainState
from hypermol.imaging.blocks import from_blocks
from hypermol.io.errors import InputError
from hypermol.molecule.gallery import pretzel
from hypermol.recipe.options import FitOptions
from hypermol.simulation import MoleculeSource, Noise, Poses, Settings, simulate, write_dataset
from hypermol.space.rotation import angle_between, matrix_from_quaternion
from small_posterior import make_small

SHIFT_PX = 1.5
OPTIONS = FitOptions(
    n_terms=1, poses="start", chains=1, burn_in=6, samples=8, resolution_angstrom=26.0
)


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of a pretzel with one arm, whose poses are off by a little."""
    folder = tmp_path_factory.mktemp("data") / "set"
    settings = Settings(
        n=320,
        box=32,
        pixel_size_angstrom=8.0,
        noise=Noise(snr=0.5),
        poses=Poses(shift_sd_angstrom=8.0 * SHIFT_PX, rotation_error_deg=5.0, shift_error_px=0.3),
    )
    write_dataset(folder, simulate(MoleculeSource(pretzel(90.0, arms=1)), settings))
    return folder / "particles.star"


def test_a_chain_begins_where_the_input_has_particles(particles: Path):
    small, given = make_small(), load_particles(particles)
    state = ChainState(small.theta, small.mu, small.latents)
    n_blocks, block = state.latents.contrast.shape
    given = given.select(np.arange(n_blocks * block))
    latents = placed(state, given).latents
    turned = from_blocks(jax.jit(matrix_from_quaternion)(latents.quaternion), given.n)
    assert angle_between(turned, given.rotations).max() < 0.1
    shifts = given.shifts_angstrom / given.pixel_size_angstrom
    np.testing.assert_allclose(from_blocks(latents.shift_px, given.n), shifts, atol=1e-5)
    assert np.all(np.asarray(latents.contrast) == 1.0)
    np.testing.assert_array_equal(latents.state, state.latents.state)


@pytest.mark.slow
def test_the_prior_is_not_about_the_input(particles: Path, tmp_path: Path):
    """Poses leave where they began, and the width of shifts is that of all shifts, not of their
    way from the input's."""
    run = load_run(fit(ParticleSource(particles), tmp_path / "run", OPTIONS).path)
    truth, summary = load_truth(particles.parent / "truth"), summarise_particles(run)
    pixel = run.info["pixel_size_angstrom"]
    own = summary.rotations, summary.shift_px * pixel
    true = truth.rotations, truth.shifts_angstrom
    degrees, _ = pose_errors(align_poses(own, true), own, true)
    began = angle_between(load_particles(particles).rotations, truth.rotations)
    assert np.median(degrees) < 0.95 * np.median(began)  # a rigid map of what moves
    widths = run.pooled("shift_sd_px")
    assert abs(widths.mean() / SHIFT_PX - 1.0) < 0.15


def test_other_schedules_know_no_jumps(particles: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"poses is .start. but sampling\.schedule is .paper."):
        fit(ParticleSource(particles), tmp_path / "run", replace(OPTIONS, schedule="paper"))
