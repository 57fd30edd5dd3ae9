from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hypermol.cli.simulate import app
from hypermol.data.source import load_particles

SMALL = ["--n", "6", "--box", "24", "--pixel-size", "14"]


def run(*arguments: str | Path) -> object:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.parametrize(
    ("arguments", "dim"),
    [(["cat", "--circle"], 1), (["pretzel", "--arms", "2"], 2)],
)
def test_toys(tmp_path, arguments, dim):
    result = run(*arguments, "--out", tmp_path, *SMALL)
    assert result.exit_code == 0, result.output
    assert "6 images" in result.output
    particles = load_particles(tmp_path / "particles.star")
    assert len(particles.metadata) == 6 and particles.metadata.box == 24
    assert np.load(tmp_path / "truth" / "truth.npz")["t"].reshape(6, -1).shape[1] == dim


def test_ctf_and_states_from_files(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    assert run("cat", "--out", first, *SMALL).exit_code == 0
    np.save(tmp_path / "states.npy", np.linspace(0, 1, 6))
    result = run(
        "cat",
        "--out",
        second,
        *SMALL,
        "--ctf",
        first / "particles.star",
        "--states",
        tmp_path / "states.npy",
    )
    assert result.exit_code == 0, result.output
    known = load_particles(first / "particles.star").metadata.ctf.defocus_u_angstrom
    drawn = load_particles(second / "particles.star").metadata.ctf.defocus_u_angstrom
    assert set(drawn) <= set(known)
    assert np.allclose(np.load(second / "truth" / "truth.npz")["t"], np.linspace(0, 1, 6))


def test_structures(tmp_path):
    atoms = [(0, 0, 0), (20, 0, 0), (0, 30, 10)]
    lines = []
    for model in (1, 2):
        lines.append(f"MODEL     {model:4d}")
        for i, (x, y, z) in enumerate(atoms):
            lines.append(
                f"ATOM  {i + 1:5d}  CA  ALA A{i + 1:4d}    {x + 5 * model * i:8.3f}{y:8.3f}{z:8.3f}"
                "  1.00  0.00           C"
            )
        lines.append("ENDMDL")
    (tmp_path / "two.pdb").write_text("\n".join([*lines, "END"]) + "\n")
    result = run("structures", tmp_path / "two.pdb", "--out", tmp_path / "o", *SMALL)
    assert result.exit_code == 0, result.output
    assert np.load(tmp_path / "o" / "truth" / "truth_maps.npz")["maps"].shape == (2, 24, 24, 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n", "0"], "at least 1"),
        (["--snr", "-1"], "snr"),
        (["--noise", "pink"], "white, coloured"),
        (["--states", "nowhere.npy"], "two-peaks"),
        (["--ctf", "nowhere.star"], "nowhere.star"),
        (["--dtype", "int8"], "float16"),
    ],
)
def test_errors_are_one_line(tmp_path, options, message):
    result = run("cat", "--out", tmp_path, *SMALL, *options)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ") and message in result.output
    assert not (tmp_path / "particles.star").exists()


def test_every_option_has_a_help_text():
    for command in ("cat", "pretzel", "structures"):
        text = run(command, "--help").output
        for option in ("--out", "--snr", "--rotation-error", "--shift-sd", "--states"):
            assert option in text
