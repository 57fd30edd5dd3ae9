import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hypermol.cli.main import app
from hypermol.cli.score import knob_rows
from hypermol.io.star import write_particles_star
from runs import PIXEL_SIZE, particle_metadata, random_run, write_run

N = 40


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """A run of noise on data of noise, and its truth in our own layout."""
    base = tmp_path_factory.mktemp("score")
    fake = random_run(particles=N, draws=4)
    run = write_run(base / "run", fake)
    truth = base / "data" / "truth"
    truth.mkdir(parents=True)
    shifts = fake.shift_px[0, 0] * PIXEL_SIZE
    metadata = particle_metadata(base / "input", fake.rotations[0, 0], shifts, 16)
    write_particles_star(truth / "truth.star", metadata)
    rng = np.random.default_rng(5)
    maps = np.abs(rng.normal(size=(6, 16, 16, 16)))
    tau = (np.arange(6)[:, None] + 0.5) / 6
    states = np.where(np.arange(N) < 10, 0.2, 0.8) + rng.normal(0, 0.05, N)
    frame = np.clip((states * 6).astype(int), 0, 5)
    np.savez(truth / "truth_maps.npz", maps=maps.astype(np.float16), tau=tau, apix=PIXEL_SIZE)
    np.savez(truth / "truth.npz", t=states, frame=frame, space="interval")
    return run, base / "data"


def score(*arguments: str | Path) -> object:
    return CliRunner().invoke(app, ["score", *(str(a) for a in arguments)])


def test_table_and_file(folders):
    run, data = folders
    result = score(run, "--truth", data)
    assert result.exit_code == 0, result.output
    stored = json.loads((run / "score.json").read_text())
    assert f"{stored['fsc']['area_unmasked']:.4f}" in result.output
    assert "rank correlation" in result.output and "population" in result.output
    assert stored["populations"]["true_fraction"] == pytest.approx(0.25, abs=0.03)
    assert set(stored["coverage"]) >= {"state", "rotation", "shift", "contrast"}


def test_json(folders):
    run, data = folders
    result = score(run, "--truth", data / "truth", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((run / "score.json").read_text())


def test_truth_of_other_data(folders, tmp_path):
    run, data = folders
    maps = np.zeros((2, 8, 8, 8), np.float16)
    for name in ("truth.star", "truth.npz"):
        (tmp_path / name).write_bytes((data / "truth" / name).read_bytes())
    np.savez(tmp_path / "truth_maps.npz", maps=maps, tau=[[0.2], [0.8]], apix=PIXEL_SIZE)
    assert "names a map beyond the 2" in score(run, "--truth", tmp_path).output
    np.savez(tmp_path / "truth.npz", t=np.full(N, 0.2))
    result = score(run, "--truth", tmp_path)
    assert result.exit_code == 1 and "maps of 8 voxels" in result.output
    assert "holds no run" in score(tmp_path, "--truth", data).output
    assert "has no truth.star" in score(run, "--truth", tmp_path / "nowhere").output


def test_several_knobs_in_the_table():
    """A matrix row a knob, what each was matched with, and their coupling beside the truth's."""
    knobs = {
        "names": ["arm_1", "ligand"],
        "true_names": ["bend"],
        "correlations": [[-0.9], [None]],
        "matched": [
            {
                "knob": "arm_1",
                "truth": "bend",
                "measure": "rank correlation",
                "correlation": 0.9,
                "direction": -1,
                "error_median": 0.05,
            }
        ],
        "joint": [
            {
                "knobs": ["arm_1", "ligand"],
                "measure": "multiple correlation",
                "mean": 0.25,
                "sd": 0.01,
                "chance": 0.05,
                "true": 0.3,
            }
        ],
    }
    rows = knob_rows(knobs)
    assert rows[0] == ("correlation of arm_1", "-0.900", "with the truth's bend")
    assert rows[1][1] == "-"
    assert rows[2][1:] == ("0.9000", "direction turned")
    assert rows[3] == ("  error, median", "0.0500", "")
    assert "0.250 ± 0.010" in rows[4] and "truth's 0.300" in rows[4][2]
