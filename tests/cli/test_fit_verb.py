"""What `hypermol fit` makes of a recipe and the options beside it."""

import importlib
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from hypermol.cli.main import app
from hypermol.recipe.options import FitOptions
from hypermol.recipe.toml import write_recipe

PARTS = {"part": ({"name": "arm", "region": {"radius_angstrom": 9.0}},)}
VERB = importlib.import_module("hypermol.cli.fit")


class Refused(Exception):
    """What the command line said."""


@pytest.fixture
def options_of(monkeypatch, tmp_path):
    """The options that a command line leads to; nothing is fitted."""
    recipe = tmp_path / "recipe.toml"
    write_recipe(recipe, FitOptions(basis="hats", n_terms=7, chains=3, invert_contrast=True))
    found = []
    monkeypatch.setattr(VERB, "configure", lambda: "nothing")
    monkeypatch.setattr(VERB, "fit_with_progress", lambda *given: found.append(given[3]))
    monkeypatch.setattr(VERB, "finish", lambda *given: None)

    def run(*arguments: str) -> FitOptions:
        line = ["fit", "some.star", "--out", str(tmp_path / "run"), *arguments]
        result = CliRunner().invoke(app, [text.replace("RECIPE", str(recipe)) for text in line])
        if result.exit_code:
            raise Refused(" ".join(result.output.split()))
        return found.pop()

    return run


def test_a_recipe_alone_is_taken_whole(options_of):
    found = options_of("--recipe", "RECIPE")
    assert (found.basis, found.n_terms, found.chains) == ("hats", 7, 3)
    assert found.invert_contrast


def test_options_go_before_the_recipe(options_of):
    found = options_of("--recipe", "RECIPE", "--terms", "4", "--no-invert-contrast")
    assert (found.basis, found.n_terms, found.chains) == ("hats", 4, 3)
    assert not found.invert_contrast


def test_states_by_name(options_of):
    assert options_of("--state", "circle").basis == "fourier"
    assert options_of("--state", "interval", "--basis", "hats").basis == "hats"
    assert not options_of().invert_contrast and options_of("--invert-contrast").invert_contrast


@pytest.mark.parametrize(
    ("model", "arguments", "said"),
    [
        (PARTS, ("--terms", "3"), "--terms and model.part of recipe .* do not go together"),
        (PARTS, ("--basis", "hats"), "--basis .* and model.part of recipe"),
        (PARTS, ("--state", "circle"), r"\(or --state\) and model.part of recipe"),
        ({"type": "a:B"}, ("--terms", "3"), "--terms and model.type of recipe"),
        ({}, ("--state", "circle", "--basis", "hats"), r"--state circle and --basis hats do not"),
        ({}, ("--state", "line"), "--state 'line' is not known: use interval, circle"),
    ],
)
def test_options_that_do_not_go_together_are_named(options_of, tmp_path, model, arguments, said):
    """None is silently left out."""
    write_recipe(tmp_path / "model.toml", FitOptions(**model))
    with pytest.raises(Refused, match=said):
        options_of("--recipe", str(tmp_path / "model.toml"), *arguments)
    read = options_of("--recipe", str(tmp_path / "model.toml"))
    assert replace(read, folder=None) == FitOptions(**model)


def test_auto_fits_the_regions_that_the_first_run_proposes(monkeypatch, tmp_path):
    """The second fit has the parts' recipe, the first's poses and the schedule asked for."""
    fitted, proposed = [], [tmp_path / "run" / "regions" / "recipe.toml", None]

    def propose(console, run, folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_recipe(folder / "recipe.toml", FitOptions(**PARTS, resolution_angstrom=9.0))
        return proposed.pop(0)

    monkeypatch.setattr(VERB, "configure", lambda: "nothing")
    monkeypatch.setattr(VERB, "fit_with_progress", lambda *given: fitted.append(given[1:]))
    monkeypatch.setattr(VERB, "finish", lambda *given: None)
    monkeypatch.setattr(VERB, "propose", propose)
    monkeypatch.setattr(
        importlib.import_module("hypermol.cli.auto"), "poses_after", lambda run: "rescue"
    )
    line = ["fit", "some.star", "--out", str(tmp_path / "run"), "--auto", "--poses", "search"]
    result = CliRunner().invoke(app, [*line, "--samples", "7", "--image-dir", "images"])
    assert result.exit_code == 0, result.output
    (_, _, first, _), (source, out, second, resume) = fitted
    assert first.poses == "search" and not first.part and first.samples == 7
    assert source.path == tmp_path / "run" / "particles.star" and str(source.image_dir) == "images"
    assert out == tmp_path / "run-parts" and not resume
    assert second.poses == "rescue" and second.samples == 7
    assert second.part[0]["name"] == "arm" and second.resolution_angstrom == 9.0
    assert CliRunner().invoke(app, line).exit_code == 0  # nothing moves: one fit
    assert len(fitted) == 3


def test_auto_refuses_a_model_that_is_rigid_or_has_parts(options_of, tmp_path):
    for rigid in (("--state", "rigid"), ("--terms", "1")):
        with pytest.raises(Refused, match=r"the model is rigid \(one term\)"):
            options_of(*rigid, "--auto")
    recipe = tmp_path / "recipe.toml"
    write_recipe(recipe, FitOptions(**PARTS))
    with pytest.raises(Refused, match=r"--auto looks for the regions .* model\.part"):
        options_of("--recipe", str(recipe), "--auto")
