"""Regions of motion, from half maps; a rigid molecule has none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hypermol.analysis.regions import find_motion
from hypermol.analysis.run import load_run
from hypermol.cli.main import app
from hypermol.io.errors import InputError
from hypermol.io.mrc import read_volume
from hypermol.recipe.options import FitOptions, make_design
from hypermol.recipe.toml import read_recipe, write_recipe
from hypermol.space.fourier import crop_or_pad_volume
from report.synthetic import World, make_run, volume

WORLD = World(draws=2, box=32, pixel=5.0, kmax=12)


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("moving"), WORLD)
    write_recipe(run / "recipe.toml", FitOptions(n_terms=4, normalise=True))
    return run


def with_halves_of_noise(folder: Path) -> Path:
    """A run whose terms beside the mean differ in both half sets by noise alone."""
    run = make_run(folder, replace(WORLD, seed=1))
    directory = load_run(run).directory
    mean = directory.read_arrays("halves.npz")["half1"]
    rng = np.random.default_rng(0)
    halves = {}
    for name in ("half1", "half2"):
        noise = 0.2 * rng.standard_normal(mean.shape).astype(np.float32)
        halves[name] = np.concatenate([mean[:1], noise[1:]])
    directory.write_arrays("halves.npz", halves)
    return run


def test_the_arm_moves_and_the_body_does_not(moving: Path):
    motion = find_motion(load_run(moving))
    states = np.linspace(0.05, 0.95, 12)
    swept = np.var([volume(WORLD, t) for t in states], axis=0)
    swept = crop_or_pad_volume(swept, WORLD.box)
    assert len(motion.regions) == 1 and motion.regions[0].share > 0.95
    mask = motion.regions[0].mask
    assert (swept * mask).sum() > 0.95 * swept.sum()
    assert mask.mean() < 0.3
    # the body's densest point, at (-0.4, 0, 0) radii
    assert mask[16, 16, round(16 - 0.4 * WORLD.radius / WORLD.pixel)] < 0.5


def test_noise_is_no_motion(tmp_path: Path):
    motion = find_motion(load_run(with_halves_of_noise(tmp_path)))
    assert motion.regions == () and motion.chance > 0.0


def test_the_recipe_can_be_fitted(moving: Path, tmp_path: Path):
    result = CliRunner().invoke(app, ["regions", str(moving), "--out", str(tmp_path / "r")])
    assert result.exit_code == 0, result.output
    assert "region_1" in result.output and "--poses refine" in result.output
    options = read_recipe(tmp_path / "r" / "recipe.toml")
    assert options.normalise
    design = make_design(options, WORLD.box, WORLD.pixel)
    assert [part.name for part in design.parts] == ["body", "region_1"] and design.n_knobs == 1
    assert read_volume(tmp_path / "r" / "variation.mrc").data.max() > 0.0
    assert (tmp_path / "r" / "regions.png").stat().st_size > 10000
    again = CliRunner().invoke(app, ["regions", str(moving), "--out", str(tmp_path / "r")])
    assert again.exit_code != 0 and "--overwrite" in again.output


def test_regions_of_a_circle_have_knobs_on_a_circle(tmp_path: Path):
    run = make_run(tmp_path, replace(WORLD, space="circle"))
    write_recipe(run / "recipe.toml", FitOptions(basis="fourier", n_terms=5))
    result = CliRunner().invoke(app, ["regions", str(run)])
    assert result.exit_code == 0, result.output
    part = read_recipe(run / "regions" / "recipe.toml").part[1]
    assert (part["state_basis"], part["n_terms"]) == ("fourier", 5)


def test_where_nothing_moves_no_recipe_is_written(tmp_path: Path):
    run = with_halves_of_noise(tmp_path)
    result = CliRunner().invoke(app, ["regions", str(run)])
    assert result.exit_code == 0 and "nothing moves" in result.output
    assert not (run / "regions" / "recipe.toml").exists()


def test_what_has_no_motion_to_tell_is_refused(tmp_path: Path):
    for name in ("rigid", "bare"):
        (tmp_path / name).mkdir()
    rigid = make_run(tmp_path / "rigid", World(space="point", draws=2))
    with pytest.raises(InputError, match="rigid molecule, which has no motion"):
        find_motion(load_run(rigid))
    bare = make_run(tmp_path / "bare", World(draws=2), halves=False)
    with pytest.raises(InputError, match="no half maps"):
        find_motion(load_run(bare))
