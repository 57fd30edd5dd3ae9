"""A search's map turned to where a model of the user's own stands, and a whole search for one."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.analysis.gauge import Gauge
from hypermol.analysis.run import load_run
from hypermol.analysis.truth import load_truth
from hypermol.data.source import ParticleSource
from hypermol.fitting.fit import fit
from hypermol.fitting.found import Found, load_found
from hypermol.fitting.frames import rigid_theta, turned, turned_onto
from hypermol.fitting.level import Level, Levels
from hypermol.fitting.march import first_state
from hypermol.fitting.schedules import make_schedule
from hypermol.fitting.sweep import ChainState
from hypermol.molecule.protocol import Molecule
from hypermol.recipe.options import FitOptions, make_design
from hypermol.recipe.own_class import load_model
from hypermol.report import write_report
from hypermol.simulation import MoleculeSource, Noise, Poses, Settings, simulate, write_dataset
from hypermol.space.rotation import angle_between, matrix_from_quaternion

BOX, PIXEL = 32, 6.0

MODULE = '''
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np

from hypermol.space.state_space import Interval, StateSpace

PLACES = [[45, 0, 0], [-10, 40, 5], [0, -25, 35], [-15, -20, -40], [20, 25, -20]]


@dataclass(frozen=True)
class Swinging:
    """Five unequal balls of which no reflection is a rotation; the state turns the first one by
    up to `theta` radians about z either way."""

    state_space: StateSpace = field(default_factory=Interval)

    def init(self, key):
        return jnp.asarray(0.4)

    def fourier(self, theta, k, tau):
        angle = theta * (2.0 * tau[0] - 1.0)
        places = jnp.asarray(PLACES, jnp.float32)
        places = places.at[0].set(45.0 * jnp.stack([jnp.cos(angle), jnp.sin(angle), 0.0]))
        masses = jnp.asarray([1.4, 0.8, 1.2, 0.7, 0.9])
        waves = jnp.exp(-2j * np.pi * (k @ places.T))
        return jnp.exp(-2.0 * np.pi**2 * 9.0**2 * jnp.sum(k**2, axis=-1)) * (waves @ masses)

    def log_prior(self, theta):
        return -0.5 * ((theta - 0.4) / 0.5) ** 2
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of a swing of 1 radian, and the module."""
    folder = tmp_path_factory.mktemp("swinging")
    (folder / "own_swinging.py").write_text(MODULE)
    settings = Settings(
        n=1200,
        box=BOX,
        pixel_size_angstrom=PIXEL,
        noise=Noise(snr=0.5),
        poses=Poses(shift_sd_angstrom=PIXEL),
    )
    source = MoleculeSource(model(folder), jnp.asarray(1.0))
    write_dataset(folder / "data", simulate(source, settings))
    return folder


def model(folder: Path) -> Molecule:
    return load_model("own_swinging:Swinging", {}, folder)


def options(folder: Path) -> FitOptions:
    return FitOptions(
        type="own_swinging:Swinging",
        folder=str(folder),
        resolution_angstrom=16.0,
        poses="search",
        trials=1,
        chains=1,
        burn_in=6,
        samples=8,
    )


def rigid(folder: Path) -> tuple[Level, ChainState, np.ndarray]:
    """The level whose map is turned, a chain that knows the model there, and the model's map."""
    given = options(folder)
    particles = ParticleSource(folder / "data" / "particles.star").load()
    design = make_design(given, particles.box, particles.pixel_size_angstrom)
    stage = next(s for s in make_schedule(given, particles, design) if s.finds_frame)
    levels = Levels(particles, given, design, stage.kmax)
    level = levels.level(stage, Found())
    own = design.molecule(levels.grid(stage, Found()), design.n_terms)
    density = own.mean(own.init(jax.random.key(0)))
    state = first_state(level)
    quaternion = jax.random.normal(jax.random.key(1), state.latents.quaternion.shape)
    quaternion = quaternion / jnp.linalg.norm(quaternion, axis=-1, keepdims=True)
    contrast = jnp.ones_like(state.latents.contrast)
    latents = state.latents._replace(quaternion=quaternion, contrast=contrast)
    return level, state._replace(theta=rigid_theta(level, density), latents=latents), density


def images(level: Level, state: ChainState) -> np.ndarray:
    """Of the first block."""
    latents = jax.tree.map(lambda x: x[0], state.latents)
    prepared = level.molecule.prepare(state.theta)
    return np.asarray(level.posterior.predict(prepared, latents, level.data.images.ctf[0]))


GAUGE = Gauge(Rotation.from_rotvec([0.4, -0.9, 0.5]).as_matrix(), np.array([6.0, -4.0, 3.0]))


@pytest.mark.parametrize("flipped", [False, True])
def test_a_molecule_and_its_poses_turn_together(folder: Path, flipped: bool) -> None:
    level, state, _ = rigid(folder)
    before = images(level, state)
    moved = images(level, turned(level, state, replace(GAUGE, flipped=flipped)))
    assert np.linalg.norm(moved - before) < 0.03 * np.linalg.norm(before)
    other = turned(level, state, replace(GAUGE, flipped=not flipped))
    wrong = other._replace(theta=turned(level, state, replace(GAUGE, flipped=flipped)).theta)
    assert np.linalg.norm(images(level, wrong) - before) > 0.3 * np.linalg.norm(before)


@pytest.mark.parametrize("flipped", [False, True])
def test_a_map_is_laid_onto_the_model(folder: Path, flipped: bool) -> None:
    level, state, density = rigid(folder)
    away = turned(level, state, replace(GAUGE, flipped=flipped))
    back, standing = turned_onto(level, away, density)
    assert standing.agreement > 0.95 and standing.mirrored == flipped and standing.is_clear
    first, second = (matrix_from_quaternion(s.latents.quaternion) for s in (state, back))
    assert angle_between(np.asarray(first[0]), np.asarray(second[0])).max() < 3.0


def test_a_model_that_does_not_tell_its_frame_leaves_the_map_alone(folder: Path) -> None:
    level, state, density = rigid(folder)
    noise = np.random.default_rng(0).normal(size=density.shape)
    left, standing = turned_onto(level, state, noise)
    assert not standing.is_clear and left is state


def angles(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """In degrees, as they are."""
    return angle_between(np.asarray(matrix_from_quaternion(jnp.asarray(found))), true)


def best_share(found: np.ndarray, true: np.ndarray) -> float:
    """Share within 25 degrees after the best of the rotations that take one particle to its own."""
    matrices = np.asarray(matrix_from_quaternion(jnp.asarray(found)))
    gauges = [np.swapaxes(true[i], 0, 1) @ matrices[i] for i in range(0, len(true), 12)]
    return max(float(np.mean(angle_between(matrices @ g.T, true) < 25.0)) for g in gauges)


@pytest.mark.slow
def test_a_model_of_ones_own_is_searched_from_nothing(folder: Path, tmp_path: Path) -> None:
    """No gauge is taken out: poses come out in the model's own frame.

    How many are found is the search's matter: this molecule swings by two thirds of a right angle
    either way, and 0.43 have their place in its rigid map, 0.49 in the end.
    """
    source = ParticleSource(folder / "data" / "particles.star")
    run = load_run(fit(source, tmp_path / "run", options(folder)).path)
    frame = load_found(run.directory).frame
    assert frame is not None and frame.is_clear
    truth = load_truth(folder / "data")
    last = run.stacked("quaternion")[0, -1]
    as_it_is = float(np.mean(angles(last, truth.rotations) < 25.0))
    print(as_it_is, best_share(last, truth.rotations), frame)
    assert as_it_is > 0.35
    assert as_it_is > 0.95 * best_share(last, truth.rotations)
    assert "Frame of the model" in write_report(run).read_text()
