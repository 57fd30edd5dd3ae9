import json
import os
from pathlib import Path

import mrcfile
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
from hypermol.analysis.summary import Selection, write_particles, write_results
from hypermol.data.source import load_particles
from hypermol.io.errors import InputError
from hypermol.io.mrc import read_volume, write_stack
from hypermol.space.rotation import angle_between
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


@pytest.mark.parametrize("change", ["reordered", "cut", "deleted", "of other particles"])
def test_what_becomes_of_the_particle_file_does_no_harm(tmp_path, change):
    """Rows are joined with samples by the run's own copy: the same images keep the same states."""
    run = load_run(write_run(tmp_path / "run", random_run()))
    write_results(run)
    before = (run.directory.path / "particles.star").read_text()
    file = Path(run.info["particles"])
    tables = starfile.read(file, always_dict=True)
    if change == "reordered":
        tables["particles"] = tables["particles"].iloc[::-1]
    elif change == "cut":
        tables["particles"] = tables["particles"].iloc[2:]
    elif change == "of other particles":
        tables["particles"]["rlnImageName"] = "1@other.mrcs"
    starfile.write(tables, file, overwrite=True)
    if change == "deleted":
        file.unlink()
    write_results(load_run(run.directory.path))
    assert (run.directory.path / "particles.star").read_text() == before


def test_particles_of_another_run_are_refused(tmp_path):
    run = load_run(write_run(tmp_path / "run", random_run()))
    run.info["n_particles"] = 6
    with pytest.raises(InputError, match=r"input\.npz has 7 particles but the run has 6"):
        write_results(run)
    (tmp_path / "run" / "input.npz").unlink()
    with pytest.raises(InputError, match=r"has no input\.npz.*fit --resume"):
        write_results(run)


def test_stacks_that_went_are_not_named(tmp_path):
    """Nor is a stack of the same name in a folder above taken for them."""
    run = load_run(write_run(tmp_path / "run", random_run()))
    stack = tmp_path / "input" / "particles.mrcs"
    (tmp_path / "now").mkdir()
    stack.rename(tmp_path / "now" / "particles.mrcs")
    write_stack(tmp_path / "particles.mrcs", np.ones((7, 2, 2)), PIXEL_SIZE)
    with pytest.raises(InputError, match=r"input/particles\.mrcs is not there any more"):
        write_results(run)
    out = write_particles(run, tmp_path / "a.star", Selection(image_dir=tmp_path / "now"))
    names = starfile.read(out)["particles"]["rlnImageName"]
    assert names[0] == f"000001@{tmp_path}/now/particles.mrcs"


def test_cryosparc_in_means_relion_and_cryosparc_out(tmp_path):
    """A stack called .mrc with dark particles: a link called .mrcs, a CTF of the other sign."""
    (tmp_path / "P1" / "J1").mkdir(parents=True)
    stack = np.random.default_rng(0).normal(size=(7, 4, 4)).astype(np.float32)
    write_stack(tmp_path / "P1" / "J1" / "a.mrc", stack, PIXEL_SIZE)
    fields = [
        ("uid", "u8"),
        ("blob/path", "S9"),
        ("blob/idx", "u4"),
        ("blob/shape", "u4", (2,)),
        ("blob/psize_A", "f4"),
        ("blob/sign", "f4"),
        *((f"ctf/{name}", "f4") for name in ("accel_kv", "cs_mm", "amp_contrast", "df1_A")),
        ("alignments3D/pose", "f4", (3,)),
        ("alignments3D/shift", "f4", (2,)),
    ]
    rows = np.zeros(7, fields)
    rows["uid"], rows["blob/path"], rows["blob/idx"] = 100 + np.arange(7), b">J1/a.mrc", range(7)
    rows["blob/psize_A"], rows["blob/sign"], rows["blob/shape"] = PIXEL_SIZE, -1, 4
    rows["ctf/accel_kv"], rows["ctf/amp_contrast"], rows["ctf/df1_A"] = 300, 0.1, 15000
    with open(tmp_path / "P1" / "particles.cs", "wb") as file:
        np.save(file, rows)
    path = write_run(tmp_path / "run", random_run(), tmp_path / "P1" / "particles.cs")
    (tmp_path / "P1" / "particles.cs").unlink()
    run = load_run(path)
    write_results(run)
    table = starfile.read(path / "particles.star")["particles"]
    number, _, name = table["rlnImageName"][4].partition("@")
    assert name.endswith(".mrcs") and os.path.isabs(name)
    assert np.array_equal(mrcfile.read(name)[int(number) - 1], stack[4])
    assert table["rlnPhaseShift"].tolist() == [180.0] * 7
    assert table["cryosparcUid"].tolist() == rows["uid"].tolist()
    summary = summarise_particles(run)
    for found in (path / "particles.star", path / "particles.cs"):
        again = load_particles(found, image_dir=tmp_path / "P1").metadata
        assert np.allclose(again.rotations, summary.rotations, atol=1e-5)
        assert np.allclose(again.shifts_angstrom, summary.shift_px * PIXEL_SIZE, atol=1e-5)
    written = np.load(path / "particles.cs")
    assert written.dtype == rows.dtype and np.array_equal(written["uid"], rows["uid"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize(
    "name",
    [
        "particles.star",
        "occupancy.csv",
        "fsc.csv",
        "diagnostics.json",
        "posterior.nc",
        "volumes/states.csv",
        "volumes/state_003_sd.mrc",
    ],
)
def test_a_full_disk_leaves_no_half_result(tmp_path, name):
    path = write_run(tmp_path / "run", random_run())
    (path / "volumes").mkdir()
    (path / (name + ".part")).symlink_to("/dev/full")
    with pytest.raises(InputError, match=rf"{Path(name).name} cannot be written, because the disk"):
        write_results(load_run(path))
    assert not (path / name).exists() and not list(path.rglob("*.part"))


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
def test_arviz_opens_the_posterior(tmp_path, arviz):
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


def test_a_particle_in_two_places_is_told_by_the_one_it_is_in_most(tmp_path):
    """Three of ten draws of particle 0 are half a turn away, with another shift and state."""
    fake = random_run()
    whole = summarise_particles(load_run(write_run(tmp_path / "one", fake)))
    away = [(0, 1), (0, 4), (1, 2)]
    for chain, draw in away:
        fake.rotations[chain, draw, 0] = fake.rotations[chain, draw, 0] @ np.diag([-1.0, -1.0, 1.0])
        fake.shift_px[chain, draw, 0] += 3.0
        fake.state[chain, draw, 0] = 0.99
    found = summarise_particles(load_run(write_run(tmp_path / "two", fake)))
    kept = np.ones((2, 5), bool)
    kept[tuple(np.transpose(away))] = False
    assert found.pose_share[0] == pytest.approx(0.7) and np.all(found.pose_share[1:] == 1.0)
    assert np.allclose(found.shift_px[0], fake.shift_px[kept][:, 0].mean(axis=0), atol=1e-5)
    assert np.allclose(found.state[0], fake.state[kept][:, 0].mean(axis=0), atol=1e-5)
    assert angle_between(found.rotations[:1], whole.rotations[:1])[0] < 3.0
    assert found.pose_sd_deg[0] > 60.0 and found.shift_sd_px[0] > 1.0
    assert np.allclose(found.rotations[1:], whole.rotations[1:])
    assert np.allclose(found.state_sd[1:], whole.state_sd[1:], atol=1e-6)
