"""Chains that are one another in another gauge of several knobs."""

import numpy as np
import pandas as pd
import pytest

from hypermol.analysis.chains import (
    aligned_occupancy,
    aligned_states,
    chains_of_swapped_copies,
    knob_occupancy,
    run_knobs,
    state_gauges,
)
from hypermol.analysis.convergence import monitored
from hypermol.analysis.functionals import density_functionals
from hypermol.analysis.particle_summary import summarise_particles
from hypermol.analysis.run import Run, load_run
from hypermol.analysis.state_gauge import molecule_roles
from hypermol.analysis.summary import particle_columns, write_occupancy
from hypermol.analysis.volumes import state_volumes
from knob_runs import ARMS, MIXED, TWO_KNOBS, product_run
from runs import FakeRun, write_run

DRAWS, N = 5, 60


def drawn_states(dim: int) -> np.ndarray:
    """[1, draws, N, dim] about particles' own states, away from the ends."""
    rng = np.random.default_rng(1)
    centre = rng.uniform(0.1, 0.9, (N, dim))
    return np.clip(centre + rng.normal(0, 0.02, (1, DRAWS, N, dim)), 0.02, 0.98)


def as_chain(run: Run, maps: np.ndarray, own_to_first) -> np.ndarray:
    """Maps [..., F, n, n, n] that give the same density at a chain's own states."""
    own = np.random.default_rng(2).random((400, run.state_space.dim))
    mixing = np.linalg.lstsq(run.weights(own), run.weights(own_to_first(own)), rcond=None)[0]
    return np.einsum("fg,...gzyx->...fzyx", mixing, maps)


def two_chains(fake: FakeRun, second: np.ndarray) -> None:
    """Repeat the only chain of a run, with other states in the repeat."""
    for name in ("maps", "rotations", "shift_px", "contrast", "occupancy"):
        setattr(fake, name, np.concatenate([getattr(fake, name)] * 2))
    fake.state = np.concatenate([fake.state, second])


@pytest.fixture(scope="module")
def two_knobs(tmp_path_factory) -> tuple[Run, Run]:
    """Twice the same chain; and the second with its knobs swapped, one of them turned round."""
    folder = tmp_path_factory.mktemp("two_knobs")
    rng = np.random.default_rng(3)
    state = drawn_states(2)
    maps = rng.normal(size=(1, DRAWS, 6, 12, 12, 12))
    fake = product_run(TWO_KNOBS, state, maps, rng.dirichlet(np.ones(16), (1, DRAWS)))
    two_chains(fake, state)
    plain = load_run(write_run(folder / "plain", fake))
    own = np.stack([1.0 - state[..., 1], state[..., 0]], axis=-1)
    fake.state = np.concatenate([state, own])

    def back(tau: np.ndarray) -> np.ndarray:
        return np.stack([tau[..., 1], 1.0 - tau[..., 0]], axis=-1)

    fake.maps = np.concatenate([maps, as_chain(plain, maps, back)])
    joint = fake.occupancy[1].reshape(DRAWS, 4, 4)
    fake.occupancy = fake.occupancy.copy()
    fake.occupancy[1] = joint.swapaxes(1, 2)[:, ::-1].reshape(DRAWS, 16)
    return plain, load_run(write_run(folder / "turned", fake))


def test_a_swap_and_a_reflection_are_found(two_knobs):
    gauge = state_gauges(two_knobs[1])[1]
    assert gauge.source == (1, 0)
    assert [knob.direction for knob in gauge.knobs] == [1, -1]
    states = np.random.default_rng(0).random((7, 2))
    assert np.allclose(gauge.apply(gauge.inverse(states)), states)


def test_everything_is_as_if_nothing_had_been_turned(two_knobs):
    plain, turned = two_knobs
    assert np.allclose(aligned_states(turned), aligned_states(plain), atol=1e-6)
    assert np.allclose(aligned_occupancy(turned), aligned_occupancy(plain), atol=1e-6)
    states = np.array([[0.1, 0.8], [0.6, 0.3]])
    first, second = state_volumes(plain, states), state_volumes(turned, states)
    assert np.allclose(first.mean, second.mean, atol=1e-4)
    assert np.allclose(first.sd, second.sd, atol=1e-4)
    values = [density_functionals(run).values for run in two_knobs]
    assert np.allclose(*values, atol=1e-4)
    assert np.allclose(
        summarise_particles(plain).state, summarise_particles(turned).state, atol=1e-6
    )


def test_every_knob_is_monitored_and_written(two_knobs):
    run = two_knobs[1]
    values = monitored(run)
    assert {"particle_state[bend]", "particle_state[twist]"} <= set(values)
    assert values["occupancy[twist]"].shape == (2, DRAWS, 4)
    first, second = run_knobs(run)
    joint = aligned_occupancy(run)
    assert np.allclose(knob_occupancy(run, first), joint.sum(axis=3))
    assert np.allclose(knob_occupancy(run, second), joint.sum(axis=2))
    table = pd.read_csv(write_occupancy(run))
    twist = table[table.knob == "twist"]
    assert len(table) == 8
    assert np.allclose(twist.model_mean, 4 * joint.sum(axis=2).mean(axis=(0, 1)), atol=1e-5)
    columns = particle_columns(run, summarise_particles(run))
    mean = aligned_states(run)[..., 1].mean(axis=(0, 1))
    assert np.allclose(columns["hypermolState2Mean"], mean, atol=1e-6)


def mixed_run(folder, move) -> Run:
    """An interval, a circle and three classes, the second chain's states moved."""
    rng = np.random.default_rng(4)
    state = drawn_states(3)
    state[..., 2] = (np.floor(3 * state[:, :1, :, 2]) + 0.5) / 3
    maps = rng.normal(size=(1, DRAWS, 9, 8, 8, 8))
    fake = product_run(MIXED, state, maps, rng.dirichlet(np.ones(48), (1, DRAWS)))
    two_chains(fake, move(state))
    return load_run(write_run(folder / "run", fake))


def test_knobs_of_other_kinds_each_have_their_own_gauge(tmp_path):
    to = np.array([2, 0, 1])

    def move(state: np.ndarray) -> np.ndarray:
        classes = (to[np.floor(3 * state[..., 2]).astype(int)] + 0.5) / 3
        turned = np.mod(0.3 - state[..., 1], 1.0)
        return np.stack([1.0 - state[..., 0], turned, classes], axis=-1)

    run = mixed_run(tmp_path, move)
    assert [knob.kind for knob in run_knobs(run)] == ["interval", "circle", "classes"]
    gauge = state_gauges(run)[1]
    assert gauge.source == (0, 1, 2)
    assert gauge.knobs[2].classes == (1, 2, 0)
    first, second = aligned_states(run)
    assert np.allclose(first, second, atol=1e-3)


def arms_run(folder, second: np.ndarray, state: np.ndarray) -> Run:
    rng = np.random.default_rng(5)
    maps = rng.normal(size=(1, DRAWS, 7, 8, 8, 8))
    fake = product_run(ARMS, state, maps, rng.dirichlet(np.ones(16), (1, DRAWS)))
    two_chains(fake, second)
    return load_run(write_run(folder / "run", fake))


def test_copies_of_a_part_share_a_gauge(tmp_path):
    """One arm's states are noise in the second chain: it is turned round with the other's."""
    state = drawn_states(2)
    other = np.random.default_rng(6).random(state.shape[:3])
    # a little of the right direction, so that on its own the second arm would not be turned
    noise = 0.5 + 0.2 * (other - 0.5) + 0.05 * (state[..., 1] - 0.5)
    run = arms_run(tmp_path, np.stack([1.0 - state[..., 0], noise], axis=-1), state)
    assert molecule_roles(run.molecule, run_knobs(run))[0].columns == ((0, 1),)
    gauge = state_gauges(run)[1]
    assert [knob.direction for knob in gauge.knobs] == [-1, -1]
    assert chains_of_swapped_copies(run) == []


def test_swapped_copies_are_reported_and_not_undone(tmp_path):
    state = drawn_states(2)
    run = arms_run(tmp_path, state[..., ::-1], state)
    assert chains_of_swapped_copies(run) == [1]
    assert state_gauges(run)[1].source == (0, 1)
