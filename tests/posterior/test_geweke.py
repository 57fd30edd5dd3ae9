"""Every sweep leaves the joint law of every kind of molecule as it is, and would be caught.

The machinery is `geweke.py`, the molecules are `geweke_worlds.py`. Quick runs take one molecule a
sweep; long ones, marked slow, all of them.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from geweke import Joint, Kind, Verdict, compare
from geweke_worlds import PRIOR, WORLDS, draw_of, generic
from hypermol.fitting.blocks import particles_anywhere
from hypermol.fitting.sweep import Block, ChainState, Data, Info, Sweep, Tuning
from hypermol.inference import ensemble
from hypermol.molecule.state_basis import Constant, Cosine, Fourier, Linear, StateBasis
from hypermol.molecule.trajectory import Hinge
from hypermol.posterior import hyper_draws, pose_priors
from hypermol.posterior.density_priors import NoPrior
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters, InverseGamma
from simulated import draw_prior

EXACT, GRADIENT = Kind("exact", "candidates"), Kind("hmc", "gradient")
WALK, MIXED = Kind("mala", "random walk"), Kind("hmc", "candidates")
ANYWHERE = Kind("exact", "candidates", anywhere=True)
JUMPS_ONLY = Kind("hmc", "candidates", anywhere=True)
KINDS = {"exact": EXACT, "gradient": GRADIENT, "walk": WALK, "mixed": MIXED}


#: Draws of the prior in quick runs.
QUICK_DRAWS = 800


def still(kind: Kind) -> Kind:
    """The same with poses held."""
    return replace(kind, moves_poses=False)


@lru_cache
def joint_of(name: str, moves_poses: bool) -> Joint:
    """A world's joint law, compiled once."""
    return Joint(WORLDS[name](), draw_of(name), moves_poses)


@lru_cache
def prior_of(name: str, moves_poses: bool, draws: int) -> np.ndarray:
    """Its marginal-conditional simulation."""
    return joint_of(name, moves_poses).marginal(draws)


def verdict(name: str, kind: Kind, draws: int, sweeps: int, sweep: Sweep | None = None) -> Verdict:
    """A sweep, the right one if not given, in a world."""
    joint = joint_of(name, kind.moves_poses)
    prior = prior_of(name, kind.moves_poses, draws)
    sweep = kind.sweep(joint.world.posterior) if sweep is None else sweep
    return compare(joint.names, prior, joint.successive(sweep, kind, sweeps, seed=2))


#: World, sweep, how many of them.
QUICK = [
    ("generic", EXACT, 1000),
    ("two knobs", WALK, 500),
    ("black box of classes", GRADIENT, 1000),
    ("misplaced", ANYWHERE, 700),
]


@pytest.mark.parametrize(("name", "kind", "sweeps"), QUICK, ids=str)
def test_sweep_leaves_the_joint_law_invariant(name: str, kind: Kind, sweeps: int):
    assert verdict(name, kind, QUICK_DRAWS, sweeps).agrees


def every_kind(name: str) -> list[str]:
    """Black boxes have no exact draw of theta."""
    return [kind for kind in KINDS if not (name.startswith("black box") and kind == "exact")]


@pytest.mark.slow
@pytest.mark.parametrize("moves_poses", [True, False], ids=["poses move", "poses fixed"])
@pytest.mark.parametrize(("name", "kind"), [(n, k) for n in WORLDS for k in every_kind(n)], ids=str)
def test_long_runs(name: str, kind: str, moves_poses: bool):
    chosen = replace(KINDS[kind], moves_poses=moves_poses)
    assert verdict(name, chosen, 6000, 6000).agrees


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uniform", "misplaced", "hinge", "classes", "black box"])
def test_long_runs_of_jumps(name: str):
    assert verdict(name, JUMPS_ONLY if name == "black box" else ANYWHERE, 6000, 6000).agrees


@pytest.mark.slow
@pytest.mark.parametrize(
    "basis", [Cosine(3), Fourier(3), Linear(), Constant()], ids=lambda b: type(b).__name__
)
def test_long_runs_of_other_state_bases(basis: StateBasis):
    joint = Joint(generic(basis), draw_prior, moves_poses=True)
    chain = joint.successive(EXACT.sweep(joint.world.posterior), EXACT, 10000, seed=6)
    assert compare(joint.names, joint.marginal(10000), chain).agrees


# planted bugs: (posterior, kind) -> a sweep with one

Plant = Callable[[Posterior, Kind], Sweep]


def wrapped(name: str, around: Callable[[Block], Any]) -> Plant:
    """The right sweep with another step of one of its blocks; its tuning is the same."""

    def plant(posterior: Posterior, kind: Kind) -> Sweep:
        right = kind.sweep(posterior)
        assert any(block.name == name for block in right)
        return tuple(
            replace(block, step=around(block)) if block.name == name else block for block in right
        )

    return plant


def seeing(change: Callable[[Hyperparameters], Hyperparameters]) -> Any:
    """A block that takes mu for something else."""

    def around(block: Block) -> Any:
        def step(key: Array, state: ChainState, tuning: Tuning, data: Data) -> tuple:
            moved, info = block.step(key, state._replace(mu=change(state.mu)), tuning, data)
            return moved._replace(mu=state.mu), info

        return step

    return around


#: Noise of twice the variance; states that are all as likely.
HOT = seeing(lambda mu: mu._replace(noise_variance=2.0 * mu.noise_variance))
EVEN = seeing(lambda mu: mu._replace(occupancy=jnp.full_like(mu.occupancy, 1 / len(mu.occupancy))))


def keeping_contrast(block: Block) -> Any:
    """Poses and states drawn with the contrast integrated out, and the old contrast kept."""

    def step(key: Array, state: ChainState, tuning: Tuning, data: Data) -> tuple[ChainState, Info]:
        moved, info = block.step(key, state, tuning, data)
        kept = moved.latents._replace(contrast=state.latents.contrast)
        return moved._replace(latents=kept), info

    return step


def tilt_forgotten(posterior: Posterior, kind: Kind) -> Sweep:
    """theta without its density prior."""
    return kind.sweep(replace(posterior, density_prior=NoPrior()))


def other_gain(posterior: Posterior, kind: Kind) -> Sweep:
    """A black box whose gain is expected elsewhere."""
    molecule: Any = posterior.molecule
    return kind.sweep(replace(posterior, molecule=molecule.with_gain(molecule.log_gain + 1.5)))


CANDIDATES, WALKS = "particles by candidates", "particles by random walk"
PLANTED: list[Any] = [
    ("generic", EXACT, wrapped("theta", HOT), "hot theta"),
    ("classes", WALK, wrapped(WALKS, EVEN), "even occupancy"),
    ("black box of classes", GRADIENT, other_gain, "other gain"),
    ("black box", MIXED, other_gain, "other gain with candidates"),
    ("positive", still(EXACT), tilt_forgotten, "no tilt"),
    ("two knobs", WALK, wrapped(WALKS, HOT), "hot walks"),
    (
        "black box of classes",
        GRADIENT,
        wrapped("particles by gradient", EVEN),
        "even occupancy of classes",
    ),
]
QUICK_BUGS = ("hot theta", "other gain")


def marked(case: tuple) -> Any:
    if case[-1] in QUICK_BUGS:
        return pytest.param(*case[:-1], 600, id=case[-1])
    return pytest.param(*case[:-1], 2000, id=case[-1], marks=pytest.mark.slow)


@pytest.mark.parametrize(("name", "kind", "plant", "sweeps"), [marked(case) for case in PLANTED])
def test_planted_bug_is_caught(name: str, kind: Kind, plant: Plant, sweeps: int):
    joint = joint_of(name, kind.moves_poses)
    assert not verdict(name, kind, QUICK_DRAWS, sweeps, plant(joint.world.posterior, kind)).agrees


def test_half_plane_weight_forgotten_is_caught(monkeypatch: pytest.MonkeyPatch):
    """Noise from one half plane's residuals, its prior scale untouched."""
    right = hyper_draws.residual_power
    monkeypatch.setattr(hyper_draws, "residual_power", lambda *given: 0.5 * right(*given))
    assert not verdict("generic", EXACT, QUICK_DRAWS, 300).agrees


@pytest.mark.slow
def test_a_trajectory_without_its_prior_is_caught(monkeypatch: pytest.MonkeyPatch):
    joint, kind = joint_of("hinge", False), still(MIXED)
    prior = prior_of("hinge", False, QUICK_DRAWS)
    monkeypatch.setattr(Hinge, "log_prior", lambda self, parameters: jnp.zeros(()))
    chain = joint.successive(kind.sweep(joint.world.posterior), kind, 600, seed=2)
    assert not compare(joint.names, prior, chain).agrees


@pytest.mark.slow
def test_an_old_contrast_is_caught():
    """By a long run only: poses and states hardly depend on it."""
    posterior = joint_of("generic", True).world.posterior
    planted = wrapped(CANDIDATES, keeping_contrast)(posterior, EXACT)
    assert not verdict("generic", EXACT, 6000, 6000, planted).agrees


@pytest.mark.slow
def test_pose_widths_of_two_axes_are_caught(monkeypatch: pytest.MonkeyPatch):
    right = hyper_draws.draw_rotation_width

    def fewer(rng, mu, squares, particles, prior):
        return right(rng, mu, squares, particles * 2.0 / 3.0, prior)

    monkeypatch.setattr(hyper_draws, "draw_rotation_width", fewer)
    assert not verdict("generic", EXACT, 6000, 3000).agrees


@pytest.mark.slow
def test_contrasts_about_zero_are_caught(monkeypatch: pytest.MonkeyPatch):
    def about_zero(key, linear, gram, precision):
        total = gram + precision
        return linear / total + jax.random.normal(key, linear.shape) / jnp.sqrt(total)

    monkeypatch.setattr(ensemble, "draw_contrast", about_zero)
    assert not verdict("generic", EXACT, QUICK_DRAWS, 600).agrees


@pytest.mark.slow
@pytest.mark.parametrize("bug", [False, True], ids=["right", "dropped"])
def test_haar_measure_dropped_is_caught(monkeypatch: pytest.MonkeyPatch, bug: bool):
    """Poses so wide that rotation vectors see the curvature; the right sweep agrees there."""
    wide = replace(PRIOR, pose=InverseGamma(50.0, 50.0 * 0.75**2))
    joint = Joint(generic(Cosine(2), wide), draw_prior, moves_poses=True)
    prior = joint.marginal(12000)
    if bug:
        monkeypatch.setattr(pose_priors, "log_pose", without_haar)
    chain = joint.successive(GRADIENT.sweep(joint.world.posterior), GRADIENT, 12000, seed=2)
    assert compare(joint.names, prior, chain).agrees is not bug


def without_haar(quaternion: Array, consensus: Array, sd_rad: Array) -> Array:
    """Planted: the density of the rotation vector, taken for the rotation's."""
    vector = pose_priors.pose_vector(quaternion, consensus)
    return -0.5 * jnp.sum(vector**2, axis=-1) / sd_rad**2 - 3.0 * jnp.log(sd_rad)


@pytest.mark.slow
def test_proposals_taken_for_even_are_caught(monkeypatch: pytest.MonkeyPatch):
    def even(cells, chance, sd_px, poses):
        return jnp.zeros(poses.quaternion.shape[:-1])

    monkeypatch.setattr(particles_anywhere, "log_proposal", even)
    assert not verdict("uniform", ANYWHERE, QUICK_DRAWS, 1000).agrees
