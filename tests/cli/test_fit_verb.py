"""What `hypermol fit` makes of a recipe and the options beside it."""

import importlib
from dataclasses import replace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from hypermol.cli import next_fits
from hypermol.cli.main import app
from hypermol.io.store import RunDirectory
from hypermol.recipe.options import FitOptions
from hypermol.recipe.toml import write_recipe
from runs import apart_run, write_run

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


def test_auto_fits_what_the_first_run_proposes_and_compares(monkeypatch, tmp_path):
    """The further fits have their recipes, the first's poses and the schedule asked for."""
    fitted, compared, moves = [], [], [True, False]
    run = tmp_path / "run"

    def propose(console, run, folder):
        folder.mkdir(parents=True, exist_ok=True)
        names = ("recipe.toml", "copies.toml") if moves.pop(0) else ()
        for name in names:
            write_recipe(folder / name, FitOptions(**PARTS, resolution_angstrom=9.0))
        return next_fits.proposed(run, folder) if names else []

    monkeypatch.setattr(VERB, "configure", lambda: "nothing")
    monkeypatch.setattr(VERB, "fit_with_progress", lambda *given: fitted.append(given[1:]))
    monkeypatch.setattr(VERB, "finish", lambda *given: None)
    monkeypatch.setattr(VERB, "propose", propose)
    monkeypatch.setattr(VERB, "tell_best", lambda console, runs: compared.append(runs))
    monkeypatch.setattr(next_fits, "load_run", lambda path: None)
    monkeypatch.setattr(next_fits, "poses_after", lambda run: "start")
    line = ["fit", "some.star", "--out", str(run), "--auto", "--poses", "search"]
    result = CliRunner().invoke(app, [*line, "--samples", "7", "--image-dir", "images"])
    assert result.exit_code == 0, result.output
    (_, _, first, _), (source, out, second, resume), (turned, copies, _, _) = fitted
    assert first.poses == "search" and not first.part and first.samples == 7
    assert source.path == run / "regions" / "particles.star" and str(source.image_dir) == "images"
    assert out == tmp_path / "run-parts" and not resume
    assert second.poses == "start" and second.samples == 7
    assert second.part[0]["name"] == "arm" and second.resolution_angstrom == 9.0
    assert copies == tmp_path / "run-copies"
    assert turned.path == run / "regions" / "copies.star" and turned.image_dir == source.image_dir
    assert compared == [[run, out, copies]]
    assert CliRunner().invoke(app, line).exit_code == 0  # nothing moves: one fit
    assert len(fitted) == 4 and len(compared) == 1


def test_auto_goes_on_with_what_was_proposed(monkeypatch, tmp_path):
    """A run that was interrupted in a later fit is not asked again what moves."""
    fitted, run = [], tmp_path / "run"
    monkeypatch.setattr(VERB, "configure", lambda: "nothing")
    monkeypatch.setattr(VERB, "fit_with_progress", lambda *given: fitted.append(given[2:]))
    monkeypatch.setattr(VERB, "finish", lambda *given: None)
    monkeypatch.setattr(VERB, "propose", lambda *given: pytest.fail("asked again"))
    monkeypatch.setattr(next_fits, "load_run", lambda path: None)
    monkeypatch.setattr(next_fits, "poses_after", lambda run: "start")
    for folder in (run / "regions", tmp_path / "run-parts"):
        folder.mkdir(parents=True)
    for name in ("recipe.toml", "copies.toml"):
        write_recipe(run / "regions" / name, FitOptions(**PARTS))
    (tmp_path / "run-parts" / "run.json").write_text("{}")
    monkeypatch.setattr(VERB, "tell_best", lambda console, runs: None)
    line = ["fit", "some.star", "--out", str(run), "--auto", "--resume"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    assert [(out.name, resume) for out, _, resume in fitted] == [
        ("run", True),
        ("run-parts", True),
        ("run-copies", False),
    ]


def test_auto_refuses_a_model_that_is_rigid_or_has_parts(options_of, tmp_path):
    for rigid in (("--state", "rigid"), ("--terms", "1")):
        with pytest.raises(Refused, match=r"the model is rigid \(one term\)"):
            options_of(*rigid, "--auto")
    recipe = tmp_path / "recipe.toml"
    write_recipe(recipe, FitOptions(**PARTS))
    with pytest.raises(Refused, match=r"--auto looks for the regions .* model\.part"):
        options_of("--recipe", str(recipe), "--auto")


def test_a_fit_ends_by_saying_what_its_intervals_lack(tmp_path):
    """Two chains that stand apart are worth two samples; where chains agree nothing is said."""
    said = {}
    for name, chains, apart in (("few", 2, 10.0), ("enough", 8, 0.0)):
        made = apart_run(chains, 8, apart)
        console = Console(record=True, width=200)
        VERB.tell_worth(console, RunDirectory.open(write_run(tmp_path / name, made)))
        said[name] = console.export_text()
    assert "Intervals of single particles are too narrow" in said["few"]
    assert "--resume and about --chains" in said["few"] and not said["enough"]
