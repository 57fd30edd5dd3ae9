"""State terms rise as long as the images tell more: what the highest explain, and a whole fit."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.analysis.run import Run, load_run
from hypermol.data.source import ParticleSource
from hypermol.fitting import fit as fit_module
from hypermol.fitting import schedules
from hypermol.fitting.fit import Progress, fit
from hypermol.fitting.found import load_found
from hypermol.fitting.level import Form, Level
from hypermol.fitting.schedules import march, rising_terms
from hypermol.fitting.stages import Plan
from hypermol.fitting.state_frequency import WORTH_NATS, highest_terms_tell
from hypermol.fitting.sweep import ChainState
from hypermol.molecule.state_basis import Cosine
from hypermol.posterior.priors import HyperPrior
from hypermol.recipe.design import Grid
from hypermol.recipe.options import FitOptions, make_design
from hypermol.report import write_report
from simulated import draw_images, draw_prior, make_world
from small_data import write_pretzel

GRID = Grid(32, 6.0, 8, 90.0)


def level_of(power_of_highest: float) -> tuple[Level, ChainState]:
    """Images of a molecule of four terms, the two highest of them so strong, and the truth."""
    world = make_world(
        Cosine(4),
        HyperPrior(n_bins=4),
        box=12,
        kmax=5,
        radius_px=3.0,
        blocks=(400, 20),
        precision=0.1,
    )
    truth = draw_prior(np.random.default_rng(0), world)
    mu = truth.mu._replace(noise_variance=jnp.full_like(truth.mu.noise_variance, 2.0))
    scale = jnp.asarray([1.0, 1.0, power_of_highest, power_of_highest])[:, None, None, None]
    maps = jax.tree.map(lambda x: x * scale, truth.theta.maps)
    truth = truth._replace(mu=mu, theta=truth.theta._replace(maps=maps))
    data = draw_images(jax.random.key(1), world, truth)
    molecule = world.posterior.molecule
    form = Form(molecule, world.posterior.plane.kmax, ())
    return Level(form, world.posterior, data, molecule.parts[0].basis), truth


def explained(level: Level, truth: ChainState) -> float:
    """Mean over images of |what their two highest terms add|^2 / sigma^2."""
    scale = jnp.asarray([0.0, 0.0, 1.0, 1.0])[:, None, None, None]
    theta = truth.theta._replace(maps=jax.tree.map(lambda x: x * scale, truth.theta.maps))
    prepared, posterior = level.molecule.prepare(theta), level.posterior
    found = jax.lax.map(
        lambda item: posterior.predict(prepared, *item),
        (truth.latents, level.data.images.ctf),
    )
    precision = 0.5 * posterior.pixel_precision(truth.mu)
    return float(jnp.mean(jnp.sum(precision * jnp.abs(found) ** 2, axis=-1)))


def test_what_the_highest_terms_explain_is_that_of_the_true_ones() -> None:
    level, truth = level_of(1.0)
    (name,) = {part for part, _ in level.molecule.term_labels}
    expected = explained(level, truth)
    assert expected > 5.0
    # a posterior mean of half the images is a little smaller than the truth
    assert highest_terms_tell(level, truth, frozenset({name})) == pytest.approx(expected, rel=0.15)
    assert highest_terms_tell(level, truth, frozenset({"another"})) == 0.0


def test_terms_that_are_not_there_explain_nothing() -> None:
    level, truth = level_of(0.0)
    (name,) = {part for part, _ in level.molecule.term_labels}
    assert abs(highest_terms_tell(level, truth, frozenset({name}))) < 0.2 * WORTH_NATS


BALL = {"radius_angstrom": 80.0}
PART = {"name": "a", "region": BALL, "state_basis": "cosine"}


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ({}, (8, 12)),
        ({"n_terms": 5}, ()),
        ({"basis": "fourier"}, (13, 19)),
        ({"basis": "haar"}, ()),
        ({"basis": "constant"}, ()),
        ({"part": (PART,)}, (8, 12)),
        ({"part": ({**PART, "n_terms": 4},)}, ()),
        ({"part": (PART, {**PART, "name": "b", "n_terms": 7})}, (10, 15)),
    ],
)
def test_terms_rise_where_nobody_gave_their_number(options: dict, terms: tuple[int, ...]) -> None:
    design = make_design(FitOptions(**options), 32, 6.0)
    assert rising_terms(design) == terms


def test_a_part_rises_and_its_neighbour_keeps_its_terms() -> None:
    circle = {"name": "c", "region": BALL, "state_basis": "fourier"}
    other = {**PART, "name": "b", "n_terms": 4}
    design = make_design(FitOptions(part=(PART, other, circle)), 32, 6.0)
    assert design.rising == {"a", "c"} and design.n_terms == 9

    def terms(n: int) -> list[int]:
        molecule = design.molecule(GRID, n)
        labels = [part for part, _ in molecule.term_labels]
        return [labels.count(name) for name in "abc"]

    assert terms(9) == [5, 4, 9] and terms(3) == [3, 3, 3]
    assert terms(14) == [14, 4, 13]  # a constant, and pairs


def test_stages_of_more_terms_come_before_the_last_level() -> None:
    stages = march(Plan(kmax=30, n_terms=5, basis="cosine", rising=(8, 12)))
    assert [(s.name, s.n_terms) for s in stages if s.rises] == [
        ("states, 8 terms", 8),
        ("states, 12 terms", 12),
    ]
    assert [s.name for s in stages if s.tests_terms] == ["states, medium", "states, 8 terms"]
    assert [s.name for s in stages if s.follows] == ["states, fine", "sampling"]
    large = replace(PLAN_OF_MANY, rising=(8, 12))
    placing = next(s for s in march(large) if s.name == "placing the others")
    assert placing.follows and not placing.rises and placing.n_terms == 5
    assert not any(s.rises or s.tests_terms or s.follows for s in march(PLAN_OF_MANY))


PLAN_OF_MANY = Plan(
    kmax=30,
    n_terms=5,
    basis="cosine",
    searches=True,
    jumps=True,
    n_particles=20000,
    subset=4000,
)

OPTIONS = FitOptions(
    radius_angstrom=110.0,
    resolution_angstrom=64.0,
    poses="fixed",
    chains=1,
    burn_in=2,
    samples=1,
    checkpoint_every=1,
)


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pretzel(tmp_path_factory.mktemp("data"))


class Stopped(Exception):
    """Somebody pulled the plug."""


def test_a_fit_goes_on_with_more_terms_or_stays(
    particles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, "_RISES", 1)
    monkeypatch.setattr(fit_module, "WORTH_NATS", np.inf)
    run = load_run(fit(ParticleSource(particles), tmp_path / "few", OPTIONS).path)
    assert run.info["n_terms"] == 5 and run.stacked("maps").shape[2] == 5
    assert "states, 8 terms" not in stages_of(run)
    monkeypatch.setattr(fit_module, "WORTH_NATS", -np.inf)

    def stop(progress: Progress) -> None:
        if progress.stage.name == "states, 8 terms":
            raise Stopped

    out = tmp_path / "many"
    with pytest.raises(Stopped):
        fit(ParticleSource(particles), out, OPTIONS, stop)
    run = load_run(fit(ParticleSource(particles), out, OPTIONS, resume=True).path)
    assert "states, 8 terms" in stages_of(run)
    found = load_found(run.directory)
    assert found.n_terms == 8 and list(found.terms_tell or {}) == ["4"]
    assert run.info["n_terms"] == 8 and run.stacked("maps").shape[2] == 8
    assert run.weights(np.full((3, 1), 0.4)).shape == (3, 8)
    assert "8 terms, left to the images" in write_report(run).read_text()


def stages_of(run: Run) -> set[str]:
    """Names of the stages that were run."""
    return {line["stage"] for line in run.directory.read_trace()}
