"""Every knob of a run against every knob of the truth, gauges taken out."""

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from hypermol.analysis.chains import run_knobs
from hypermol.analysis.dependence import correlation, dependence, measure_of
from hypermol.analysis.knobs import Knob, circular_mean, class_index
from hypermol.analysis.run import Run
from hypermol.analysis.state_gauge import StateGauge, find_gauge, molecule_roles
from hypermol.analysis.states import angular_correlation, circular_correlation


def score_knobs(
    run: Run, true_knobs: tuple[Knob, ...], states: np.ndarray, true: np.ndarray
) -> dict[str, Any]:
    """Match the knobs of run and truth, take out their gauges, and compare.

    Knobs are matched one to one by their correlations. Directions, origins and orders of classes
    are those of best agreement, one for all copies of a part, for these share their coefficients.

    Args:
        run: whose states these are.
        true_knobs: of the truth.
        states: [S, N, dim] sampled.
        true: [N, d] true.

    Returns:
        names, the matrix of correlations, numbers of each matched knob, and of every two knobs
        the dependence found and the truth's.
    """
    knobs = run_knobs(run)
    matrix = _correlations(knobs, true_knobs, states, true)
    matched = _match(matrix)
    gauge = _gauge(run, knobs, true_knobs, matched, (states, true))
    aligned = gauge.apply(states)
    return {
        "names": [knob.name for knob in knobs],
        "true_names": [knob.name for knob in true_knobs],
        "correlations": [[float(value) for value in row] for row in matrix],
        "matched": [
            _one_knob(
                knobs[own],
                true_knobs[other],
                _particle_states(knobs[own], aligned[..., own]),
                true[:, other],
            )
            | {"direction": gauge.knobs[own].direction}
            for own, other in matched.items()
        ],
        "joint": _joint(knobs, true_knobs, matched, aligned, true),
    }


def _particle_states(knob: Knob, states: np.ndarray) -> np.ndarray:
    """One state [N] for each particle, of draws [S, N]: mean, direction or most frequent class."""
    if n := len(knob.labels):
        shares = np.eye(n)[class_index(states, n)].mean(axis=0)
        return (shares.argmax(axis=1) + 0.5) / n
    if knob.kind == "circle":
        return circular_mean(states)
    return states.mean(axis=0)


def _correlations(
    knobs: tuple[Knob, ...], true_knobs: tuple[Knob, ...], states: np.ndarray, true: np.ndarray
) -> np.ndarray:
    """[dim, d]; nan where the two live on different kinds of space."""
    matrix = np.full((len(knobs), len(true_knobs)), np.nan)
    for knob in knobs:
        own = _particle_states(knob, states[..., knob.column])
        for other in true_knobs:
            if knob.kind == other.kind:
                matrix[knob.column, other.column] = correlation(
                    knob, other, own, true[:, other.column]
                )
    return matrix


def _match(matrix: np.ndarray) -> dict[int, int]:
    """The truth's knob of each knob that has one."""
    # a pair of different kinds is worth less than none
    pairs = linear_sum_assignment(np.nan_to_num(np.abs(matrix), nan=-1.0), maximize=True)
    return {int(a): int(b) for a, b in zip(*pairs, strict=True) if np.isfinite(matrix[a, b])}


def _gauge(
    run: Run,
    knobs: tuple[Knob, ...],
    true_knobs: tuple[Knob, ...],
    matched: dict[int, int],
    sampled: tuple[np.ndarray, np.ndarray],
) -> StateGauge:
    """What takes the run's states to the truth's, the truth standing for another chain."""
    states, true = sampled
    reference = np.array(states)
    for own, other in matched.items():
        if len(knobs[own].labels) == len(true_knobs[other].labels):
            reference[..., own] = true[:, other]
    roles = [family._replace(exchangeable=False) for family in molecule_roles(run.molecule, knobs)]
    return find_gauge(knobs, roles, states, reference)


def _one_knob(knob: Knob, other: Knob, own: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    """Numbers of a matched knob's states [N], in the truth's gauge."""
    found: dict[str, Any] = {"knob": knob.name, "truth": other.name, "kind": knob.kind}
    found["measure"] = measure_of(knob, other)
    found["correlation"] = correlation(knob, other, own, true)
    if knob.kind == "classes":
        n = len(knob.labels)
        alike = class_index(own, n) == class_index(true, n)
        # classes of different numbers have no one to one order
        found["accuracy"] = float(np.mean(alike)) if n == len(other.labels) else None
        return found
    gap = own - true
    if knob.kind == "circle":
        gap = gap - np.rint(gap)
        found["circular_rank_correlation"] = circular_correlation(own, true)
        found["angular_correlation"] = angular_correlation(own, true)
    found["error_median"] = float(np.median(np.abs(gap)))
    return found


def _joint(
    knobs: tuple[Knob, ...],
    true_knobs: tuple[Knob, ...],
    matched: dict[int, int],
    aligned: np.ndarray,
    true: np.ndarray,
) -> list[dict[str, Any]]:
    """Of every two matched knobs how strongly they go together, and how strongly they should."""
    report = []
    for first in matched:
        for second in (own for own in matched if own > first):
            found = dependence(
                knobs[first], knobs[second], aligned[..., first], aligned[..., second]
            )
            a, b = matched[first], matched[second]
            report.append(
                {
                    "knobs": [knobs[first].name, knobs[second].name],
                    "measure": found.measure,
                    "mean": found.mean,
                    "sd": found.sd,
                    "chance": found.chance,
                    "true": correlation(true_knobs[a], true_knobs[b], true[:, a], true[:, b]),
                }
            )
    return report
