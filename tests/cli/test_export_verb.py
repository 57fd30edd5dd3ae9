from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from PIL import Image
from typer.testing import CliRunner

from hypermol.analysis.particle_summary import summarise_particles
from hypermol.analysis.run import load_run
from hypermol.analysis.volumes import sample_volumes, state_volumes
from hypermol.cli.main import app
from hypermol.data.source import load_particles
from hypermol.io.mrc import read_volume
from hypermol.io.run_input import keep_input, kept_input
from hypermol.io.store import RunDirectory
from knob_runs import MIXED, product_run
from runs import PIXEL_SIZE, random_run, write_run

POSE = (("pose", 3), ("shift", 2))


def export(*arguments: str | Path) -> object:
    return CliRunner().invoke(app, ["export", *(str(a) for a in arguments)])


@pytest.fixture
def path(tmp_path) -> Path:
    return write_run(tmp_path / "run", random_run())


def test_mean_and_sd_at_a_state(path):
    result = export(path, "--at", "arm=0.3")
    assert result.exit_code == 0, result.output
    volumes = state_volumes(load_run(path), np.array([[0.3]]))
    mean = read_volume(path / "export" / "arm_0.300_mean.mrc")
    sd = read_volume(path / "export" / "arm_0.300_sd.mrc")
    assert mean.voxel_size_angstrom == pytest.approx(PIXEL_SIZE)
    assert np.allclose(mean.data, volumes.mean[0]) and np.allclose(sd.data, volumes.sd[0])


def test_one_sample(path, tmp_path):
    result = export(path, "--at", "0.3", "--sample", "6", "--out", tmp_path / "o")
    assert result.exit_code == 0, result.output
    written = read_volume(tmp_path / "o" / "arm_0.300_sample_0006.mrc").data
    assert np.allclose(written, sample_volumes(load_run(path), np.array([[0.3]]), 6)[0])


@pytest.mark.parametrize(
    ("space", "last"), [("interval", 1.0), ("circle", 0.8), ("point", float("nan"))]
)
def test_series_opens_in_chimerax(tmp_path, space, last):
    path = write_run(tmp_path / "run", random_run(state_space=space))
    result = export(path, "--series", "5")
    assert result.exit_code == 0, result.output
    folder = path / "export"
    table = pd.read_csv(folder / "series.csv")
    assert len(table) == (1 if space == "point" else 5)
    assert table.iloc[-1, 1] == pytest.approx(last, nan_ok=True)
    script = (folder / "series.cxc").read_text()
    assert all(f'"{name}"' in script and (folder / name).exists() for name in table["volume"])
    assert "vseries true" in script


@pytest.mark.parametrize(("space", "frames"), [("interval", 6), ("circle", 4)])
def test_movie_loops(tmp_path, space, frames):
    path = write_run(tmp_path / "run", random_run(state_space=space))
    result = export(path, "--movie", tmp_path / "m.gif", "--series", "4")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "m.gif") as movie:
        assert movie.n_frames == frames and movie.info["loop"] == 0
        assert movie.size == (3 * 192, 2 * 192 + 18)


def test_particles_of_a_state(path, tmp_path):
    run = load_run(path)
    states = summarise_particles(run).state[:, 0]
    middle = float(np.sort(states)[2:4].mean())
    result = export(path, "--where", f"0:{middle}", "--star", tmp_path / "sub" / "low.star")
    assert result.exit_code == 0, result.output
    assert "3 of 7 particles" in result.output
    written = load_particles(tmp_path / "sub" / "low.star").metadata
    whole = load_particles(run.info["particles"]).metadata
    keep = np.flatnonzero(states < middle)
    assert np.array_equal(written.stack_indices, whole.stack_indices[keep])
    assert np.array_equal(written.stack_paths, whole.stack_paths[keep])


def test_particles_of_a_state_after_the_file_was_sorted(path, tmp_path):
    """Whatever the particle file has become, the images with these states are written."""
    run = load_run(path)
    states = summarise_particles(run).state[:, 0]
    file = Path(run.info["particles"])
    tables = starfile.read(file, always_dict=True)
    tables["particles"] = tables["particles"].iloc[::-1]
    starfile.write(tables, file, overwrite=True)
    result = export(path, "--where", f"0:{np.median(states)}", "--star", tmp_path / "low.star")
    assert result.exit_code == 0, result.output
    written = load_particles(tmp_path / "low.star").metadata
    assert np.array_equal(written.stack_indices, np.flatnonzero(states < np.median(states)))


def test_rows_of_cryosparc(path, tmp_path, monkeypatch):
    """--cs writes the input's rows of these particles."""
    directory = RunDirectory.open(path)
    metadata = kept_input(directory)
    rows = np.zeros(7, [("uid", "u8"), *((f"alignments3D/{n}", "f4", (k,)) for n, k in POSE)])
    rows["uid"] = 100 + np.arange(7)
    keep_input(directory, replace(metadata, table=metadata.table | {"cs": rows}))
    states = summarise_particles(load_run(path)).state[:, 0]
    middle = np.median(states)
    result = export(path, "--where", f"0:{middle}", "--cs", tmp_path / "o" / "low.cs")
    assert result.exit_code == 0, result.output
    assert "3 of 7 particles in" in result.output and "low.cs" in result.output
    written = np.load(tmp_path / "o" / "low.cs")
    assert written["uid"].tolist() == (100 + np.flatnonzero(states < middle)).tolist()
    assert not (tmp_path / "o" / "low.star").exists()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--at", "0.3", "--out", "taken"], "arm_0.300_mean.mrc"),
        (["--series", "2", "--out", "taken/below"], "series_000.mrc"),
        (["--movie", "taken/m.gif"], "m.gif"),
        (["--where", "0:1", "--star", "taken/a.star"], "a.star"),
    ],
)
def test_a_file_where_a_folder_should_be(path, tmp_path, monkeypatch, arguments, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("mine")
    result = export(path, *arguments)
    assert result.exit_code == 1 and result.output.startswith("Error: ")
    assert "taken is a file and not a folder" in result.output.replace("\n", " ")
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--at", "0.3"], "arm_0.300_sd.mrc"),
        (["--series", "2"], "series_001.mrc"),
        (["--series", "2"], "series.csv"),
        (["--series", "2"], "series.cxc"),
        (["--movie", "export/m.gif", "--series", "2"], "m.gif"),
        (["--where", "0:1", "--star", "export/a.star"], "a.star"),
    ],
)
def test_a_full_disk_is_a_sentence(path, monkeypatch, arguments, name):
    monkeypatch.chdir(path)
    (path / "export").mkdir()
    (path / "export" / f"{name}.part").symlink_to("/dev/full")
    result = export(path, *arguments)
    assert result.exit_code == 1 and result.output.startswith("Error: ")
    assert f"{name} cannot be written, because the disk is full" in result.output
    assert not (path / "export" / name).exists() and not list(path.rglob("*.part"))


def test_particles_across_the_cut_of_a_circle(tmp_path):
    fake = random_run(state_space="circle", chains=1)
    fake.state[:] = np.array([0.05, 0.1, 0.3, 0.5, 0.7, 0.92, 0.97])[:, None]
    path = write_run(tmp_path / "run", fake)
    result = export(path, "--where", "0.9:0.2", "--star", tmp_path / "cut.star")
    assert "4 of 7 particles" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to export"),
        (["--at", "leg=0.3"], "its state is 'arm'"),
        (["--at", "1.5"], "a number from 0 to 1"),
        (["--at", "open"], "a number from 0 to 1"),
        (["--at", "0.3", "--sample", "99"], "10 samples, 0 to 9"),
        (["--sample", "1", "--movie", "m.gif"], "add one of them"),
        (["--series", "0"], "at least 1"),
        (["--movie", "m.mp4"], "ends in .gif"),
        (["--where", "0.2:0.4"], "go together"),
        (["--star", "x.star"], "go together"),
        (["--cs", "x.cs"], "go together"),
        (["--where", "0.2:0.4", "--star", "x.cs"], "ends in .star"),
        (["--where", "0.2:0.4", "--cs", "x.star"], "ends in .cs"),
        (["--where", "0:1", "--cs", "x.cs"], "which is no cryoSPARC file: give --star"),
        (["--at", "0.3", "--image-dir", "."], "--image-dir goes with --star"),
        (["--where", "0:1", "--star", "x.star", "--image-dir", "."], "has no stack particles.mrcs"),
        (["--where", "0.4", "--star", "x.star"], "give LOW:HIGH"),
        (["--where", "0.4:0.2", "--star", "x.star"], "lower state first"),
        (["--where", "0.0:0.001", "--star", "x.star"], "selects no particles"),
    ],
)
def test_errors_name_the_option(path, arguments, message):
    result = export(path, *arguments)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ") and message in result.output


def test_rigid_runs_have_no_states(tmp_path):
    path = write_run(tmp_path / "run", random_run(state_space="point"))
    for arguments in (
        ["--at", "0.3"],
        ["--movie", "m.gif"],
        ["--where", "0:1", "--star", "x.star"],
    ):
        assert "rigid fit" in export(path, *arguments).output


@pytest.fixture
def mixed(tmp_path) -> Path:
    """An interval "bend", a circle "ring" and three classes "ligand"."""
    rng = np.random.default_rng(3)
    shape = (1, 3, 12)
    ligand = (rng.integers(0, 3, shape) + 0.5) / 3
    state = np.stack([rng.random(shape), rng.random(shape), ligand], axis=-1)
    occupancy = rng.dirichlet(np.ones(48), shape[:2])
    fake = product_run(MIXED, state, np.zeros((*shape[:2], 1, 4, 4, 4)), occupancy)
    fake.info["n_terms"] = 3
    terms = len(load_run(write_run(tmp_path / "first", fake)).weights(np.full(3, 0.5)))
    fake.maps = rng.normal(size=(*shape[:2], terms, 8, 8, 8)).astype(np.float32)
    return write_run(tmp_path / "run", fake)


def test_a_state_of_several_knobs_names_them_all(mixed, tmp_path):
    result = export(mixed, "--at", "ring=0.7,ligand=0.5,bend=0.2", "--out", tmp_path / "o")
    assert result.exit_code == 0, result.output
    written = read_volume(tmp_path / "o" / "bend_0.200_ring_0.700_ligand_0.500_mean.mrc").data
    expected = state_volumes(load_run(mixed), np.array([[0.2, 0.7, 0.5]])).mean[0]
    assert np.allclose(written, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("knob", "column", "values"),
    [
        ("bend", 0, [0.0, 0.5, 1.0]),
        ("ring", 1, [0.0, 1 / 3, 2 / 3]),
        ("ligand", 2, [1 / 6, 1 / 2, 5 / 6]),
    ],
)
def test_series_moves_one_knob_and_holds_the_others(mixed, knob, column, values):
    other = "ring" if knob != "ring" else "bend"
    result = export(mixed, "--series", "3", "--knob", knob, "--hold", f"{other}=0.9")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(mixed / "export" / "series.csv")
    states = table[["bend", "ring", "ligand"]].to_numpy()
    held = {"bend": 0.5, "ring": 0.5, "ligand": 1 / 6} | {other: 0.9}
    expected = np.tile([held["bend"], held["ring"], held["ligand"]], (3, 1))
    expected[:, column] = values
    assert np.allclose(states, expected)


def test_particles_of_one_of_several_knobs(mixed, tmp_path):
    result = export(mixed, "--where", "0:0.5", "--knob", "bend", "--star", tmp_path / "s.star")
    assert result.exit_code == 0, result.output
    keep = summarise_particles(load_run(mixed)).state[:, 0] < 0.5
    assert len(load_particles(tmp_path / "s.star").metadata) == keep.sum()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--series", "3"], "several knobs: add --knob, one of bend, ring, ligand"),
        (["--series", "3", "--knob", "lid"], "no knob 'lid'"),
        (["--at", "0.3"], "names no knob"),
        (["--at", "bend=0.3,ring=0.2"], "leaves ligand out"),
        (["--series", "3", "--knob", "bend", "--hold", "lid=0.3"], "no state 'lid'"),
    ],
)
def test_errors_of_several_knobs(mixed, arguments, message):
    result = export(mixed, *arguments)
    assert result.exit_code == 1 and message in result.output.replace("\n", " ")
