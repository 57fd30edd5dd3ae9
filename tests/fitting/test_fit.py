"""The main loop: stages, kept samples, resume after a kill, refusals."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hypermol.data.source import ParticleSource
from hypermol.fitting import fit as fit_module
from hypermol.fitting import maps
from hypermol.fitting.fit import fit
from hypermol.fitting.found import load_found
from hypermol.io.errors import InputError
from hypermol.io.store import RunDirectory
from hypermol.recipe.options import FitOptions
from hypermol.recipe.toml import read_recipe, write_recipe
from small_data import write_pretzel

OPTIONS = FitOptions(
    n_terms=3,
    radius_angstrom=110.0,
    resolution_angstrom=64.0,
    chains=2,
    burn_in=2,
    samples=2,
    checkpoint_every=2,
)


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pretzel(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(particles: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return fit(ParticleSource(particles), tmp_path_factory.mktemp("run") / "run", OPTIONS)


def test_run_is_described_and_samples_are_kept(finished: RunDirectory) -> None:
    info = finished.read_json("run.json")
    assert info["finished"] and info["n_particles"] == 70 and info["kmax"] == 5
    assert info["radius_angstrom"] == 110.0 and info["cpu_seconds"] > 0
    for chain in (0, 1):
        samples = list(finished.samples(chain))
        assert len(samples) == 2
        assert samples[0]["maps"].shape[0] == 3 and samples[0]["quaternion"].shape == (70, 4)
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


@pytest.mark.slow
def test_a_run_grows_to_what_a_longer_one_would_have_been(
    particles: Path, finished: RunDirectory, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    fit(ParticleSource(particles), out, replace(OPTIONS, samples=1))
    grown = fit(ParticleSource(particles), out, OPTIONS, resume=True)
    _assert_same_samples(grown, finished)
    info = grown.read_json("run.json")
    assert info["finished"] and info["stages"] == finished.read_json("run.json")["stages"]
    assert read_recipe(out / "recipe.toml") == OPTIONS
    with pytest.raises(InputError, match=r"asked for 2 samples, this call for 1: .* only grow"):
        fit(ParticleSource(particles), out, replace(OPTIONS, samples=1), resume=True)
    # chains that come later sample the posterior that the first ones did
    more = fit(ParticleSource(particles), out, replace(OPTIONS, chains=3), resume=True)
    _assert_same_samples(more, finished)
    spectra = [s["spectrum"] for chain in range(3) for s in more.samples(chain)]
    assert len(spectra) == 6 and all(np.array_equal(s, spectra[0]) for s in spectra)


def test_chains_of_one_run_have_one_spectrum(finished: RunDirectory) -> None:
    """Each chain's own would make each sample a posterior of its own."""
    spectra = [s["spectrum"] for chain in (0, 1) for s in finished.samples(chain)]
    assert all(np.array_equal(spectrum, spectra[0]) for spectrum in spectra)


def test_a_run_of_another_version_is_refused(
    particles: Path, finished: RunDirectory, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(finished.path, old)
    info = finished.read_json("run.json")
    del info["source"]
    info["versions"]["hypermol"] = "0.0.9"
    RunDirectory(old).write_json("run.json", info)
    with pytest.raises(InputError, match=r"another version of hypermol \(0\.0\.9\).*another --out"):
        fit(ParticleSource(particles), old, OPTIONS, resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["support_radius_angstrom", "write_half_maps"])
def test_killed_at_the_end_of_a_stage_nothing_of_it_is_lost(
    particles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What a stage leaves beside its checkpoint is made again if the checkpoint was not written."""
    options = replace(OPTIONS, chains=1, samples=1, radius_angstrom=None, checkpoint_every=1)

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(maps, name, killed)
        with pytest.raises(KeyboardInterrupt):
            fit(ParticleSource(particles), tmp_path / "run", options)
    run = fit(ParticleSource(particles), tmp_path / "run", options, resume=True)
    assert run.read_json("run.json")["radius_angstrom"] is not None
    assert run.has("halves.npz") and len(run.sample_names(0)) == 1


@pytest.mark.slow
def test_independent_starts_do_not_share_their_first_stages(
    particles: Path, tmp_path: Path
) -> None:
    options = replace(OPTIONS, starts=2, samples=1)
    run = fit(ParticleSource(particles), tmp_path / "run", options)
    trace = run.read_trace()
    for chain in (0, 1):
        assert min(r["sweep"] for r in trace if r["chain"] == chain) == 0
    first, second = (next(iter(run.samples(chain))) for chain in (0, 1))
    assert not np.array_equal(first["maps"], second["maps"])
    assert run.has("checkpoints/start01.npz")


@pytest.mark.slow
@pytest.mark.parametrize("poses", ["refine", "search"])
@pytest.mark.parametrize("schedule", ["paper", "second-mode"])
def test_the_papers_schedules_run_and_keep_exact_sweeps_alone(
    particles: Path, tmp_path: Path, schedule: str, poses: str
) -> None:
    options = replace(OPTIONS, schedule=schedule, poses=poses, chains=1, spectrum="flat", trials=2)
    run = fit(ParticleSource(particles), tmp_path / "run", options)
    sample = next(iter(run.samples(0)))
    # a loose L2 prior: one precision for all shells of a term
    np.testing.assert_allclose(sample["spectrum"], sample["spectrum"][:, :1].repeat(
        sample["spectrum"].shape[1], axis=1), rtol=1e-5)  # fmt: skip
    kept = [r for r in run.read_trace() if r["kept"]]
    assert {r["stage"] for r in kept} == {"sampling"} and len(kept) == 2
    assert all("accepted_molecule" in r and "moved_rotation" in r for r in kept)
    stages = run.read_json("run.json")["stages"]
    assert [s["kmax"] for s in stages] == sorted(s["kmax"] for s in stages)
    assert stages[-1]["theta"] == "mala" and stages[-1]["particles"] == "random-walk"
    if poses == "search":
        assert len(load_found(run).trial_scores or ()) == 2
        turned = sample["quaternion"][:, 0]
        assert len(np.unique(turned)) > 60  # not left at one direction


def test_the_first_number_that_is_none_ends_a_run(
    particles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_right = fit_module.run_sweep

    def broken(key, blocks, state, tunings, data):
        state, infos = run_right(key, blocks, state, tunings, data)
        spoilt = state.latents._replace(contrast=state.latents.contrast * np.nan)
        return state._replace(latents=spoilt), infos

    monkeypatch.setattr(fit_module, "run_sweep", broken)
    with pytest.raises(InputError, match=r"latents\.contrast is not finite after sweep 1 "):
        fit(ParticleSource(particles), tmp_path / "run", OPTIONS)


def test_refusals_name_the_remedy(particles: Path, finished: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="already holds a run: add --resume"):
        # told before any particle is read
        fit(ParticleSource(tmp_path / "missing.star"), finished.path, OPTIONS)
    with pytest.raises(InputError, match=r"options of .* differ"):
        fit(ParticleSource(particles), finished.path, replace(OPTIONS, seed=5), resume=True)
    with pytest.raises(InputError, match="holds no run"):
        fit(ParticleSource(particles), tmp_path / "none", OPTIONS, resume=True)
    with pytest.raises(InputError, match="basis 'spline' is not known: use one of cosine"):
        fit(ParticleSource(particles), tmp_path / "a", replace(OPTIONS, basis="spline"))
    with pytest.raises(InputError, match="poses 'guess' is not known"):
        fit(ParticleSource(particles), tmp_path / "b", replace(OPTIONS, poses="guess"))
    with pytest.raises(InputError, match=r"resolution 10\.0 A does not fit a box of 16 px"):
        fit(ParticleSource(particles), tmp_path / "c", replace(OPTIONS, resolution_angstrom=10.0))
    with pytest.raises(InputError, match="odd number"):
        fit(ParticleSource(particles), tmp_path / "d", replace(OPTIONS, basis="fourier", n_terms=4))
    with pytest.raises(InputError, match="samples is 0: give at least 1"):
        fit(ParticleSource(particles), tmp_path / "e", replace(OPTIONS, samples=0))


def test_inverted_contrast_is_refused(particles: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--invert-contrast"):
        fit(ParticleSource(particles), tmp_path / "run", replace(OPTIONS, invert_contrast=True))


def test_rigid_and_fixed_poses(particles: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, basis="constant", n_terms=1, poses="fixed", chains=1)
    directory = fit(ParticleSource(particles), tmp_path / "run", options)
    samples = list(directory.samples(0))
    assert samples[0]["state"].shape == (70, 0)
    np.testing.assert_array_equal(samples[0]["quaternion"], samples[1]["quaternion"])


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
