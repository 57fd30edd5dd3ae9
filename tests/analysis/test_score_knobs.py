"""Knobs of a run that are the truth's in another order and gauge."""

import numpy as np
import pytest
from scipy import stats

from hypermol.analysis.chains import pooled_states
from hypermol.analysis.knobs import Knob
from hypermol.analysis.run import Run, load_run
from hypermol.analysis.score_knobs import score_knobs
from knob_runs import ARMS, MIXED, product_run
from runs import write_run

N, DRAWS = 300, 4
THREE = ("1", "2", "3")


def run_of(folder, parts: list[dict], state: np.ndarray) -> Run:
    rng = np.random.default_rng(0)
    maps = np.zeros((1, DRAWS, 1, 4, 4, 4))
    occupancy = rng.dirichlet(np.ones(48 if state.shape[-1] == 3 else 16), (1, DRAWS))
    fake = product_run(parts, state[None], maps, occupancy)
    fake.info["n_terms"] = 3
    return load_run(write_run(folder / "run", fake))


def test_each_kind_is_matched_through_its_gauge(tmp_path):
    rng = np.random.default_rng(1)
    bend, turn, bound = rng.random(N), rng.random(N), rng.integers(0, 3, N)
    noise = rng.normal(0, 0.01, (2, DRAWS, N))
    shown = np.clip(1.0 - bend + noise[0], 0, 1), np.mod(0.2 - turn + noise[1], 1.0)
    classes = np.broadcast_to((np.array([2, 0, 1])[bound] + 0.5) / 3, (DRAWS, N))
    run = run_of(tmp_path, MIXED, np.stack([*shown, classes], axis=-1))
    knobs = (
        Knob("phase", 0, "circle"),
        Knob("class", 1, "classes", THREE),
        Knob("motion", 2, "interval"),
    )
    true = np.stack([turn, (bound + 0.5) / 3, bend], axis=-1)
    result = score_knobs(run, knobs, pooled_states(run), true)
    found = {entry["knob"]: entry for entry in result["matched"]}
    assert [found[k]["truth"] for k in ("bend", "ring", "ligand")] == ["motion", "phase", "class"]
    assert found["bend"]["direction"] == found["ring"]["direction"] == -1
    assert found["bend"]["correlation"] > 0.99 and found["ligand"]["accuracy"] == 1.0
    assert found["ring"]["circular_rank_correlation"] > 0.99
    assert max(found["bend"]["error_median"], found["ring"]["error_median"]) < 0.01
    assert np.isnan(result["correlations"][0][0])
    assert all(abs(pair["true"]) < 0.2 and abs(pair["mean"]) < 0.2 for pair in result["joint"])


def test_arms_in_another_order_keep_their_coupling(tmp_path):
    """One direction for both arms: that of their coupling is not lost in the gauge."""
    rng = np.random.default_rng(2)
    first = rng.random(N)
    true = np.stack([first, np.clip(0.7 * first + 0.3 * rng.random(N), 0, 1)], axis=-1)
    noise = rng.normal(0, 0.02, (DRAWS, N, 2))
    run = run_of(tmp_path, ARMS, np.clip(1.0 - true[:, ::-1] + noise, 0, 1))
    knobs = tuple(Knob(name, place, "interval") for place, name in enumerate("ab"))
    result = score_knobs(run, knobs, pooled_states(run), true)
    assert [(e["knob"], e["truth"], e["direction"]) for e in result["matched"]] == [
        ("arm_1", "b", -1),
        ("arm_2", "a", -1),
    ]
    (pair,) = result["joint"]
    assert pair["true"] == pytest.approx(stats.spearmanr(*true.T).statistic)
    assert pair["mean"] == pytest.approx(pair["true"], abs=0.03)
