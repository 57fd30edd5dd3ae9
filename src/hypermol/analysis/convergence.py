"""Convergence of a run: split R-hat, bulk and tail ESS of everything that is monitored."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from hypermol.analysis.chains import (
    aligned_states,
    has_states,
    knob_occupancy,
    n_samples,
    run_knobs,
)
from hypermol.analysis.diagnostics import bulk_ess, split_rhat, tail_ess
from hypermol.analysis.functionals import density_functionals
from hypermol.analysis.knobs import numbers
from hypermol.analysis.run import Run

_SCALARS = ("level", "pose_sd_rad", "shift_sd_px", "contrast_sd", "noise_variance")
_MIN_DRAWS = 4
_MAX_PARTICLES = 1000
#: What is measured of every quantity, and which of two values is the worse.
_MEASURES: dict[str, Callable[[float, float], bool]] = {
    "rhat": operator.gt,
    "bulk_ess": operator.lt,
    "tail_ess": operator.lt,
}
#: Usual advice: R-hat below 1.01, bulk and tail ESS of at least 100 a chain (Vehtari et al. 2021).
_TARGET_RHAT, _TARGET_ESS_PER_CHAIN = 1.01, 100.0


def monitored(run: Run) -> dict[str, np.ndarray]:
    """Quantities [chains, draws, ...] that convergence is judged by.

    The scalars and per-shell noise of mu, 50 random linear functionals of the
    density, and by knob the occupancy and the states of up to 1000 particles (cosine and sine on
    a circle, membership in classes); names of several knobs follow in brackets.
    """
    misplaced = ("misplaced", "misplaced_shift_sd_px") if run.info["poses"] == "rescue" else ()
    names = (*_SCALARS, *misplaced)
    stacked = {name: run.stacked(name) for name in names}
    # a molecule of the user's own has no levels
    values = {name: draws for name, draws in stacked.items() if draws.size}
    values["density_functional"] = density_functionals(run).values
    if not has_states(run):
        return values
    states = aligned_states(run)
    states = states[:, :, :: max(states.shape[2] // _MAX_PARTICLES, 1)]
    knobs = run_knobs(run)
    for knob in knobs:
        suffix = f"[{knob.name}]" if len(knobs) > 1 else ""
        values[f"occupancy{suffix}"] = knob_occupancy(run, knob)
        numbered = numbers(knob, states[..., knob.column])
        values[f"particle_state{suffix}"] = numbered.reshape(*states.shape[:2], -1)
    return values


def diagnose(run: Run) -> dict[str, Any]:
    """Number of samples, and R-hat and ESS of each monitored quantity, as JSON holds them.

    Quantities that never move (fixed poses' width, say) have no R-hat and are left out of the
    worst. With fewer than 4 draws a chain there is nothing to judge, and the numbers are null.
    """
    chains = run.stacked("pose_sd_rad").shape[:2]
    report: dict[str, Any] = {
        "n_chains": chains[0],
        "n_draws_per_chain": chains[1],
        "n_samples": n_samples(run),
        "finished": bool(run.info.get("finished", False)),
        "quantities": {},
        "worst": {key: None for name in _MEASURES for key in (name, f"{name}_of")},
        "converged": False,
    }
    if chains[1] < _MIN_DRAWS:
        report["remark"] = f"fewer than {_MIN_DRAWS} draws a chain: convergence cannot be judged"
        return report
    worst = report["worst"]
    for name, draws in monitored(run).items():
        found = _judge(draws)
        if found is None:
            continue
        report["quantities"][name] = found
        for measure, is_worse in _MEASURES.items():
            value = found[f"{measure}_worst"]
            if value is not None and (worst[measure] is None or is_worse(value, worst[measure])):
                worst[measure], worst[f"{measure}_of"] = value, name
    target_ess = _TARGET_ESS_PER_CHAIN * chains[0]
    report["converged"] = bool(
        all(worst[measure] is not None for measure in _MEASURES)
        and worst["rhat"] < _TARGET_RHAT
        and min(worst["bulk_ess"], worst["tail_ess"]) >= target_ess
    )
    return report


def _judge(draws: np.ndarray) -> dict[str, Any] | None:
    """Number, and worst and median of each measure, of the quantities [chains, draws, ...] that
    move; None where none does."""
    rhat, bulk, tail = (
        np.atleast_1d(measure(draws)).ravel() for measure in (split_rhat, bulk_ess, tail_ess)
    )
    moving = np.isfinite(rhat) & np.isfinite(bulk)
    if not moving.any():
        return None
    # a quantity that sits at both of its tails' quantiles has no tail to judge
    tail = tail[moving & np.isfinite(tail)]
    return {
        "n": int(moving.sum()),
        "rhat_worst": float(rhat[moving].max()),
        "rhat_median": float(np.median(rhat[moving])),
        "bulk_ess_worst": float(bulk[moving].min()),
        "bulk_ess_median": float(np.median(bulk[moving])),
        "tail_ess_worst": float(tail.min()) if len(tail) else None,
        "tail_ess_median": float(np.median(tail)) if len(tail) else None,
    }
