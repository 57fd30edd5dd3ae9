"""Convergence of a run: split R-hat and bulk ESS of everything that is monitored."""

from typing import Any

import numpy as np

from hypermol.analysis.chains import (
    aligned_states,
    has_states,
    knob_occupancy,
    n_samples,
    run_knobs,
)
from hypermol.analysis.diagnostics import bulk_ess, split_rhat
from hypermol.analysis.functionals import density_functionals
from hypermol.analysis.knobs import numbers
from hypermol.analysis.run import Run

_SCALARS = ("level", "pose_sd_rad", "shift_sd_px", "contrast_sd", "noise_variance")
_MIN_DRAWS = 4
_MAX_PARTICLES = 1000
#: Usual advice: R-hat below 1.01 and bulk ESS of at least 100 a chain (Vehtari et al. 2021).
_TARGET_RHAT, _TARGET_ESS_PER_CHAIN = 1.01, 100.0


def monitored(run: Run) -> dict[str, np.ndarray]:
    """Quantities [chains, draws, ...] that convergence is judged by.

    The scalars and per-shell noise of mu, 50 random linear functionals of the
    density, and by knob the occupancy and the states of up to 1000 particles (cosine and sine on
    a circle, membership in classes); names of several knobs follow in brackets.
    """
    stacked = {name: run.stacked(name) for name in _SCALARS}
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
        "worst": {"rhat": None, "rhat_of": None, "bulk_ess": None, "bulk_ess_of": None},
        "converged": False,
    }
    if chains[1] < _MIN_DRAWS:
        report["remark"] = f"fewer than {_MIN_DRAWS} draws a chain: convergence cannot be judged"
        return report
    worst = report["worst"]
    for name, draws in monitored(run).items():
        rhat, ess = np.atleast_1d(split_rhat(draws)).ravel(), np.atleast_1d(bulk_ess(draws)).ravel()
        moving = np.isfinite(rhat) & np.isfinite(ess)
        if not moving.any():
            continue
        high, low = float(rhat[moving].max()), float(ess[moving].min())
        report["quantities"][name] = {
            "n": int(moving.sum()),
            "rhat_worst": high,
            "rhat_median": float(np.median(rhat[moving])),
            "bulk_ess_worst": low,
            "bulk_ess_median": float(np.median(ess[moving])),
        }
        if worst["rhat"] is None or high > worst["rhat"]:
            worst["rhat"], worst["rhat_of"] = high, name
        if worst["bulk_ess"] is None or low < worst["bulk_ess"]:
            worst["bulk_ess"], worst["bulk_ess_of"] = low, name
    report["converged"] = bool(
        worst["rhat"] is not None
        and worst["rhat"] < _TARGET_RHAT
        and worst["bulk_ess"] >= _TARGET_ESS_PER_CHAIN * chains[0]
    )
    return report
