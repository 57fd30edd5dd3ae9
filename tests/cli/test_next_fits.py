"""What a run hands on to the fits that follow it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.analysis.gauge import Gauge
from hypermol.analysis.particle_summary import summarise_particles
from hypermol.analysis.run import Run, load_run
from hypermol.cli.next_fits import poses_after, proposed, recipe_like, states_like, write_base
from hypermol.data.source import load_particles
from hypermol.recipe.options import FitOptions
from hypermol.recipe.toml import write_recipe
from hypermol.space.rotation import angle_between
from report.synthetic import World, make_run


def run_of(folder: Path, world: World, options: FitOptions) -> Run:
    path = make_run(folder, world)
    write_recipe(path / "recipe.toml", options)
    return load_run(path)


@pytest.mark.parametrize(
    ("poses", "after"),
    [
        ("search", "start"),
        ("start", "start"),
        ("refine", "refine"),
        ("rescue", "rescue"),
        ("fixed", "fixed"),
    ],
)
def test_poses_found_from_nothing_say_where_to_begin_and_others_stay(poses, after, tmp_path):
    run = run_of(tmp_path, World(draws=2, poses=poses), FitOptions(poses=poses))
    assert poses_after(run) == after
    write_base(run, tmp_path / "base.star", Gauge())
    written = load_particles(tmp_path / "base.star").rotations
    given = load_particles(tmp_path / "particles.star").rotations
    found = summarise_particles(run).rotations
    expected, other = (found, given) if after == "start" else (given, found)
    assert angle_between(written, expected).max() < 1e-3
    assert angle_between(written, other).max() > 0.5


def test_particles_are_turned_to_the_frame_that_a_recipe_wants(tmp_path: Path):
    """A point of the molecule at r is seen where it was: at R r + s, with r' = G r + c."""
    run = run_of(tmp_path, World(draws=2), FitOptions())
    frame = Gauge(Rotation.from_rotvec([0.3, -0.5, 0.8]).as_matrix(), np.array([3.0, -2.0, 7.0]))
    write_base(run, tmp_path / "turned.star", frame)
    before, after = (load_particles(tmp_path / name) for name in ("particles.star", "turned.star"))
    point = np.array([11.0, -4.0, 6.0])
    moved = frame.rotation @ point + frame.shift_angstrom
    seen, again = (
        (p.rotations @ r)[:, :2] + p.shifts_angstrom for p, r in ((before, point), (after, moved))
    )
    np.testing.assert_allclose(again, seen, atol=1e-3)


def test_inverted_images_are_not_inverted_twice(tmp_path: Path):
    run = run_of(tmp_path, World(draws=2), FitOptions(invert_contrast=True))
    write_base(run, tmp_path / "base.star", Gauge())
    options = recipe_like(run, ())
    assert options.invert_contrast
    source = load_particles(tmp_path / "particles.star", invert_contrast=True)
    written = load_particles(tmp_path / "base.star", invert_contrast=options.invert_contrast)
    np.testing.assert_array_equal(written.metadata.contrast_sign, source.metadata.contrast_sign)


def test_states_are_the_runs_and_terms_only_those_that_were_asked_for(tmp_path: Path):
    free = run_of(tmp_path, World(draws=2), FitOptions())
    assert states_like(free) == {"state_basis": "cosine"}
    write_recipe(free.directory.path / "recipe.toml", FitOptions(n_terms=4))
    assert states_like(free) == {"state_basis": "cosine", "n_terms": 4}
    local = replace(free, info=free.info | {"basis": "hats"})
    assert states_like(local) == {"state_basis": "cosine"}


def test_only_recipes_that_are_there_are_proposed(tmp_path: Path):
    run = run_of(tmp_path, World(draws=2, poses="search"), FitOptions(poses="search"))
    path, folder = run.directory.path, tmp_path / "proposals"
    folder.mkdir()
    assert proposed(path, folder) == []
    write_recipe(folder / "copies.toml", FitOptions())
    (only,) = proposed(path, folder)
    assert only.out == path.with_name("run-copies") and only.particles == folder / "copies.star"
    assert only.command.endswith(f"--poses start --out {only.out}")
