"""Are a run's error bars honest against known truth? Coverage and populations."""

from typing import Any

import numpy as np

from hypermol.analysis.chains import aligned_occupancy, iterate_samples, n_samples, pooled_states
from hypermol.analysis.coverage import (
    Coverage,
    circular_interval_coverage,
    interval_coverage,
    rotation_coverage,
)
from hypermol.analysis.gauge import Gauge, apply_to_poses
from hypermol.analysis.occupancy import Population, population, populations_at_valley
from hypermol.analysis.particle_summary import rotation_matrices
from hypermol.analysis.run import Run
from hypermol.analysis.states import StateMap, match_distributions
from hypermol.analysis.truth import Truth

#: Coverage is of these many particles at most, evenly spread, and of these many draws.
_MAX_PARTICLES = 20_000
_MAX_DRAWS = 400
_LEVELS = (0.5, 0.9)


def _numbers(coverage: Coverage) -> dict[str, Any]:
    """Fraction of truths inside the 50 % and the 90 % interval, pooled over components."""
    pooled = coverage.fraction.reshape(len(coverage.levels), -1)
    report: dict[str, Any] = {"n": coverage.n}
    for place, level in enumerate(coverage.levels):
        report[f"{100 * level:.0f}"] = float(pooled[place].mean())
        if pooled.shape[1] > 1:
            report[f"{100 * level:.0f}_components"] = [float(v) for v in pooled[place]]
    return report


def score_coverage(
    run: Run, truth: Truth, gauge: Gauge, turns: np.ndarray, state_map: StateMap | None
) -> dict[str, Any]:
    """Coverage of central 50 % and 90 % intervals: rotation, shift, contrast, state.

    `turns` [N, 3, 3] take each particle's poses to equivalent ones (`equivalent_poses`): R S^T.
    Rotation and shift are left out where the poses were fixed. Contrast is compared relative to
    its mean (the overall scale is a gauge); the state after the map from volumes and, on an
    interval, after the map that matches distributions (`match_distributions`): the first holds
    the volumes' error besides the states'. Draws that are correlated within a chain make
    intervals too short: read it with the effective sample size.
    """
    rows = np.unique(np.linspace(0, len(truth) - 1, min(len(truth), _MAX_PARTICLES)).astype(int))
    thin = max(-(-n_samples(run) // _MAX_DRAWS), 1)
    draws: dict[str, list[np.ndarray]] = {"rotation": [], "shift": [], "contrast": []}
    size = run.info["pixel_size_angstrom"]
    for place, sample in enumerate(iterate_samples(run, "quaternion", "shift_px", "contrast")):
        if place % thin:
            continue
        arrays = sample.arrays
        rotations, shifts = apply_to_poses(
            gauge,
            rotation_matrices(arrays["quaternion"][rows]) @ np.swapaxes(turns[rows], -1, -2),
            arrays["shift_px"][rows].astype(np.float64) * size,
        )
        contrast = arrays["contrast"].astype(np.float64)
        draws["rotation"].append(rotations)
        draws["shift"].append(shifts)
        draws["contrast"].append(contrast[rows] / contrast.mean())
    stacked = {name: np.stack(values) for name, values in draws.items()}
    report: dict[str, Any] = {"n_draws": len(stacked["shift"])}
    if run.info["poses"] != "fixed":
        report["rotation"] = _numbers(
            rotation_coverage(stacked["rotation"], truth.rotations[rows], _LEVELS)
        )
        report["shift"] = _numbers(
            interval_coverage(stacked["shift"], truth.shifts_angstrom[rows], _LEVELS)
        )
    report["contrast"] = _numbers(
        interval_coverage(stacked["contrast"], truth.intensity[rows], _LEVELS)
    )
    if state_map is not None:
        true, states = truth.states[rows, 0], pooled_states(run)[::thin, rows, 0]
        report |= _state_coverage(states, true, state_map)
    return report


def _state_coverage(states: np.ndarray, true: np.ndarray, state_map: StateMap) -> dict[str, Any]:
    """Coverage of true states [N] by draws [S, N] under each map there is."""
    if state_map.topology == "circle":
        return {"state": _numbers(circular_interval_coverage(state_map(states), true, _LEVELS))}
    maps = {
        "state": state_map,
        "state_by_distribution": match_distributions(states, true, state_map.direction),
    }
    return {
        name: _numbers(interval_coverage(one(states), true, _LEVELS)) for name, one in maps.items()
    }


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
    levels = np.asarray(_LEVELS)
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
