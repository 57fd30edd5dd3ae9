"""Motions that were put together in the wrong order."""

from pathlib import Path as FilePath
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

from hypermol.analysis.truth import Truth, load_truth
from hypermol.data.source import ParticleSource
from hypermol.fitting.blocks.choice import sweep_blocks
from hypermol.fitting.chain import ChainFiles
from hypermol.fitting.fit import _Bench, _Job
from hypermol.fitting.found import Found, load_found
from hypermol.fitting.level import Levels
from hypermol.fitting.schedules import make_schedule
from hypermol.fitting.tears import ORDERS, Path, may_be_torn, path_of
from hypermol.imaging.blocks import from_blocks
from hypermol.io.store import RunDirectory
from hypermol.molecule.gallery import pretzel
from hypermol.recipe.options import FitOptions, make_design
from hypermol.simulation import MoleculeSource, Noise, Poses, Settings, simulate, write_dataset
from standing import standing

N, BOX, PIXEL, CUT = 512, 32, 10.0, 0.45
#: Nobody is found so near to a tear, on either side.
AVOIDED = 0.08


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Levels, Truth]:
    """A pretzel's arm that curls, with the truth's poses."""
    folder = tmp_path_factory.mktemp("set")
    settings = Settings(
        n=N,
        box=BOX,
        pixel_size_angstrom=PIXEL,
        seed=3,
        noise=Noise(snr=1.0),
        poses=Poses(shift_sd_angstrom=0.0),
    )
    write_dataset(folder, simulate(MoleculeSource(pretzel(arms=1)), settings))
    particles = ParticleSource(folder / "truth" / "truth.star", image_dir=folder).load()
    options = FitOptions(n_terms=5)
    design = make_design(options, BOX, PIXEL)
    kmax = max(stage.kmax for stage in make_schedule(options, particles, design))
    return Levels(particles, options, design, kmax), load_truth(folder)


def torn_states(truth: Truth, order: str) -> tuple[np.ndarray, float]:
    """The truth's states [N] in another order, as a start leaves them, and where they are torn."""
    states = np.asarray(ORDERS[order](jnp.asarray(truth.states[:, 0]), CUT))
    tear = 1.0 - CUT if order == "pieces changed over" else CUT
    below = states * (tear - AVOIDED) / tear
    above = 1.0 - (1.0 - states) * (1.0 - tear - AVOIDED) / (1.0 - tear)
    return (states if order == "as it was" else np.where(states < tear, below, above)), tear


def stage_of(levels: Levels) -> Any:
    schedule = make_schedule(levels.options, levels.particles, levels.design)
    return next(stage for stage in schedule if stage.mends_tears)


@pytest.mark.parametrize("order", list(ORDERS))
def test_an_order_keeps_every_state_and_loses_none(order: str) -> None:
    even = (np.arange(2000) + 0.5) / 2000
    laid = np.asarray(ORDERS[order](jnp.asarray(even), CUT))
    np.testing.assert_allclose(np.sort(laid), even, atol=1e-3)
    pieces = [laid[even < CUT], laid[even >= CUT]]
    for piece in pieces:  # each whole, forwards or backwards
        np.testing.assert_allclose(np.abs(np.diff(piece)), 1 / 2000, atol=1e-5)


def test_the_length_of_a_path_is_that_of_a_line_or_more() -> None:
    nodes = np.linspace(0.0, 1.0, 6)
    assert abs(Path(nodes, np.full(5, 0.2**2)).length - 1.0) < 1e-12
    torn = Path(nodes, np.array([0.01, 0.01, 0.9, 0.01, 0.01]))
    assert torn.length > 4.0 and abs(torn.tear - 0.5) < 1e-12


def test_a_path_is_torn_where_pieces_were_changed_over(world: tuple[Levels, Truth]) -> None:
    levels, truth = world
    states, tear = torn_states(truth, "pieces changed over")
    level = levels.level(stage_of(levels), Found())
    state = standing(level, truth.rotations, states)
    path = path_of(level, state)
    assert path.length > 1.0  # of an even straight one, by Cauchy and Schwarz
    assert abs(path.tear - tear) < 0.1


_SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "order",
    [
        "as it was",
        "pieces changed over",
        pytest.param("first piece turned", marks=_SLOW),
        pytest.param("second piece turned", marks=_SLOW),
    ],
)
def test_pieces_are_laid_as_they_were(
    world: tuple[Levels, Truth], order: str, tmp_path: FilePath
) -> None:
    levels, truth = world
    true = truth.states[:, 0]
    torn, _ = torn_states(truth, order)
    stage = stage_of(levels)
    level = levels.level(stage, Found())
    state = standing(level, truth.rotations, torn)
    files = ChainFiles(RunDirectory.create(tmp_path / "run"), 0, 1)
    job = _Job(levels.particles, levels.options, (stage,), levels, files, lambda progress: None)
    state = job._mended(0, _Bench(stage, level, sweep_blocks(stage, level.posterior)), state)
    known = load_found(files.directory).tears
    assert known is not None and (known["0"] == []) == (order == "as it was")
    states = from_blocks(state.latents.state, N)[:, 0]
    before, after = (abs(spearmanr(x, true)[0]) for x in (torn, states))
    assert after > 0.95 if order in ("as it was", "pieces changed over") else after > before
    assert np.corrcoef(states, torn)[0, 1] > 0.0  # most run the way they ran


@pytest.mark.parametrize(
    ("basis", "asked"), [("cosine", True), ("onehot", False), ("fourier", False)]
)
def test_classes_and_circles_are_left_alone(
    world: tuple[Levels, Truth], basis: str, asked: bool
) -> None:
    particles = world[0].particles
    options = FitOptions(basis=basis, n_terms=3)
    design = make_design(options, BOX, PIXEL)
    levels = Levels(particles, options, design, world[0].kmax)
    assert may_be_torn(levels.level(stage_of(levels), Found())) is asked
