"""Options about particles, from the command line to what is read, and what is said of them."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from hypermol.cli.main import app
from hypermol.data import ParticleSource
from hypermol.io.mrc import write_stack

CHECK = importlib.import_module("hypermol.cli.check")
FIT = importlib.import_module("hypermol.cli.fit")
N, BOX = 40, 16


@pytest.fixture
def write(tmp_path: Path):
    """Writes a .cs file, its passthrough file with the CTF, a stack and a recipe."""
    (tmp_path / "model.toml").write_text("[model]\nbasis = 'constant'\n")
    rng = np.random.default_rng(0)

    def made(images: np.ndarray | None = None, **changes: object) -> Path:
        write_stack(
            tmp_path / "s.mrc",
            rng.normal(size=(N, BOX, BOX)) if images is None else images,
            1.0,
        )
        fields = {"uid": "u8", "blob/path": "S9", "blob/idx": "u4", "alignments3D/split": "u4"}
        main = np.zeros(
            N,
            dtype=[
                *fields.items(),
                ("alignments3D/pose", "f4", (3,)),
                ("alignments3D/shift", "f4", (2,)),
            ],
        )
        main["uid"] = main["blob/idx"] = np.arange(N)
        main["blob/path"] = b"s.mrc"
        main["alignments3D/split"] = np.arange(N) % 2
        ctf = {"accel_kv": 300, "cs_mm": 2.7, "amp_contrast": 0.1, "df1_A": 2e4, "df2_A": 2e4}
        other = np.zeros(N, dtype=[("uid", "u8"), *((f"ctf/{name}", "f4") for name in ctf)])
        other["uid"] = np.arange(N)
        for name, value in (ctf | changes).items():
            other[f"ctf/{name}"] = value
        for path, array in (("p.cs", main), ("ctf.cs", other)):
            with open(tmp_path / path, "wb") as file:
                np.save(file, array)
        return tmp_path

    return made


def check(folder: Path, *options: str) -> object:
    line = ["check", folder / "model.toml", folder / "p.cs", "--no-timing", *options]
    return CliRunner().invoke(app, [str(word) for word in line])


def said(result: object) -> str:
    assert result.exit_code == 1 and result.output.startswith("Error: "), result.output
    assert len(result.output.splitlines()) == 1
    return result.output


def test_messages_name_options_that_there_are(write):
    folder = write()
    assert "give --pixel-size, in Angstrom" in said(check(folder))
    assert "with --passthrough" in said(check(folder, "--pixel-size", "3"))
    for verb in ("fit", "check"):
        command = typer.main.get_command(app).commands[verb]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--pixel-size", "--passthrough", "--leave-out-outliers", "--normalise"} <= options


def test_check_takes_them(write):
    folder = write()
    options = ("--pixel-size", "3", "--passthrough", str(folder / "ctf.cs"), "--no-timing")
    result = check(folder, *options)
    assert result.exit_code == 0, result.output


def test_units_of_a_passthrough_file(write):
    folder = write(accel_kv=3e5)
    options = ("--pixel-size", "3", "--passthrough", str(folder / "ctf.cs"))
    assert "it looks like volts" in said(check(folder, *options))


def test_outliers_are_refused_or_left_out(write, monkeypatch):
    images = np.random.default_rng(1).normal(size=(N, BOX, BOX))
    images[7, 2, 2] = 5000.0
    folder = write(images)
    options = ("--pixel-size", "3", "--passthrough", str(folder / "ctf.cs"))
    assert "row 8 (a pixel" in said(check(folder, *options))
    seen = []

    def stop(particles):
        raise SystemExit(seen.append(particles.n))

    monkeypatch.setattr(CHECK, "_conformance", lambda design, particles, options: stop(particles))
    result = check(folder, *options, "--leave-out-outliers")
    assert seen == [N - 1] and "left out 1 of 40 images as outliers, row 8" in result.output


def test_fit_carries_the_source_and_the_options(monkeypatch, tmp_path):
    found = []
    monkeypatch.setattr(FIT, "configure", lambda: "nothing")
    monkeypatch.setattr(FIT, "fit_with_progress", lambda *given: found.append(given))
    monkeypatch.setattr(FIT, "finish", lambda *given: None)
    line = "fit a.cs --out run --passthrough b.cs --passthrough c.cs --pixel-size 1.5"
    line += " --image-dir d --normalise --leave-out-outliers"
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 0, result.output
    _, source, _, options, *_ = found.pop()
    assert source == ParticleSource(Path("a.cs"), Path("d"), (Path("b.cs"), Path("c.cs")), 1.5)
    assert options.normalise and options.leave_out_outliers
