import subprocess
import sys

from typer.testing import CliRunner

from hypermol.cli.main import app


def test_verbs_are_mounted():
    text = CliRunner().invoke(app, ["--help"]).output
    for verb in ("simulate", "export", "score", "report"):
        assert verb in text


def test_an_input_error_is_one_line(tmp_path):
    result = CliRunner().invoke(app, ["export", str(tmp_path), "--at", "0.3"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ") and len(result.output.splitlines()) == 1
    assert "holds no run" in result.output


def test_usage_errors_have_their_own_code(tmp_path):
    for arguments in (["export", str(tmp_path), "--frobnicate"], ["score", str(tmp_path)]):
        assert CliRunner().invoke(app, arguments).exit_code == 2


def test_as_a_program(tmp_path):
    command = [sys.executable, "-m", "hypermol.cli.main", "score", str(tmp_path), "--truth", "x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 1 and done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr and done.stdout == ""
