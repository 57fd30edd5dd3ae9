"""Scores of finished runs by images that are taken out of their molecules."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hypermol.data.source import ParticleSource
from hypermol.fitting import comparison
from hypermol.fitting.comparison import (
    HeldOut,
    check_comparable,
    difference,
    held_out_of_run,
    left_out,
)
from hypermol.fitting.fit import fit
from hypermol.io.errors import InputError
from hypermol.io.store import RunDirectory
from hypermol.molecule.gallery import pretzel
from hypermol.recipe.options import FitOptions
from hypermol.simulation import MoleculeSource, Noise, Poses, Settings, simulate, write_dataset

OPTIONS = FitOptions(
    n_terms=1, chains=1, burn_in=4, samples=2, radius_angstrom=105.0, resolution_angstrom=32.0
)


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of a pretzel with one arm that moves."""
    folder = tmp_path_factory.mktemp("data")
    settings = Settings(
        n=320,
        box=32,
        pixel_size_angstrom=8.0,
        noise=Noise(snr=0.5),
        poses=Poses(shift_sd_angstrom=4.0, rotation_error_deg=2.0, shift_error_px=0.3),
    )
    molecule = MoleculeSource(pretzel(90.0, arms=1))
    write_dataset(folder, simulate(molecule, settings), overwrite=True)
    return folder / "particles.star"


@pytest.fixture(scope="module")
def rigid(particles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(ParticleSource(particles), tmp_path_factory.mktemp("r") / "rigid", OPTIONS).path


@pytest.fixture(scope="module")
def moving(particles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = replace(OPTIONS, n_terms=3)
    return fit(ParticleSource(particles), tmp_path_factory.mktemp("m") / "moving", options).path


def test_a_molecule_that_moves_is_predicted_better_by_one_that_may(rigid: Path, moving: Path):
    own, other = held_out_of_run(moving), held_out_of_run(rigid)
    gain = difference(own, other)
    assert gain.is_clear and gain.mean > 0.5
    assert len(own.scores) == 32 and own.images[1] == "10@particles"
    back = difference(other, own)
    assert back.mean == -gain.mean and back.error == gain.error


def test_scores_are_kept_until_the_run_goes_on(moving: Path, monkeypatch):
    first = held_out_of_run(moving)
    monkeypatch.setattr(comparison, "_scores", lambda *given: np.zeros(32))
    np.testing.assert_array_equal(held_out_of_run(moving).scores, first.scores)
    directory = RunDirectory.open(moving)
    kept = directory.read_arrays("held_out.npz")
    directory.write_arrays("held_out.npz", kept | {"done": kept["done"] - 1})
    assert not held_out_of_run(moving).scores.any()
    directory.write_arrays("held_out.npz", kept)


def test_images_left_out_have_no_part_in_theta(rigid: Path, monkeypatch):
    """theta is solved for from all images but those whose rows are `left_out`."""
    seen = []
    solved = comparison.maps.thetas_of_parts

    def watched(level, state, members):
        seen.append(members[0].ravel())
        return solved(level, state, members)

    monkeypatch.setattr(comparison.maps, "thetas_of_parts", watched)
    directory = RunDirectory.open(rigid)
    (directory.path / "held_out.npz").unlink(missing_ok=True)
    held_out_of_run(rigid)
    np.testing.assert_array_equal(np.flatnonzero(seen[0] == 0.0), left_out(320))


@pytest.mark.parametrize(("n", "count"), [(9, 1), (320, 32), (5000, 500), (20001, 488)])
def test_a_tenth_is_left_out_and_of_many_at_most_five_hundred(n: int, count: int):
    assert len(left_out(n)) == count


def test_runs_of_other_images_are_refused(rigid: Path, tmp_path: Path):
    names = np.array(["0@a", "10@a"])
    with pytest.raises(InputError, match="not of the same images"):
        difference(HeldOut(names, np.zeros(2)), HeldOut(names[::-1], np.zeros(2)))
    for key, value, said in (
        ("n_particles", 70, "has 320 particles and .* has 70"),
        ("kmax", 4, "as finest frequency"),
        ("finished", False, "is not finished"),
    ):
        other = tmp_path / key
        shutil.copytree(rigid, other)
        directory = RunDirectory.open(other)
        directory.write_json("run.json", directory.read_json("run.json") | {key: value})
        with pytest.raises(InputError, match=said):
            check_comparable([rigid, other])
