"""Are a run's error bars honest against known truth? Coverage of its central intervals."""

from typing import Any, NamedTuple

import numpy as np

from hypermol.analysis.chains import iterate_samples, n_samples
from hypermol.analysis.coverage import (
    Coverage,
    circular_interval_coverage,
    interval_coverage,
    rotation_coverage,
)
from hypermol.analysis.particle_summary import rotation_matrices
from hypermol.analysis.run import Run
from hypermol.analysis.score_frames import Frames
from hypermol.analysis.states import StateMap, match_distributions
from hypermol.analysis.truth import Truth

#: Coverage is of these many particles at most, evenly spread, and of these many draws.
_MAX_PARTICLES = 20_000
_MAX_DRAWS = 400
#: Of intervals and bands.
LEVELS = (0.5, 0.9)


def _numbers(coverage: Coverage) -> dict[str, Any]:
    """Fraction of truths inside the 50 % and the 90 % interval, pooled over components."""
    pooled = coverage.fraction.reshape(len(coverage.levels), -1)
    report: dict[str, Any] = {"n": coverage.n}
    for place, level in enumerate(coverage.levels):
        report[f"{100 * level:.0f}"] = float(pooled[place].mean())
        if pooled.shape[1] > 1:
            report[f"{100 * level:.0f}_components"] = [float(v) for v in pooled[place]]
    return report


class KnobPair(NamedTuple):
    """A knob that both have: their columns, and -1 where the run's runs backwards."""

    name: str
    column: int
    true_column: int
    direction: int


class Drawn(NamedTuple):
    """What draws are compared by, beside frames.

    Attributes:
        states: [S, N, dim] sampled, in the order of each particle's equivalent.
        turns: [N, 3, 3] take each particle's poses to that equivalent (`equivalent_poses`): R S^T.
        state_map: of one state that both have; None where there is none.
        knobs: of several, those on intervals.
    """

    states: np.ndarray
    turns: np.ndarray
    state_map: StateMap | None
    knobs: tuple[KnobPair, ...]


def knob_pairs(knobs: dict[str, Any] | None) -> tuple[KnobPair, ...]:
    """Of what `score_knobs` found, the pairs on intervals."""
    if knobs is None:
        return ()
    return tuple(
        KnobPair(
            found["knob"],
            knobs["names"].index(found["knob"]),
            knobs["true_names"].index(found["truth"]),
            found["direction"],
        )
        for found in knobs["matched"]
        if found["kind"] == "interval"
    )


def score_coverage(
    run: Run, truth: Truth, frames: Frames, drawn: Drawn, chosen: np.ndarray
) -> dict[str, Any]:
    """Coverage of central 50 % and 90 % intervals: rotation, shift, contrast, states.

    Rotation and shift are left out where the poses were fixed. Contrast is compared relative to
    its mean (the overall scale is a gauge). Draws that are correlated within a chain make
    intervals too short: read it with the effective sample size.

    Args:
        run: with samples.
        truth: of its particles.
        frames: take poses to the truth's.
        drawn: states, and what takes them to the truth's.
        chosen: bool [N], the particles that it is told of; of more than `_MAX_PARTICLES` as many,
            evenly.
    """
    rows = np.flatnonzero(chosen)
    few = np.linspace(0, len(rows) - 1, min(len(rows), _MAX_PARTICLES)).astype(int)
    rows = rows[np.unique(few)]
    report = _pose_coverage(run, truth, frames, drawn.turns, rows)
    true, thinned = truth.states, drawn.states[:: _thinning(len(drawn.states))][:, rows]
    if drawn.state_map is not None:
        states = (drawn.states[..., 0], thinned[..., 0])
        report |= _state_coverage(*states, true[:, 0], drawn.state_map, rows)
    if drawn.knobs:
        report["knobs"] = {}
    for name, own, other, direction in drawn.knobs:
        found = match_distributions(drawn.states[..., own], true[:, other], direction)
        inside = interval_coverage(found(thinned[..., own]), true[rows, other], LEVELS)
        report["knobs"][name] = _numbers(inside)
    return report


def _thinning(n_draws: int) -> int:
    return max(-(-n_draws // _MAX_DRAWS), 1)


def _pose_coverage(
    run: Run, truth: Truth, frames: Frames, turns: np.ndarray, rows: np.ndarray
) -> dict[str, Any]:
    """Of rotation and shift, and of contrast."""
    thin = _thinning(n_samples(run))
    draws: dict[str, list[np.ndarray]] = {"rotation": [], "shift": [], "contrast": []}
    size = run.info["pixel_size_angstrom"]
    own = frames.take(rows)
    for place, sample in enumerate(iterate_samples(run, "quaternion", "shift_px", "contrast")):
        if place % thin:
            continue
        arrays = sample.arrays
        rotations = rotation_matrices(arrays["quaternion"][rows])
        shifts = arrays["shift_px"][rows].astype(np.float64) * size
        rotations, shifts = own.apply((rotations @ np.swapaxes(turns[rows], -1, -2), shifts))
        contrast = arrays["contrast"].astype(np.float64)
        draws["rotation"].append(rotations)
        draws["shift"].append(shifts)
        draws["contrast"].append(contrast[rows] / contrast.mean())
    stacked = {name: np.stack(values) for name, values in draws.items()}
    report: dict[str, Any] = {"n_draws": len(stacked["shift"])}
    if run.info["poses"] != "fixed":
        report["rotation"] = _numbers(
            rotation_coverage(stacked["rotation"], truth.rotations[rows], LEVELS)
        )
        report["shift"] = _numbers(
            interval_coverage(stacked["shift"], truth.shifts_angstrom[rows], LEVELS)
        )
    report["contrast"] = _numbers(
        interval_coverage(stacked["contrast"], truth.intensity[rows], LEVELS)
    )
    return report


def _state_coverage(
    states: np.ndarray, some: np.ndarray, true: np.ndarray, state_map: StateMap, rows: np.ndarray
) -> dict[str, Any]:
    """Of one state: draws [S, N], and `some` of them, of the particles `rows`.

    After the map from volumes and, on an interval, after the map that matches distributions
    (`match_distributions`, of all particles): the first holds the volumes' error besides the
    states'.
    """
    wanted = true[rows]
    if state_map.topology == "circle":
        return {"state": _numbers(circular_interval_coverage(state_map(some), wanted, LEVELS))}
    maps = {
        "state": state_map,
        "state_by_distribution": match_distributions(states, true, state_map.direction),
    }
    return {
        name: _numbers(interval_coverage(one(some), wanted, LEVELS)) for name, one in maps.items()
    }
