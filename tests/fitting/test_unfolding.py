"""A motion half of which was taken for mirror images of the other half."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from scipy.stats import spearmanr

from hypermol.analysis import hands
from hypermol.analysis.truth import Truth, load_truth
from hypermol.data.source import ParticleSource
from hypermol.fitting.chain import ChainFiles
from hypermol.fitting.fit import _Bench, _Job
from hypermol.fitting.found import Found, Unfolding, load_found
from hypermol.fitting.level import Level, Levels
from hypermol.fitting.schedules import make_schedule
from hypermol.fitting.sweep import ChainState
from hypermol.fitting.unfolding import unfolded
from hypermol.imaging.blocks import from_blocks
from hypermol.io.store import RunDirectory
from hypermol.recipe.design import consensus
from hypermol.recipe.options import FitOptions, make_design
from hypermol.simulation import MoleculeSource, Noise, Poses, Settings, simulate, write_dataset
from hypermol.space.rotation import matrix_from_quaternion
from hypermol.space.state_space import Interval, StateSpace
from standing import standing

N, BOX, PIXEL = 384, 24, 8.0
#: z -> -z, over which images are projected; and the plane that the body is symmetric about.
PROJECTED, MIRROR = np.diag([1.0, 1.0, -1.0]), np.diag([1.0, -1.0, 1.0])
#: Largest true state that the folded motion reaches.
REACH = 0.6


@final
@dataclass(frozen=True)
class Nodder:
    """A body that is its own mirror image in y but for `extra`, and a head that turns about z, to
    the mirror image of where it was.

    Attributes:
        extra: mass of a ball beside the plane.
    """

    extra: float
    state_space: StateSpace = field(default_factory=Interval)

    def init(self, key: Array) -> Array:
        """Nothing is unknown."""
        return jnp.zeros(0)

    def fourier(self, theta: Array, k: Array, tau: Array) -> Array:
        """Complex [n] at k [n, 3] in 1/Angstrom."""
        angle = 3.6 * (tau[0] - 0.5)
        head = jnp.stack([42.0 * jnp.cos(angle), 42.0 * jnp.sin(angle), jnp.asarray(38.0)])
        body = [[0, 0, 0], [-32, 24, -28], [-32, -24, -28], [28, 20, -42], [28, -20, -42]]
        places = jnp.concatenate([jnp.asarray([*body, [-48, 34, 26]], jnp.float32), head[None]])
        masses = jnp.asarray([1.5, 1.0, 1.0, 0.8, 0.8, self.extra, 1.2])
        waves = jnp.exp(-2j * np.pi * (k @ places.T))
        return jnp.exp(-2.0 * np.pi**2 * 13.0**2 * jnp.sum(k**2, axis=-1)) * (waves @ masses)

    def log_prior(self, theta: Array) -> Array:
        """Flat."""
        return jnp.zeros(())


def dataset(folder: Path, extra: float) -> tuple[ParticleSource, Truth]:
    settings = Settings(
        n=N,
        box=BOX,
        pixel_size_angstrom=PIXEL,
        seed=3,
        noise=Noise(snr=1.0),
        poses=Poses(shift_sd_angstrom=0.0),
    )
    write_dataset(folder, simulate(MoleculeSource(Nodder(extra)), settings))
    return ParticleSource(folder / "truth" / "truth.star", image_dir=folder), load_truth(folder)


def folded(source: ParticleSource, truth: Truth) -> tuple[Level, ChainState, Levels]:
    """What a search finds: the motion up to `REACH`, the rest as mirror images of it."""
    options, particles = FitOptions(n_terms=4, poses="search"), source.load()
    design = make_design(options, BOX, PIXEL)
    stage = next(s for s in make_schedule(options, particles, design) if s.name == "states, medium")
    levels = Levels(particles, options, design, stage.kmax)
    level = levels.level(stage, Found())
    tau, rng = truth.states[:, 0], np.random.default_rng(4)
    side = np.where(np.abs(tau - 0.5) < REACH - 0.5, rng.random(N) < 0.5, tau > 0.5)
    rotations = np.where(side[:, None, None], PROJECTED @ truth.rotations @ MIRROR, truth.rotations)
    known = np.where(side, 1.0 - tau, tau) / REACH
    return level, standing(level, rotations, known), levels


def rigid(level: Level, levels: Levels) -> object:
    stage = next(
        s
        for s in make_schedule(levels.options, levels.particles, levels.design)
        if s.kmax == level.form.kmax
    )
    return consensus(levels.grid(stage, Found()))


def after_the_test_of_hands(
    level: Level, state: ChainState, levels: Levels, out: Path
) -> tuple[ChainState, Unfolding]:
    """What a fit goes on with after the stage that tests hands, and what it keeps of it."""
    schedule = make_schedule(levels.options, levels.particles, levels.design)
    stage = next(s for s in schedule if s.kmax == level.form.kmax)
    files = ChainFiles(RunDirectory.create(out), 0, 1)
    job = _Job(levels.particles, levels.options, schedule, levels, files, lambda progress: None)
    state = job._of_one_hand(0, _Bench(stage, level, ()), state)
    known = load_found(files.directory).unfolding
    assert known is not None
    return state, known["0"]


def test_a_folded_motion_is_unfolded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the ball is heavy, so that a few hundred images tell: less alike than what a search folds
    monkeypatch.setattr(hands, "_OWN_MIRROR", 0.5)
    source, truth = dataset(tmp_path / "set", extra=1.0)
    level, state, levels = folded(source, truth)
    before = from_blocks(np.asarray(state.latents.state), N)[:, 0]
    assert abs(spearmanr(before, truth.states[:, 0])[0]) < 0.2
    state, standing = after_the_test_of_hands(level, state, levels, tmp_path / "run")
    assert standing.is_clear
    assert standing.turn == pytest.approx(1.0 / REACH, abs=0.1)
    after = from_blocks(np.asarray(state.latents.state), N)[:, 0]
    assert abs(spearmanr(after, truth.states[:, 0])[0]) > 0.85
    # poses of the side that was moved are those of one molecule with the others
    found = np.asarray(matrix_from_quaternion(from_blocks(state.latents.quaternion, N)))
    turns = np.einsum("nji,njk->nik", truth.rotations, found)
    mirrored = np.einsum("nji,njk->nik", PROJECTED @ truth.rotations @ MIRROR, found)
    both = turns, mirrored
    alike = [max(np.mean(_apart(all_, one) < 15.0) for one in all_[:20]) for all_ in both]
    assert max(alike) > 0.85


def _apart(rotations: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Angles in degrees."""
    cosine = (np.einsum("nij,ij->n", rotations, one) - 1.0) / 2.0
    return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))


def test_what_is_its_own_mirror_image_has_no_sides(tmp_path: Path) -> None:
    source, truth = dataset(tmp_path / "set", extra=0.0)
    level, state, levels = folded(source, truth)
    same, standing = unfolded(level, state, rigid(level, levels))
    assert not standing.is_clear
    assert same is state


def test_sides_that_are_no_mirror_images_are_not_clear_and_are_kept(tmp_path: Path) -> None:
    standing = Unfolding(gain=3.0, gain_error=0.1, mirrored_difference=0.1, turn=1.0)
    assert not standing.is_clear
    directory = RunDirectory.create(tmp_path / "run")
    Found(unfolding={"0": standing}).save(directory)
    assert load_found(directory).unfolding == {"0": standing}
