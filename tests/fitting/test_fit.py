"""The main loop: stages, kept samples, resume after a kill, refusals."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hypermol.fitting.fit import fit
from hypermol.fitting.stages import Plan, default_schedule
from hypermol.io.errors import InputError
from hypermol.io.store import RunDirectory
from hypermol.molecule.gallery import pretzel
from hypermol.recipe.options import FitOptions
from hypermol.recipe.toml import read_recipe, write_recipe
from hypermol.simulation import MoleculeSource, Noise, Poses, Settings, simulate, write_dataset

OPTIONS = FitOptions(
    n_terms=2,
    radius_angstrom=110.0,
    resolution_angstrom=64.0,
    chains=2,
    burn_in=2,
    samples=2,
    checkpoint_every=2,
)


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data")
    settings = Settings(
        n=70,
        box=16,
        pixel_size_angstrom=20.0,
        poses=Poses(shift_sd_angstrom=10.0, rotation_error_deg=2.0, shift_error_px=0.3),
        noise=Noise(snr=0.5),
    )
    write_dataset(out, simulate(MoleculeSource(pretzel(110.0, arms=1)), settings))
    return out / "particles.star"


@pytest.fixture(scope="module")
def finished(particles: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return fit(particles, tmp_path_factory.mktemp("run") / "run", OPTIONS)


def test_run_is_described_and_samples_are_kept(finished: RunDirectory) -> None:
    info = finished.read_json("run.json")
    assert info["finished"] and info["n_particles"] == 70 and info["kmax"] == 5
    assert info["radius_angstrom"] == 110.0 and info["cpu_seconds"] > 0
    for chain in (0, 1):
        samples = list(finished.samples(chain))
        assert len(samples) == 2
        assert samples[0]["maps"].shape[0] == 2 and samples[0]["quaternion"].shape == (70, 4)
        assert all(np.isfinite(value).all() for sample in samples for value in sample.values())
    trace = finished.read_trace()
    total = sum(stage["sweeps"] for stage in info["stages"])
    assert [r["sweep"] for r in trace if r["chain"] == 0] == list(range(total))
    assert finished.has("halves.npz") and finished.has("recipe.toml")


def test_chains_share_the_gauge_and_then_part(finished: RunDirectory) -> None:
    first, second = (next(iter(finished.samples(chain))) for chain in (0, 1))
    assert not np.array_equal(first["maps"], second["maps"])
    shared = sum(s["sweeps"] for s in finished.read_json("run.json")["stages"][:2])
    assert min(r["sweep"] for r in finished.read_trace() if r["chain"] == 1) == shared


def _assert_same_samples(run: RunDirectory, other: RunDirectory) -> None:
    for chain in (0, 1):
        names = other.sample_names(chain)
        assert run.sample_names(chain) == names
        for name in names:
            expected, got = other.read_arrays(name), run.read_arrays(name)
            for key in expected:
                np.testing.assert_array_equal(got[key], expected[key], err_msg=f"{name} {key}")


def _command(particles: Path, out: Path, recipe: Path, *more: str) -> list[str]:
    fit_command = ["fit", str(particles), "--out", str(out), "--recipe", str(recipe), *more]
    return [sys.executable, "-m", "hypermol.cli.main", *fit_command]


def test_killed_and_resumed_run_is_bit_identical(
    particles: Path, finished: RunDirectory, tmp_path: Path
) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "run"
    write_recipe(recipe, OPTIONS)
    environment = {**os.environ, "HYPERMOL_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(
        _command(particles, out, recipe), env=environment, stdout=subprocess.DEVNULL
    )
    deadline = time.time() + 300
    while time.time() < deadline and process.poll() is None:
        trace = RunDirectory(out).read_trace()
        if any(r["chain"] == 0 and r["sweep"] >= 8 for r in trace):
            break
        time.sleep(0.05)
    assert process.poll() is None, "the run ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not RunDirectory(out).read_json("run.json")["finished"]
    subprocess.run(
        _command(particles, out, recipe, "--resume"),
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    _assert_same_samples(RunDirectory(out), finished)
    assert (out / "report.html").exists() and (out / "particles.star").exists()


def test_a_run_grows_to_what_a_longer_one_would_have_been(
    particles: Path, finished: RunDirectory, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    fit(particles, out, replace(OPTIONS, chains=1, samples=1))
    grown = fit(particles, out, OPTIONS, resume=True)
    _assert_same_samples(grown, finished)
    info = grown.read_json("run.json")
    assert info["finished"] and info["chains"] == 2
    assert info["stages"] == finished.read_json("run.json")["stages"]
    assert read_recipe(out / "recipe.toml") == OPTIONS
    with pytest.raises(InputError, match=r"asked for 2 samples, this call for 1: .* only grow"):
        fit(particles, out, replace(OPTIONS, samples=1), resume=True)


def test_refusals_name_the_remedy(particles: Path, finished: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="already holds a run: add --resume"):
        fit(particles, finished.path, OPTIONS)
    with pytest.raises(InputError, match=r"options of .* differ"):
        fit(particles, finished.path, replace(OPTIONS, seed=5), resume=True)
    with pytest.raises(InputError, match="holds no run"):
        fit(particles, tmp_path / "none", OPTIONS, resume=True)
    with pytest.raises(InputError, match="basis 'spline' is not known: use one of cosine"):
        fit(particles, tmp_path / "a", replace(OPTIONS, basis="spline"))
    with pytest.raises(InputError, match="poses 'search' is not known"):
        fit(particles, tmp_path / "b", replace(OPTIONS, poses="search"))
    with pytest.raises(InputError, match=r"resolution 10\.0 A does not fit a box of 16 px"):
        fit(particles, tmp_path / "c", replace(OPTIONS, resolution_angstrom=10.0))
    with pytest.raises(InputError, match="odd number"):
        fit(particles, tmp_path / "d", replace(OPTIONS, basis="fourier", n_terms=4))
    with pytest.raises(InputError, match="samples is 0: give at least 1"):
        fit(particles, tmp_path / "e", replace(OPTIONS, samples=0))


def test_inverted_contrast_is_refused(particles: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--invert-contrast"):
        fit(particles, tmp_path / "run", replace(OPTIONS, invert_contrast=True))


def test_rigid_and_fixed_poses(particles: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, basis="constant", n_terms=1, poses="fixed", chains=1)
    directory = fit(particles, tmp_path / "run", options)
    samples = list(directory.samples(0))
    assert samples[0]["state"].shape == (70, 0)
    np.testing.assert_array_equal(samples[0]["quaternion"], samples[1]["quaternion"])


def test_schedule_marches_and_keeps_only_the_last_stage() -> None:
    stages = default_schedule(Plan(kmax=30, n_terms=5, basis="cosine", samples=7, thin=3))
    assert [stage.kmax for stage in stages] == sorted(stage.kmax for stage in stages)
    assert [stage.burn_in for stage in stages] == [True] * (len(stages) - 1) + [False]
    assert stages[-1].sweeps == 21 and stages[-1].keep_every == 3
    still = default_schedule(Plan(kmax=30, n_terms=5, basis="fourier", move_poses=False))
    assert all(stage.candidates.rotations == 1 and not stage.learn_widths for stage in still)


def test_recipe_round_trip_and_unknown_keys(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    write_recipe(path, OPTIONS)
    assert read_recipe(path) == OPTIONS
    path.write_text('[model]\nbasis = "cosine"\nterms = 3\n')
    with pytest.raises(InputError, match=r"key in \[model\] 'terms' is not known: use one of"):
        read_recipe(path)
    path.write_text("[modle]\n")
    with pytest.raises(InputError, match="table 'modle' is not known"):
        read_recipe(path)
    path.write_text("[model\n")
    with pytest.raises(InputError, match="not valid TOML"):
        read_recipe(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(tmp_path / "absent.toml")


def test_several_knobs_begin_with_few_terms() -> None:
    one, two = (default_schedule(Plan(30, 5, "composite", n_knobs=n)) for n in (1, 2))
    assert [stage.n_terms for stage in one[2:]] == [5, 5, 5, 5]
    assert [stage.n_terms for stage in two[2:]] == [2, 3, 5, 5, 5, 5]
    assert two[2].kmax == two[3].kmax == two[4].kmax
    few = default_schedule(Plan(30, 3, "composite", n_knobs=2))
    assert [stage.n_terms for stage in few[2:]] == [2, 3, 3, 3, 3]
    classes = default_schedule(Plan(30, 5, "haar", n_knobs=2))
    assert {stage.n_terms for stage in classes[2:]} == {5}


def test_a_subspace_has_the_components_that_classes_span() -> None:
    for basis, terms, components in (("haar", 2, 2), ("onehot", 5, 4), ("hats", 8, 2)):
        stages = default_schedule(Plan(12, terms, basis))
        assert stages[1].basis == "subspace" and stages[1].n_terms == components + 1
        assert {stage.n_terms for stage in stages[2:]} == {terms}
