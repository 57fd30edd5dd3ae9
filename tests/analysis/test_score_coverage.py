"""Draws about centres that are one draw away from the truth: intervals hold as they say."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.transform import Rotation

from hypermol.analysis.gauge import Gauge
from hypermol.analysis.knobs import Knob
from hypermol.analysis.run import Run, load_run
from hypermol.analysis.score_coverage import Drawn, KnobPair, knob_pairs, score_coverage
from hypermol.analysis.score_frames import Frames, one_frame
from hypermol.analysis.score_knobs import score_knobs
from knob_runs import ARMS, product_run
from runs import PIXEL_SIZE, random_rotations, write_run

N, DRAWS, POSE_SD, SHIFT_SD, STATE_SD = 600, 60, 0.03, 0.4, 0.02
#: Every third particle is nowhere near its truth.
LOST = np.arange(N) % 3 == 0
#: Bins of particles whose frames differ by 20 degrees.
GAUGES = tuple(
    Gauge(Rotation.from_rotvec([0.2, 0.35 * place, -0.1]).as_matrix(), np.array([place, 0.0, 1.0]))
    for place in range(2)
)
WHICH = np.arange(N) % 2


def frames_of(gauges: tuple[Gauge, ...]) -> Frames:
    """Each particle's gauge, in turn."""
    turns = np.stack([gauge.rotation for gauge in gauges])[WHICH]
    return Frames(turns, np.stack([gauge.shift_angstrom for gauge in gauges])[WHICH], False, 1)


FRAMES = frames_of(GAUGES)


def made_up(folder: Path) -> tuple[Run, SimpleNamespace, Drawn]:
    """A run of two knobs that go backwards, and its truth."""
    rng = np.random.default_rng(3)
    rotations, shifts = random_rotations((N,), rng), rng.normal(0.0, 3.0, (N, 2))
    back = frames_of(tuple(gauge.inverse() for gauge in GAUGES))
    own, own_shifts = back.apply((rotations, shifts))
    own = np.where(LOST[:, None, None], random_rotations((N,), rng), own)

    def turned(*shape: int) -> np.ndarray:
        turns = Rotation.from_rotvec(rng.normal(0.0, POSE_SD, (int(np.prod(shape)), 3)))
        return turns.as_matrix().reshape(*shape, 3, 3)

    states = rng.random((N, 2))
    noisy = states + rng.normal(0.0, STATE_SD, (N, 2))
    low, high = (0.0 - noisy) / STATE_SD, (1.0 - noisy) / STATE_SD  # the prior is even on [0, 1]
    shape = (1, DRAWS, N, 2)
    drawn = stats.truncnorm.rvs(low, high, noisy, STATE_SD, shape, random_state=rng)
    maps, occupancy = np.zeros((1, DRAWS, 1, 4, 4, 4)), rng.dirichlet(np.ones(16), (1, DRAWS))
    fake = product_run(ARMS, 0.9 - 0.8 * drawn, maps, occupancy)
    fake.rotations = turned(1, DRAWS, N) @ (turned(N) @ own)
    fake.shift_px = (
        own_shifts / PIXEL_SIZE
        + rng.normal(0.0, SHIFT_SD, (N, 2))
        + rng.normal(0.0, SHIFT_SD, (1, DRAWS, N, 2))
    )
    fake.poses, fake.info["n_terms"] = "search", 3
    run = load_run(write_run(folder / "run", fake))
    truth = SimpleNamespace(
        rotations=rotations, shifts_angstrom=shifts, states=states, intensity=np.ones(N)
    )
    pairs = (KnobPair("arm_1", 0, 0, -1), KnobPair("arm_2", 1, 1, -1))
    turns = np.broadcast_to(np.eye(3), (N, 3, 3))
    return run, truth, Drawn(fake.state[0].astype(np.float64), turns, None, pairs)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, SimpleNamespace, Drawn]:
    return made_up(tmp_path_factory.mktemp("coverage"))


def test_intervals_of_the_chosen_hold_in_the_frames_of_each(case):
    found = score_coverage(*case[:2], FRAMES, case[2], ~LOST)
    assert found["rotation"]["n"] == np.sum(~LOST)
    for coverage in (found["rotation"], found["shift"], *found["knobs"].values()):
        assert coverage["50"] == pytest.approx(0.5, abs=0.06)
        assert coverage["90"] == pytest.approx(0.9, abs=0.04)


def test_those_that_are_lost_and_one_frame_for_all_are_seen(case):
    everyone = score_coverage(*case[:2], FRAMES, case[2], np.ones(N, bool))
    assert everyone["rotation"]["90"] == pytest.approx(0.6, abs=0.06)
    one = score_coverage(*case[:2], one_frame(GAUGES[0], N), case[2], ~LOST)
    assert one["rotation"]["90"] < 0.75


def test_pairs_are_the_knobs_that_were_matched(case):
    run, truth, drawn = case
    knobs = tuple(Knob(name, place, "interval") for place, name in enumerate("ab"))
    assert knob_pairs(None) == ()
    found = knob_pairs(score_knobs(run, knobs, drawn.states, truth.states))
    assert set(found) == set(drawn.knobs)
