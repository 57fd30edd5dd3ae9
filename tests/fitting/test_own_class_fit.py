"""A molecule of the user's own goes through the same fit: march, resume, growth, half maps."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hypermol.analysis.run import load_run
from hypermol.analysis.summary import write_results
from hypermol.data.source import ParticleSource
from hypermol.fitting.fit import Progress, fit
from hypermol.io.errors import InputError
from hypermol.io.store import RunDirectory
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


class Interrupted(Exception):
    """In place of a power cut."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty images, and a module that no Python path leads to."""
    out = tmp_path_factory.mktemp("own")
    settings = Settings(n=40, box=16, pixel_size_angstrom=18.0, noise=Noise(0.5), seed=1)
    write_dataset(out / "data", simulate(MoleculeSource(pretzel(110.0, arms=1)), settings))
    (out / "own_blobs.py").write_text(MODULE)
    return out


@pytest.fixture(scope="module")
def source(folder: Path) -> ParticleSource:
    return ParticleSource(folder / "data" / "particles.star")


@pytest.fixture(scope="module")
def options(folder: Path) -> FitOptions:
    return FitOptions(
        type="own_blobs:blobs",
        arguments={"count": 4},
        folder=str(folder),
        resolution_angstrom=41.0,
        # the third parts from the first one's start
        chains=3,
        starts=2,
        burn_in=2,
        samples=2,
        thin=2,
        start_steps=8,
        checkpoint_every=1,
    )


@pytest.fixture(scope="module")
def run(folder: Path, source: ParticleSource, options: FitOptions) -> RunDirectory:
    """An undisturbed run."""
    return fit(source, folder / "run", options)


def assert_same_samples(run: RunDirectory, other: RunDirectory, chains: int = 3) -> None:
    for chain in range(chains):
        names = run.sample_names(chain)
        assert names == other.sample_names(chain)
        for name in names:
            one, two = run.read_arrays(name), other.read_arrays(name)
            assert all(np.array_equal(one[key], two[key]) for key in one)


def test_the_run_reads_as_any_other(run: RunDirectory) -> None:
    found = load_run(run.path)
    assert found.info["finished"] and found.info["state_names"] == ["bend"]
    assert found.maps.shape[:2] == (6, 17)
    assert found.stacked("motion.own.path").shape == (3, 2, 2, 4, 3)
    # image units: contrast 1 shows the maps as they are
    state = found.nodes(1)
    volume = found.to_box(np.tensordot(found.weights(state)[0], found.maps[0], axes=1))
    assert volume.std() > 0.0
    write_results(found)
    assert (run.path / "particles.star").exists() and (run.path / "fsc.csv").exists()


def test_it_marches_from_one_consensus_and_leaves_half_maps(run: RunDirectory) -> None:
    stages = run.read_json("run.json")["stages"]
    assert [s["name"] for s in stages] == [
        "consensus map", "start by Adam", "medium", "fine", "sampling"
    ]  # fmt: skip
    assert [s["kmax"] for s in stages] == sorted(s["kmax"] for s in stages)
    assert stages[0]["kmax"] < stages[-1]["kmax"]
    halves = run.read_arrays("halves.npz")
    assert halves["half1"].shape == halves["half2"].shape
    assert not np.array_equal(halves["half1"], halves["half2"])


@pytest.mark.slow
def test_interrupted_and_resumed_is_bit_identical(
    folder: Path, source: ParticleSource, options: FitOptions, run: RunDirectory
) -> None:
    out = folder / "resumed"
    for stage in ("start by Adam", "fine"):  # within a start, and within a chain

        def stop(progress: Progress, stage: str = stage) -> None:
            if progress.chain == 0 and progress.stage.name == stage and progress.sweep % 2:
                raise Interrupted

        with pytest.raises(Interrupted):
            fit(source, out, options, stop, resume=out.exists())
    again = fit(source, out, options, resume=True)
    assert_same_samples(run, again)
    first, second = (
        [json.loads(line) for line in (r.path / "trace.jsonl").read_text().splitlines()]
        for r in (run, again)
    )
    assert [{**r, "seconds": 0} for r in first] == [{**r, "seconds": 0} for r in second]


def test_what_does_not_go_together_is_refused(
    folder: Path, source: ParticleSource, options: FitOptions
) -> None:
    density_prior = {"adjacent_states": {"weight": 1.0}}
    with pytest.raises(InputError, match=r"prior\.adjacent_states .* log_prior of own_blobs"):
        fit(source, folder / "no", replace(options, density_prior=density_prior))
    with pytest.raises(InputError, match=r"sampling\.theta is 'exact' but own_blobs:blobs is not"):
        fit(source, folder / "no", replace(options, theta="exact"))
    with pytest.raises(InputError, match="'second-mode' but own_blobs:blobs is not linear"):
        fit(source, folder / "no", replace(options, schedule="second-mode"))
    assert not (folder / "no").exists()
