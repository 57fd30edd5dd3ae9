"""A search from nothing through `fit`: no pose is read, the best trial goes on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import starfile

from hypermol.analysis.run import load_run
from hypermol.data.source import ParticleSource
from hypermol.fitting import fit as fit_module
from hypermol.fitting import schedules, stages
from hypermol.fitting.fit import Progress, fit
from hypermol.fitting.found import load_found
from hypermol.io.errors import InputError
from hypermol.molecule.gallery import pretzel
from hypermol.recipe.options import FitOptions
from hypermol.report import write_report
from hypermol.simulation import MoleculeSource, Noise, Poses, Settings, simulate, write_dataset

OPTIONS = FitOptions(
    n_terms=1, poses="search", trials=2, chains=2, burn_in=2, samples=1, checkpoint_every=1
)
POSES = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst"]


def write_particles(folder: Path, n: int, snr: float) -> Path:
    """Images of a pretzel whose STAR file has no poses; the truth is beside it."""
    settings = Settings(
        n=n,
        box=24,
        pixel_size_angstrom=8.0,
        noise=Noise(snr=snr),
        poses=Poses(shift_sd_angstrom=4.0),
    )
    write_dataset(folder, simulate(MoleculeSource(pretzel(60.0)), settings))
    path = folder / "particles.star"
    blocks = starfile.read(path, always_dict=True)
    blocks["particles"] = blocks["particles"].drop(columns=POSES)
    starfile.write(blocks, path, overwrite=True)
    return path


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_particles(tmp_path_factory.mktemp("data") / "set", 64, 0.5)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (schedules, stages):
        monkeypatch.setattr(module, "SEARCH_LEVELS", (4, 5))
    monkeypatch.setattr(schedules, "_SEARCH_SWEEPS", (2, 2))


class Stopped(Exception):
    """Somebody pulled the plug."""


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_the_best_trial_goes_on_and_the_report_says_what_was_done(
    particles: Path, tmp_path: Path
) -> None:
    whole = fit(ParticleSource(particles), tmp_path / "whole", replace(OPTIONS, chains=1))
    found = load_found(whole)
    assert found.trial_scores is not None and len(set(found.trial_scores)) == 2
    assert found.trial == int(np.argmax(found.trial_scores))
    run = load_run(whole.path)
    assert run.stacked("quaternion").shape == (1, 1, 64, 4)
    page = write_report(run).read_text()
    assert "found from nothing" in page and "no input poses to compare" in page
    assert '<section id="search">' in page and "log-likelihood of an image held out" in page


@pytest.mark.slow
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("moment", ["in the second trial", "while choosing"])
def test_a_stopped_run_ends_the_same(
    particles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def stop(at: Progress) -> None:
        if moment == "in the second trial" and at.stage.name == "search, 5 waves" and at.chain == 1:
            raise Stopped

    whole = fit(ParticleSource(particles), tmp_path / "whole", OPTIONS)
    out = tmp_path / "stopped"
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        if moment == "while choosing":
            patch.setattr(fit_module, "trial_score", lambda *given: stop_now())
        fit(ParticleSource(particles), out, OPTIONS, stop)
    resumed = fit(ParticleSource(particles), out, OPTIONS, resume=True)
    for name in whole.sample_names(0) + whole.sample_names(1):
        one, other = whole.read_arrays(name), resumed.read_arrays(name)
        assert all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_particles_that_a_search_did_not_begin_with_are_placed(tmp_path: Path) -> None:
    particles = write_particles(tmp_path / "many", 200, 0.5)
    options = replace(OPTIONS, subset=100, trials=1, chains=1)
    run = load_run(fit(ParticleSource(particles), tmp_path / "run", options).path)
    trace = run.directory.read_trace()
    assert "placing the others" in {line["stage"] for line in trace}
    contrast = run.stacked("contrast")
    assert contrast.shape == (1, 1, 200) and np.all(contrast != 0.0)
    turned = run.stacked("quaternion")[0, 0, :, 0]
    assert len(np.unique(turned)) > 190  # not left at the input's


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_a_molecule_of_copies_is_turned_to_its_axes(particles: Path, tmp_path: Path) -> None:
    ball = {"radius_angstrom": 80.0}
    arm = {"name": "arm", "region": ball, "state_basis": "cosine", "n_terms": 2, "symmetry": "C2"}
    options = replace(OPTIONS, n_terms=None, part=(arm,), trials=1, chains=1)
    run = fit(ParticleSource(particles), tmp_path / "run", options)
    found = load_found(run).point_groups
    assert found is not None and [standing["group"] for standing in found] == ["C2"]
    page = write_report(load_run(run.path)).read_text()
    assert "agreement of copies" in page


def stop_now() -> float:
    raise Stopped


def test_what_a_search_does_not_go_with_is_refused(particles: Path, tmp_path: Path) -> None:
    ball = {"centre_angstrom": [0.0, 9.0, 0.0], "radius_angstrom": 60.0}
    with pytest.raises(InputError, match="the model has parts that stand somewhere, in a frame"):
        parts = ({"name": "body", "region": ball},)
        options = replace(OPTIONS, n_terms=None, part=parts)
        fit(ParticleSource(particles), tmp_path / "run", options)
    with pytest.raises(InputError, match="rlnAngle"):
        fit(ParticleSource(particles), tmp_path / "run", replace(OPTIONS, poses="refine"))
