"""Poses that are wrong are found again through `fit`, and their share is told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import starfile
from scipy.spatial.transform import Rotation

from hypermol.analysis.particle_summary import summarise_particles
from hypermol.analysis.run import load_run
from hypermol.data.source import ParticleSource, load_particles
from hypermol.fitting.fit import fit
from hypermol.io.errors import InputError
from hypermol.molecule.gallery import pretzel
from hypermol.posterior.priors import HyperPrior
from hypermol.recipe.options import FitOptions
from hypermol.report import write_report
from hypermol.simulation import MoleculeSource, Noise, Poses, Settings, simulate, write_dataset
from hypermol.space.rotation import angle_between

N, WRONG = 480, 120
OPTIONS = FitOptions(n_terms=1, poses="rescue", chains=1, burn_in=6, samples=8)
ANGLES = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of a pretzel with one arm, a quarter of whose rotations are replaced; the truth's
    poses are in truth.star."""
    folder = tmp_path_factory.mktemp("data") / "set"
    settings = Settings(
        n=N,
        box=32,
        pixel_size_angstrom=8.0,
        noise=Noise(snr=0.5),
        poses=Poses(shift_sd_angstrom=4.0, rotation_error_deg=1.0, shift_error_px=0.2),
    )
    write_dataset(folder, simulate(MoleculeSource(pretzel(80.0, arms=1)), settings))
    path = folder / "particles.star"
    blocks = starfile.read(path, always_dict=True)
    wrong = Rotation.random(WRONG, random_state=1).as_euler("ZYZ", degrees=True)
    blocks["particles"].loc[: WRONG - 1, ANGLES] = wrong
    starfile.write(blocks, path, overwrite=True)
    return path


@pytest.mark.slow
def test_wrong_poses_are_found_and_counted(particles: Path, tmp_path: Path) -> None:
    fit(ParticleSource(particles), tmp_path / "run", OPTIONS)
    run = load_run(tmp_path / "run")
    truth = load_particles(particles.parent / "truth" / "truth.star", image_dir=particles.parent)
    error = angle_between(summarise_particles(run).rotations, truth.rotations)
    assert np.mean(error[:WRONG] < 15.0) > 0.75
    assert np.mean(error[WRONG:] < 15.0) > 0.95
    rotations, shifts = run.pooled("misplaced").T
    assert abs(rotations.mean() - WRONG / N) < 0.06 and shifts.mean() < 0.1
    page = write_report(run).read_text()
    assert "had nothing to do with where they" in page


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2])
def test_a_share_of_all_or_nothing_is_refused(particles: Path, tmp_path: Path, share: float):
    options = replace(OPTIONS, prior=HyperPrior(misplaced=share))
    with pytest.raises(InputError, match=r"prior\.misplaced is .*: give a share between 0 and 1"):
        fit(ParticleSource(particles), tmp_path / "run", options)


def test_other_schedules_know_no_jumps(particles: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"poses is .rescue. but sampling\.schedule is .paper."):
        fit(ParticleSource(particles), tmp_path / "run", replace(OPTIONS, schedule="paper"))
