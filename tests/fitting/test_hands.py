"""Figure 5 of the paper: a molecule and its reflection as two states, told and resolved."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from hypermol.analysis.chains import pooled_states
from hypermol.analysis.gauge import align_poses, pose_errors
from hypermol.analysis.hands import HandStanding, judge_hands, states_apart
from hypermol.analysis.run import load_run
from hypermol.analysis.truth import load_truth
from hypermol.analysis.volumes import mean_state_grids
from hypermol.data.source import ParticleSource
from hypermol.fitting import fit as fit_module
from hypermol.fitting import schedules, stages
from hypermol.fitting.blocks.choice import sweep_blocks
from hypermol.fitting.fit import Progress, fit
from hypermol.fitting.found import Found, load_found
from hypermol.fitting.hands import begun_again
from hypermol.fitting.level import Level, Levels
from hypermol.fitting.schedules import make_schedule
from hypermol.fitting.sweep import ChainState, init_tunings, run_sweep
from hypermol.imaging.blocks import from_blocks
from hypermol.io.star import read_particles_star
from hypermol.io.star_write import write_particles_star
from hypermol.recipe.options import FitOptions, make_design
from hypermol.report import write_report
from hypermol.simulation import MoleculeSource, Noise, Poses, Settings, simulate, write_dataset
from hypermol.space.rotation import matrix_from_quaternion
from hypermol.space.state_space import Interval, StateSpace

N, BOX, PIXEL = 320, 24, 8.0
MIRROR = np.diag([1.0, 1.0, -1.0])


@final
@dataclass(frozen=True)
class Propeller:
    """Five unequal balls of which no reflection is a rotation; the state does nothing."""

    state_space: StateSpace = field(default_factory=Interval)

    def init(self, key: Array) -> Array:
        """Nothing is unknown."""
        return jnp.zeros(0)

    def fourier(self, theta: Array, k: Array, tau: Array) -> Array:
        """Complex [n] at k [n, 3] in 1/Angstrom."""
        places = [[45, 0, 0], [-10, 40, 5], [0, -25, 35], [-15, -20, -40], [20, 25, -20]]
        masses = jnp.asarray([1.0, 0.8, 1.2, 0.7, 0.9])
        waves = jnp.exp(-2j * np.pi * (k @ jnp.asarray(places, jnp.float32).T))
        return jnp.exp(-2.0 * np.pi**2 * 11.0**2 * jnp.sum(k**2, axis=-1)) * (waves @ masses)

    def log_prior(self, theta: Array) -> Array:
        """Flat."""
        return jnp.zeros(())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of one hand; the poses of a random half are such as its mirror image would have."""
    folder = tmp_path_factory.mktemp("data") / "set"
    settings = Settings(
        n=N,
        box=BOX,
        pixel_size_angstrom=PIXEL,
        noise=Noise(snr=0.3),
        poses=Poses(shift_sd_angstrom=4.0),
    )
    write_dataset(folder, simulate(MoleculeSource(Propeller()), settings))
    truth = read_particles_star(folder / "truth" / "truth.star")
    half = np.random.default_rng(1).random(N) < 0.5
    # R' = J R J of the flipped molecule: J only reverses the axis that is projected over
    mirrored = np.where(half[:, None, None], MIRROR @ truth.rotations @ MIRROR, truth.rotations)
    write_particles_star(folder / "mixed.star", truth, rotations=mirrored)
    return folder


def hand_of(rotations: np.ndarray, true: np.ndarray) -> np.ndarray:
    """bool [N]: particles that lie within 25 degrees of the truth of the better hand."""
    nothing = np.zeros((len(true), 2))
    gauge = align_poses((rotations, nothing), (true, nothing))
    return pose_errors(gauge, (rotations, nothing), (true, nothing))[0] < 25.0


@pytest.mark.slow
def test_a_molecule_and_its_reflection_become_two_states_and_one_state_places_all(
    folder: Path, tmp_path: Path
) -> None:
    options = FitOptions(n_terms=3, chains=1, burn_in=4, samples=4)
    source = ParticleSource(folder / "mixed.star", image_dir=folder)
    run = load_run(fit(source, tmp_path / "mixed", options).path)
    true = load_truth(folder).rotations
    assert np.mean(hand_of(source.load().rotations, true)) < 0.75
    states = states_apart(pooled_states(run)[-1])
    grids = mean_state_grids(run, states)
    standing = judge_hands(states, grids)
    assert standing.is_mixed
    assert "mirror images" in write_report(run).read_text()

    # a search begins again with the strongest state's map
    again = replace(options, poses="search", n_terms=5)
    particles = source.load().without_poses()
    design = make_design(again, BOX, PIXEL)
    stage = next(s for s in make_schedule(again, particles, design) if s.begins == "of one hand")
    level = Levels(particles, again, design, stage.kmax).level(stage, Found())
    strongest = int(np.argmin(((states - standing.states[0]) ** 2).sum(axis=1)))
    state = begun_again(level, grids[strongest])
    blocks = sweep_blocks(stage, level.posterior)
    tunings = init_tunings(blocks, state, level.data)
    state, _ = run_sweep(jax.random.key(0), blocks, state, tunings, level.data)
    found = matrix_from_quaternion(from_blocks(state.latents.quaternion, N))
    assert np.mean(hand_of(np.asarray(found, np.float64), true)) > 0.7


@pytest.mark.slow
def test_a_search_of_mixed_hands_begins_again_and_a_stopped_one_ends_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (schedules, stages):
        monkeypatch.setattr(module, "SEARCH_LEVELS", (4, 5))
    monkeypatch.setattr(schedules, "_SEARCH_SWEEPS", (2, 2))
    told = []

    def mixed(level: Level, state: ChainState) -> HandStanding:
        told.append(level)
        return HandStanding([[0.2], [0.8]], [0.5], [0.9])

    monkeypatch.setattr(fit_module, "hands_of", mixed)
    options = FitOptions(
        n_terms=5, poses="search", trials=1, chains=2, burn_in=2, samples=1, checkpoint_every=1
    )

    def stop(at: Progress) -> None:
        if at.stage.name == "consensus map, one hand" and at.record["sweep"] % 2:
            raise RuntimeError

    source = ParticleSource(folder / "particles.star", image_dir=folder)
    whole = fit(source, tmp_path / "whole", options)
    names = list(dict.fromkeys(line["stage"] for line in whole.read_trace()))
    place = names.index("search, everywhere, one hand")
    assert names[place - 1] == "states, 3 terms" and names[place + 1] == "consensus map, one hand"
    assert names[-3:] == ["states, medium", "states, fine", "sampling"] and len(told) == 1
    assert load_found(whole).is_mixed(0)
    with pytest.raises(RuntimeError):
        fit(source, tmp_path / "stopped", options, stop)
    resumed = fit(source, tmp_path / "stopped", options, resume=True)
    for name in whole.sample_names(0) + whole.sample_names(1):
        one, other = whole.read_arrays(name), resumed.read_arrays(name)
        assert all(np.array_equal(one[key], other[key]) for key in one)
    assert "began again" in write_report(load_run(whole.path)).read_text()
