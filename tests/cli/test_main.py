import errno
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hypermol.cli.main import app
from runs import random_run, write_run

report = import_module("hypermol.cli.report")
full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


def test_verbs_are_mounted():
    text = CliRunner().invoke(app, ["--help"]).output
    for verb in ("simulate", "export", "score", "report"):
        assert verb in text


def test_an_input_error_is_one_line(tmp_path):
    result = CliRunner().invoke(app, ["export", str(tmp_path), "--at", "0.3"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ") and len(result.output.splitlines()) == 1
    assert "holds no run" in result.output


SIMULATE = ["simulate", "cat", "--n", "8", "--box", "16", "--pixel-size", "20", "--out"]


def invoke(*arguments) -> str:
    """The one line that a command ends with, spoken by the file system's refusal."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 1 and result.output.startswith("Error: "), result.output
    assert len(result.output.splitlines()) == 1
    return result.output


@pytest.mark.parametrize("below", ["", "below", "below/that"])
def test_out_is_a_file(tmp_path, below):
    (tmp_path / "taken").write_text("mine")
    assert "taken is a file and not a folder" in invoke(*SIMULATE, tmp_path / "taken" / below)
    assert (tmp_path / "taken").read_text() == "mine"


@full_disk
@pytest.mark.parametrize(
    "name", ["particles.mrcs", "particles.star", "truth/truth.npz", "truth/truth_maps.npz"]
)
def test_simulate_on_a_full_disk(tmp_path, name):
    (tmp_path / "truth").mkdir()
    (tmp_path / f"{name}.part").symlink_to("/dev/full")
    assert f"{Path(name).name} cannot be written, because the disk is full" in invoke(
        *SIMULATE, tmp_path
    )
    assert not (tmp_path / "particles.star").exists() and not list(tmp_path.rglob("*.part"))


@full_disk
@pytest.mark.parametrize("name", ["report.html", "figures/occupancy.png"])
def test_report_on_a_full_disk(tmp_path, name):
    run = write_run(tmp_path / "run", random_run(draws=2))
    (run / "figures").mkdir()
    (run / f"{name}.part").symlink_to("/dev/full")
    assert f"{Path(name).name} cannot be written, because the disk is full" in invoke("report", run)
    assert not (run / name).exists() and not list(run.rglob("*.part"))


def test_report_into_a_folder_that_is_a_file(tmp_path):
    run = write_run(tmp_path / "run", random_run(draws=2))
    (run / "figures").write_text("mine")
    assert "figures is a file and not a folder" in invoke("report", run)


def test_a_refusal_that_nobody_foresaw(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("hypermol.report.write_report", refuse)
    assert "run may not be opened: get permission" in invoke("report", tmp_path / "run")


def test_states_that_are_no_numbers(tmp_path):
    (tmp_path / "t.npy").write_bytes(b"")
    said = invoke(*SIMULATE, tmp_path / "o", "--states", tmp_path / "t.npy")
    assert "is not a table of numbers" in said


def test_usage_errors_have_their_own_code(tmp_path):
    for arguments in (["export", str(tmp_path), "--frobnicate"], ["score", str(tmp_path)]):
        assert CliRunner().invoke(app, arguments).exit_code == 2


def test_as_a_program(tmp_path):
    command = [sys.executable, "-m", "hypermol.cli.main", "score", str(tmp_path), "--truth", "x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 1 and done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_the_version_is_the_packages():
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0 and result.output.strip() == f"hypermol {version('hypermol')}"
