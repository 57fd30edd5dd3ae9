"""Populations of a run against the true one, with their bands."""

from typing import Any

import numpy as np

from hypermol.analysis.chains import aligned_occupancy, pooled_states
from hypermol.analysis.occupancy import Population, population, populations_at_valley
from hypermol.analysis.run import Run
from hypermol.analysis.score_coverage import LEVELS
from hypermol.analysis.states import StateMap
from hypermol.analysis.truth import Truth


def _inverse(state_map: StateMap, value: float) -> float:
    """The estimated state that an interval's map takes to `value`: first crossing on a grid."""
    grid = np.linspace(0.0, 1.0, 2001)
    mapped = state_map(grid)
    rising = mapped if state_map.direction > 0 else mapped[::-1]
    place = int(np.searchsorted(rising, value))
    here = grid if state_map.direction > 0 else grid[::-1]
    return float(here[min(place, len(grid) - 1)])


def _band(result: Population, true: float) -> dict[str, Any]:
    report: dict[str, Any] = {"mean": result.mean}
    for place, level in enumerate(result.levels):
        low, high = float(result.lower[place]), float(result.upper[place])
        report[f"lower_{100 * level:.0f}"], report[f"upper_{100 * level:.0f}"] = low, high
        report[f"truth_inside_{100 * level:.0f}"] = bool(low <= true <= high)
    return report


def _from_draws(draws: np.ndarray) -> Population:
    levels = np.asarray(LEVELS)
    return Population(
        float(draws.mean()),
        levels,
        np.quantile(draws, (1 - levels) / 2),
        np.quantile(draws, (1 + levels) / 2),
    )


def score_populations(run: Run, truth: Truth, state_map: StateMap) -> dict[str, Any] | None:
    """Fraction of the population below the truth's valley, three ways, against the true fraction.

    - `particles`: sampled states, mapped to the truth's parameter and cut at the truth's valley.
      Bands speak of these particles.
    - `own_valley`: sampled states cut at the valley of the run's own distribution, no truth used
      but for which side is which. Null where the run's distribution has one peak.
    - `model`: the sampled occupancy, cut where the state map says the truth's valley is. Bands
      speak of the population that the particles were drawn from.

    Args:
        run: of an interval state.
        truth: of the run's particles.
        state_map: from the run's state to the truth's.

    Returns:
        None where the truth has one peak.
    """
    true = truth.states[:, 0]
    try:
        valley = populations_at_valley(true)
    except ValueError:
        return None
    fraction = float(np.mean(true < valley.boundary))
    draws = pooled_states(run)[..., 0]
    limits = (-np.inf, valley.boundary)
    report: dict[str, Any] = {
        "boundary": valley.boundary,
        "true_fraction": fraction,
        "particles": _band(population(state_map(draws), limits, about="particles"), fraction),
        "own_valley": None,
    }
    lower_side = state_map.direction > 0
    try:
        own = populations_at_valley(draws).boundary
        span = (-np.inf, own) if lower_side else (own, np.inf)
        report["own_valley"] = {"boundary": own} | _band(
            population(draws, span, about="particles"), fraction
        )
    except ValueError:
        pass
    cut = _inverse(state_map, valley.boundary)
    below = _cumulative(aligned_occupancy(run), cut)
    report["model"] = {"boundary": cut} | _band(
        _from_draws(below if lower_side else 1.0 - below), fraction
    )
    return report


def _cumulative(probabilities: np.ndarray, state: float) -> np.ndarray:
    """Probability [S] below a state, of bin probabilities [..., B], even within each bin."""
    n_bins = probabilities.shape[-1]
    flat = probabilities.reshape(-1, n_bins)
    below = np.concatenate([np.zeros((len(flat), 1)), np.cumsum(flat, axis=1)], axis=1)
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    return np.array([np.interp(state, edges, row) for row in below])
