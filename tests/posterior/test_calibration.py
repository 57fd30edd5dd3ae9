"""Credible intervals of the real sweep hold the truth as often as they say."""

import numpy as np
import pytest

from calibration import LEVELS, Plan, coverage_rows, make_machine, run_repetition

#: Fewer data sets than `benchmarks/coverage.py`, whose table is the full claim.
PLAN = Plan(repetitions=4)


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    """[repetitions, levels] by quantity."""
    machine = make_machine(PLAN)
    each = [coverage_rows(run_repetition(machine, PLAN, seed)) for seed in range(PLAN.repetitions)]
    return {name: np.array([row[name] for row in each]) for name in each[0]}


@pytest.mark.slow
def test_intervals_cover(rows: dict[str, np.ndarray]):
    for name, fractions in rows.items():
        half, most = fractions.mean(axis=0)
        print(f"{name:24s} {100 * half:5.1f} %  {100 * most:5.1f} %")
        assert LEVELS == (0.5, 0.9)
        assert 0.85 < most < 0.95, name
        assert 0.42 < half < 0.58, name
