import json

import arviz
import numpy as np
import pandas as pd
import pytest
import starfile
from scipy.spatial.transform import Rotation

from hypermol.analysis.arviz_store import write_posterior_nc
from hypermol.analysis.convergence import diagnose
from hypermol.analysis.coverage import mean_rotation
from hypermol.analysis.diagnostics import bulk_ess, split_rhat, tail_ess
from hypermol.analysis.functionals import density_functionals
from hypermol.analysis.particle_summary import summarise_particles
from hypermol.analysis.run import load_run
from hypermol.analysis.summary import write_results
from hypermol.data.particles import load_particles
from hypermol.io.errors import InputError
from hypermol.io.mrc import read_volume
from runs import PIXEL_SIZE, random_run, write_run


def test_particle_means_by_hand(tmp_path):
    fake = random_run()
    got = summarise_particles(load_run(write_run(tmp_path / "run", fake)))
    draws = fake.rotations.reshape(10, 7, 3, 3)
    mean = mean_rotation(draws)
    assert np.allclose(got.rotations, mean, atol=1e-6)
    angles = Rotation.from_matrix((draws @ mean.swapaxes(-1, -2)).reshape(-1, 3, 3)).magnitude()
    rms = np.degrees(np.sqrt((angles.reshape(10, 7) ** 2).mean(axis=0)))
    assert np.allclose(got.pose_sd_deg, rms, rtol=1e-3)
    shifts, states = fake.shift_px.reshape(10, 7, 2), fake.state.reshape(10, 7)
    assert np.allclose(got.shift_px, shifts.mean(axis=0), atol=1e-6)
    variance = shifts.var(axis=0, ddof=1).mean(axis=-1)
    assert np.allclose(got.shift_sd_px, np.sqrt(variance), atol=1e-6)
    assert np.allclose(got.state[:, 0], states.mean(axis=0), atol=1e-6)
    assert np.allclose(got.state_sd[:, 0], states.std(axis=0, ddof=1), atol=1e-6)
    assert np.allclose(got.contrast, fake.contrast.reshape(10, 7).mean(axis=0), atol=1e-6)


def test_circular_state_means(tmp_path):
    fake = random_run(state_space="circle", chains=1, draws=40)
    around = np.random.default_rng(3).normal(0, 0.05, (1, 40, 7, 1))
    fake.state = np.mod(0.99 + around, 1.0)
    got = summarise_particles(load_run(write_run(tmp_path / "run", fake)))
    middle = around[0, :, :, 0].mean(axis=0) + 0.99
    assert np.allclose(np.mod(got.state[:, 0] - middle + 0.5, 1), 0.5, atol=1e-3)
    assert np.allclose(got.state_sd[:, 0], around[0, :, :, 0].std(axis=0), rtol=0.05)


@pytest.mark.parametrize("state_space", ["interval", "circle", "point"])
def test_every_file_is_written(tmp_path, state_space):
    path = write_run(tmp_path / "run", random_run(state_space=state_space))
    written = write_results(load_run(path))
    assert all(file.exists() for file in written) and not list(path.rglob("*.part"))
    n_states = 1 if state_space == "point" else 10
    states = pd.read_csv(path / "volumes" / "states.csv")
    assert len(states) == n_states and (states.n_samples == 10).all()
    volume = read_volume(path / "volumes" / states["sd"].iloc[-1])
    assert volume.voxel_size_angstrom == pytest.approx(PIXEL_SIZE)
    assert volume.data.shape == (16, 16, 16) and volume.data.min() > 0
    assert (path / "occupancy.csv").exists() == (state_space != "point")
    curves = pd.read_csv(path / "fsc.csv", comment="#")
    assert curves.shape == (9, 3 + n_states) and (curves["mean"][0] == 1)
    assert "not gold-standard" in (path / "fsc.csv").read_text().splitlines()[0]
    columns = starfile.read(path / "particles.star")["particles"].columns
    assert ("hypermolStateMean" in columns) == (state_space != "point")


def test_particles_star_round_trip(tmp_path):
    fake = random_run()
    path = write_run(tmp_path / "run", fake)
    run = load_run(path)
    write_results(run)
    summary = summarise_particles(run)
    before, after = (
        load_particles(p).metadata for p in (run.info["particles"], path / "particles.star")
    )
    assert np.allclose(after.rotations, summary.rotations, atol=1e-6)
    assert np.allclose(after.shifts_angstrom, summary.shift_px * PIXEL_SIZE, atol=1e-5)
    assert np.array_equal(before.stack_paths, after.stack_paths)
    rows, old = (m.table["particles"] for m in (after, before))
    kept = [c for c in old.columns if "Angle" not in c and "Origin" not in c and "Image" not in c]
    assert rows[kept].equals(old[kept])
    assert np.allclose(rows["hypermolStateMean"].astype(float), summary.state[:, 0], atol=1e-6)
    angstrom = rows["hypermolShiftSdAngst"].astype(float)
    assert np.allclose(angstrom, summary.shift_sd_px * PIXEL_SIZE, atol=1e-5)


def test_occupancy_by_hand(tmp_path):
    fake = random_run()
    path = write_run(tmp_path / "run", fake)
    write_results(load_run(path))
    table = pd.read_csv(path / "occupancy.csv")
    density = 4 * fake.occupancy.reshape(10, 4)
    assert np.allclose(table["model_mean"], density.mean(axis=0), atol=1e-5)
    assert np.allclose(table["model_lower_90"], np.quantile(density, 0.05, axis=0), atol=1e-5)
    counts = [np.histogram(s, 4, (0, 1))[0] for s in fake.state.reshape(10, 7)]
    assert np.allclose(table["particles_mean"], 4 * np.mean(counts, axis=0) / 7, atol=1e-5)


def test_particle_file_that_has_changed(tmp_path):
    fake = random_run()
    path = write_run(tmp_path / "run", fake)
    run = load_run(path)
    run.info["n_particles"] = 6
    with pytest.raises(InputError, match="has 7 particles but"):
        write_results(run)


def test_diagnostics_are_those_of_the_draws(tmp_path):
    fake = random_run(chains=2, draws=12)
    run = load_run(write_run(tmp_path / "run", fake))
    report = diagnose(run)
    json.dumps(report, allow_nan=False)
    states = report["quantities"]["particle_state"]
    assert states["rhat_worst"] == pytest.approx(split_rhat(fake.state).max(), rel=1e-4)
    assert states["bulk_ess_worst"] == pytest.approx(bulk_ess(fake.state).min(), rel=1e-4)
    assert states["tail_ess_worst"] == pytest.approx(tail_ess(fake.state).min(), rel=1e-4)
    assert report["worst"]["tail_ess"] <= states["tail_ess_worst"]
    assert report["quantities"]["density_functional"]["n"] == 50
    assert report["n_samples"] == 24 and report["worst"]["rhat"] >= states["rhat_worst"]
    few = diagnose(load_run(write_run(tmp_path / "few", random_run(draws=2))))
    assert few["worst"]["rhat"] is None and "fewer than 4" in few["remark"]


def test_functionals_are_linear_in_the_maps(tmp_path):
    fake = random_run(draws=4)
    first = density_functionals(load_run(write_run(tmp_path / "a", fake))).values
    fake.maps *= 2
    second = density_functionals(load_run(write_run(tmp_path / "b", fake))).values
    assert first.shape == (2, 4, 50) and np.allclose(second, 2 * first, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_arviz_opens_the_posterior(tmp_path):
    fake = random_run(draws=12)
    path = write_run(tmp_path / "run", fake)
    data = arviz.from_netcdf(write_posterior_nc(load_run(path)))
    posterior = data.posterior
    assert posterior["state"].dims == ("chain", "draw", "particle")
    assert posterior["quaternion"].dims == ("chain", "draw", "particle", "component")
    assert list(posterior["component"].values) == list("wxyz")
    assert np.allclose(posterior["state"], fake.state[..., 0], atol=1e-6)
    rhat = arviz.rhat(data, var_names=["state", "density_functional"])
    # the folded statistic of the two middle draws is a tie, which rounding breaks
    assert np.allclose(rhat["state"], split_rhat(fake.state[..., 0]), rtol=0.02)
    assert data.sample_stats["log_likelihood"].values[1].tolist() == [-100.0 + d for d in range(12)]
    assert json.loads(posterior.attrs["run"])["state_name"] == "arm"
    assert data.constant_data["functional_state"].shape == (50,)
