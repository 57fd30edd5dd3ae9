"""A molecule of the user's own, from particles to a run directory."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypermol.fitting.blackbox_fit import fit_black_box_run
from hypermol.fitting.blackbox_start import ROUNDS

from hypermol.analysis.run import load_run
from hypermol.analysis.summary import write_results
from hypermol.fitting.fit import fit
from hypermol.io.errors import InputError
from hypermol.molecule.gallery import pretzel
from hypermol.recipe.options import FitOptions
from hypermol.simulation import MoleculeSource, Noise, Settings, simulate, write_dataset

MODULE = """
from hypermol.molecule.moving_gaussians import random_gaussians
from hypermol.molecule.state_basis import Cosine
from hypermol.space.state_space import Interval

def blobs(count):
    return random_gaussians(Interval("bend"), Cosine(2), count, 90.0, 25.0)
"""
OPTIONS = FitOptions(
    type="own_blobs:blobs",
    arguments={"count": 4},
    resolution_angstrom=60.0,
    chains=2,
    burn_in=2,
    samples=2,
    thin=2,
    start_steps=8,
    checkpoint_every=1,
)


class Interrupted(Exception):
    """In place of a power cut."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty images, and a module that no Python path leads to."""
    out = tmp_path_factory.mktemp("own")
    settings = Settings(n=40, box=16, pixel_size_angstrom=18.0, noise=Noise(0.5), seed=1)
    write_dataset(out / "data", simulate(MoleculeSource(pretzel(110.0, arms=1)), settings))
    (out / "own_blobs.py").write_text(MODULE)
    return out


@pytest.fixture(scope="module")
def run(folder):
    """An undisturbed run."""
    particles = folder / "data" / "particles.star"
    return fit_black_box_run(particles, folder / "run", OPTIONS, beside=folder)


def test_the_run_reads_as_any_other(folder, run):
    found = load_run(run.path)
    assert found.info["finished"] and found.info["state_names"] == ["bend"]
    assert found.maps.shape[:2] == (4, 17)
    assert found.stacked("motion.own.path").shape == (2, 2, 2, 4, 3)
    # image units: contrast 1 shows the maps as they are
    state = found.nodes(1)
    volume = found.to_box(np.tensordot(found.weights(state)[0], found.maps[0], axes=1))
    assert volume.std() > 0.0
    write_results(found)
    assert (run.path / "particles.star").exists()


def test_interrupted_and_resumed_is_bit_identical(folder, run):
    particles, out = folder / "data" / "particles.star", folder / "resumed"

    def stop(progress):
        if progress.chain == 0 and progress.sweep == ROUNDS + 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        fit_black_box_run(particles, out, OPTIONS, stop, beside=folder)
    again = fit_black_box_run(particles, out, OPTIONS, resume=True)
    for chain in range(2):
        names = run.sample_names(chain)
        assert names == again.sample_names(chain) and len(names) == 2
        for name in names:
            one, two = run.read_arrays(name), again.read_arrays(name)
            assert all(np.array_equal(one[key], two[key]) for key in one)
    first, second = ((r.path / "trace.jsonl").read_text().splitlines() for r in (run, again))
    strip = [[{**json.loads(line), "seconds": 0} for line in lines] for lines in (first, second)]
    assert strip[0] == strip[1]


def test_a_run_grows_to_what_a_longer_one_would_have_been(folder, run):
    particles, out = folder / "data" / "particles.star", folder / "grown"
    short = replace(OPTIONS, chains=1, samples=1)
    fit_black_box_run(particles, out, short, beside=folder)
    grown = fit_black_box_run(particles, out, OPTIONS, resume=True)
    for chain in range(2):
        names = run.sample_names(chain)
        assert names == grown.sample_names(chain)
        for name in names:
            one, two = run.read_arrays(name), grown.read_arrays(name)
            assert all(np.array_equal(one[key], two[key]) for key in one)


def test_density_priors_are_the_molecules_own(folder):
    options = replace(OPTIONS, density_prior={"adjacent_states": {"weight": 1.0}})
    with pytest.raises(InputError, match=r"prior\.adjacent_states .* log_prior of own_blobs"):
        fit_black_box_run(folder / "data" / "particles.star", folder / "no", options, beside=folder)


def test_the_other_job_says_where_to_go(folder):
    with pytest.raises(InputError, match="fit_black_box_run"):
        fit(folder / "data" / "particles.star", folder / "none", OPTIONS)
