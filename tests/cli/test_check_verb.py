"""`hypermol check`: findings, regions, memory, and classes of one's own."""

from pathlib import Path

import numpy as np
import pytest
import starfile
from PIL import Image
from typer.testing import CliRunner

from bodies import BOX, CENTRES, PIXEL, RADII, simulate, soft_ball, write_bodies
from hypermol.cli.check import longest_words
from hypermol.cli.main import app
from hypermol.data.source import load_particles
from hypermol.fitting.forecast import Seconds, Trial, most_chains, risen
from hypermol.fitting.found import Found
from hypermol.fitting.level import Levels
from hypermol.fitting.schedules import make_schedule
from hypermol.io.bodies import read_bodies
from hypermol.molecule.parts import Place
from hypermol.molecule.region import Ball, Mask
from hypermol.recipe.bodies import body_tables
from hypermol.recipe.options import FitOptions, make_design
from hypermol.recipe.part_tables import read_parts
from hypermol.recipe.toml import write_recipe
from hypermol.report.regions import inside

HALF_TURN = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
PARTS = (
    {"name": "body", "region": {"centre_angstrom": [-9.0, 0.0, 0.0], "radius_angstrom": 20.0}},
    {
        "name": "head",
        "region": {"centre_angstrom": [14.0, 2.0, -3.0], "radius_angstrom": 15.0},
        "state_basis": "cosine",
        "n_terms": 3,
    },
)


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    bodies = read_bodies(write_bodies(folder))
    design = read_parts(body_tables(bodies, BOX, PIXEL), BOX, PIXEL)
    return simulate(folder, design, 40, 0.5)[0]


def check(*arguments: str | Path) -> object:
    return CliRunner().invoke(app, ["check", *(str(a) for a in arguments)])


def test_findings_memory_and_a_picture(particles, tmp_path):
    model = tmp_path / "model.toml"
    write_recipe(model, FitOptions(part=PARTS, resolution_angstrom=12.0))
    result = check(model, particles, "--no-timing")
    assert result.exit_code == 0, result.output
    assert "hermitian" in result.output and "wrong" not in result.output
    assert "12 bytes x Fourier" in result.output and "estimate" not in result.output
    with Image.open(tmp_path / "model-check" / "regions.png") as picture:
        seen = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in ((0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00)):
        assert np.sum(np.all(np.abs(seen - colour) < 8, axis=1)) > 200


@pytest.mark.slow
def test_seconds_are_an_estimate(particles, tmp_path):
    model = tmp_path / "model.toml"
    write_recipe(model, FitOptions(part=PARTS, resolution_angstrom=12.0))
    result = check(model, particles, "--out", tmp_path / "here")
    assert result.exit_code == 0, result.output
    assert "s a sweep at full resolution for 40 particles (measured on 40" in result.output


def test_memory_is_what_the_arrays_take(particles):
    """The finest level's images; the maps of two parts, seven times."""
    options = FitOptions(part=PARTS, resolution_angstrom=12.0, radius_angstrom=33.0)
    loaded = load_particles(particles)
    design = make_design(options, BOX, PIXEL)
    schedule = make_schedule(options, loaded, design)
    memory = Trial(loaded, options, design, schedule).memory()
    last = schedule[-1]
    level = Levels(loaded, options, design, last.kmax).level(last, Found())
    blocks = level.data.images
    assert memory.images == blocks.pixels.nbytes + blocks.ctf.nbytes
    n = level.molecule.parts[0].basis.n
    assert memory.coefficients == 7 * (1 + 3) * 4 * n**3
    parts = memory.images, memory.grids, memory.coefficients, memory.kernels
    assert memory.total == sum(parts)


def test_terms_that_may_rise_are_counted(particles, tmp_path):
    """Of the 12 to which five may rise: maps of 12 terms, and stages of 8 and 12."""
    loaded, found = load_particles(particles), {}
    for terms in (None, 5):
        options = FitOptions(basis="cosine", n_terms=terms, resolution_angstrom=12.0)
        design = make_design(options, BOX, PIXEL)
        schedule = make_schedule(options, loaded, design)
        trial = Trial(loaded, options, design, schedule)
        usual, largest = trial.memory(), trial.largest_memory()
        run = [stage for stage in risen(schedule) if not stage.rises]
        found[terms] = largest.coefficients / usual.coefficients, run[-1].n_terms, len(run)
        model = tmp_path / f"{terms}.toml"
        write_recipe(model, options)
        said = check(model, particles, "--no-timing").output
        assert ("if the states turn out to tell more terms" in said) == (terms is None)
    assert found[5][:2] == (1.0, 5)
    assert found[None] == (12 / 5, 12, found[5][2] + 2)


def test_chains_that_a_budget_may_add_are_foretold():
    """As many as a fit may add (`more_chains`); minutes are told as they are."""
    for budget, chains in ((None, 2), ("19 sweeps", 2), ("70 sweeps", 7), ("9 minutes", 2)):
        assert most_chains(FitOptions(samples=5, thin=2, budget=budget)) == chains
    spent = Seconds(1.0, 600.0, 1200.0, 512)
    assert "up to 20.0 min" in longest_words(spent)
    assert not longest_words(spent._replace(longest=600.0))


def test_a_class_of_ones_own(particles, tmp_path):
    page = Path(__file__).resolve().parents[2] / "docs" / "own_molecule.md"
    code = page.read_text().split("```python\n")[1].split("```")[0]
    model = tmp_path / "model.toml"
    model.write_text('[model]\ntype = "own_ball:Ball"\n[model.arguments]\ntravel_angstrom = 9.0\n')
    (tmp_path / "own_ball.py").write_text(code)
    result = check(model, particles, "--no-timing")
    assert result.exit_code == 0, result.output
    assert "hermitian" in result.output and "wrong" not in result.output
    broken = code.replace("jnp.exp(-2j", "1j * jnp.exp(-2j")  # no real density
    (tmp_path / "own_wrong.py").write_text(broken)
    model.write_text(model.read_text().replace("own_ball", "own_wrong"))
    result = check(model, particles, "--no-timing")
    assert result.exit_code == 1
    assert "wrong" in result.output and "hermitian" in result.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[model]\nbasis = 'spline'\n", "basis 'spline' is not known"),
        ("[[model.part]]\nname = 'a'\n", "part 'a' of the model has no region"),
        ("[model]\nresolution_angstrom = 1.0\n", "does not fit a box of 24 px"),
        ("[model]\ntype = 'nowhere:X'\n", "module nowhere is not found"),
    ],
)
def test_errors_before_compute(particles, tmp_path, text, said):
    (tmp_path / "model.toml").write_text(text)
    result = check(tmp_path / "model.toml", particles)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ") and said in result.output
    assert len(result.output.splitlines()) == 1


def test_outlines_stand_where_the_region_is():
    for turned, sign in ((False, 1.0), (True, -1.0)):
        place = Place((), HALF_TURN) if turned else Place()
        mask = Mask(soft_ball(CENTRES[1], RADII[1]), PIXEL)
        for region in (Ball(CENTRES[1], RADII[1] + 3.0), mask):
            values = inside(region, place, 48, PIXEL / 2)
            z, y, x = np.argwhere(values > 0.5).mean(axis=0) - 24
            wanted = (sign * CENTRES[1][0], sign * CENTRES[1][1], CENTRES[1][2])
            assert np.allclose(np.array([x, y, z]) * PIXEL / 2, wanted, atol=1.0)


@pytest.mark.slow
def test_particles_without_poses_are_checked_for_a_search(particles, tmp_path):
    """No pose is read, and the forecast is made with the search's own first stage."""
    blocks = starfile.read(particles, always_dict=True)
    poses = [name for name in blocks["particles"] if "Angle" in name or "Origin" in name]
    blocks["particles"] = blocks["particles"].drop(columns=[n for n in poses if "Defocus" not in n])
    bare = particles.with_name("bare.star")
    starfile.write(blocks, bare, overwrite=True)
    model = tmp_path / "model.toml"
    write_recipe(model, FitOptions(n_terms=2, poses="search", resolution_angstrom=12.0))
    result = check(model, bare)
    assert result.exit_code == 0, result.output
    assert "min for the whole fit" in result.output
