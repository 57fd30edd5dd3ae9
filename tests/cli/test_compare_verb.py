"""`hypermol compare`: its table, its sentence, its refusals."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hypermol.cli import compare as verb_module
from hypermol.cli.compare import verdict
from hypermol.cli.main import app
from hypermol.fitting.comparison import HeldOut

NAMES = np.array([f"{i}@stack" for i in range(100)])


def scored(gains: dict[str, float], spread: float) -> dict[Path, HeldOut]:
    """Runs that differ in mean by their gains, image by image with a spread."""
    rng = np.random.default_rng(0)
    images = rng.normal(-300.0, 20.0, len(NAMES))
    return {
        Path(name): HeldOut(NAMES, images + gain + spread * rng.standard_normal(len(NAMES)))
        for name, gain in gains.items()
    }


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ({"one": 0.0, "two": 3.0, "three": 1.0}, "two predicts 100 images best, clearly"),
        ({"one": 0.0, "two": 0.05}, "100 images do not tell"),
    ],
)
def test_the_best_is_told_and_whether_clearly(gains: dict[str, float], said: str):
    assert said in verdict(scored(gains, 1.0))


def test_the_table_has_every_run_the_best_first(monkeypatch):
    found = scored({"rigid": 0.0, "moving": 3.0}, 1.0)
    monkeypatch.setattr(verb_module, "check_comparable", lambda runs: None)
    monkeypatch.setattr(verb_module, "held_out_of_run", found.__getitem__)
    monkeypatch.setattr(verb_module, "configure", lambda: "nothing")
    result = CliRunner().invoke(app, ["compare", "rigid", "moving"])
    assert result.exit_code == 0, result.output
    assert result.output.index("moving") < result.output.index("rigid")
    assert "+-" in result.output and "moving predicts 100 images best" in result.output


def test_what_cannot_be_compared_says_why(monkeypatch, tmp_path: Path):
    result = CliRunner().invoke(app, ["compare", "one"])
    assert result.exit_code != 0 and "two runs or more" in result.output

    def refuse(run: Path) -> HeldOut:
        raise ValueError("positions without bounds, of rigid bodies, cannot be laid on a grid")

    monkeypatch.setattr(verb_module, "check_comparable", lambda runs: None)
    monkeypatch.setattr(verb_module, "held_out_of_run", refuse)
    result = CliRunner().invoke(app, ["compare", "one", "two"])
    assert result.exit_code != 0 and "one cannot be compared: positions" in result.output
