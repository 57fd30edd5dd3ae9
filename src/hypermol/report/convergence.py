"""Have the chains converged: R-hat and effective sample sizes of everything worth asking."""

import warnings
from typing import NamedTuple

import numpy as np

from hypermol.analysis.diagnostics import bulk_ess, split_rhat
from hypermol.analysis.run import Run
from hypermol.report.particles import arc

#: Vehtari et al. (2021) ask for 1.01; below 1.05 the bands are usable, above 1.1 they are not.
RHAT_GOOD, RHAT_USABLE = 1.01, 1.05
ESS_PER_CHAIN = 100
_PARTICLES = 200
_MIN_DRAWS = 4


class Convergence(NamedTuple):
    """R-hat and ESS of a group of quantities.

    Attributes:
        name: of the group.
        n: quantities in the group.
        rhat: median and worst.
        ess: median and least.
        group: "shared", "density" or "particles".
    """

    name: str
    n: int
    rhat: tuple[float, float]
    ess: tuple[float, float]
    group: str


def _group(name: str, draws: np.ndarray, group: str) -> Convergence | None:
    """Diagnostics of draws [chains, draws, ...]; None where nothing moves."""
    flat = draws.reshape(*draws.shape[:2], -1).astype(np.float64)
    if draws.shape[1] < _MIN_DRAWS:
        return None
    flat = flat[..., np.ptp(flat, axis=(0, 1)) > 0]
    if flat.shape[-1] == 0:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        rhat, ess = split_rhat(flat), bulk_ess(flat)
    rhat, ess = rhat[np.isfinite(rhat)], ess[np.isfinite(ess)]
    if rhat.size == 0 or ess.size == 0:
        return None
    return Convergence(
        name,
        flat.shape[-1],
        (float(np.median(rhat)), float(rhat.max())),
        (float(np.median(ess)), float(ess.min())),
        group,
    )


def convergence_table(run: Run, functionals: np.ndarray, seed: int = 0) -> list[Convergence]:
    """Diagnostics by group; empty when there are fewer than four draws per chain.

    Args:
        run: the run.
        functionals: [chains, draws, m] random linear functionals of the density.
        seed: of the choice of particles.
    """
    rng = np.random.default_rng(seed)
    n = run.info["n_particles"]
    chosen = np.sort(rng.choice(n, min(_PARTICLES, n), replace=False))
    rows = [
        _group("density: random functionals", functionals, "density"),
        _group("prior level of each term", run.stacked("level"), "shared"),
        _group("noise variance, mean of shells", _mean_noise(run), "shared"),
        _group("contrast spread", run.stacked("contrast_sd"), "shared"),
    ]
    if run.info["poses"] != "fixed":
        rows += [
            _group("pose spread (rotation)", run.stacked("pose_sd_rad"), "shared"),
            _group("pose spread (shift)", run.stacked("shift_sd_px"), "shared"),
            _group("particle shifts", run.stacked("shift_px")[:, :, chosen], "particles"),
        ]
    if run.info["state_space"] != "point":
        states = run.stacked("state")[:, :, chosen, 0]
        if run.info["state_space"] == "circle":
            centre = np.angle(np.exp(2j * np.pi * states).mean(axis=(0, 1))) / (2 * np.pi)
            states = arc(states - centre)
        rows += [
            _group("occupancy of each bin", run.stacked("occupancy"), "shared"),
            _group("particle states", states, "particles"),
        ]
    return [row for row in rows if row is not None]


def _mean_noise(run: Run) -> np.ndarray:
    return run.stacked("noise_variance")[..., 1:].mean(axis=-1)


def chain_agreement(run: Run) -> float | None:
    """Least correlation between two chains' mean states; None with one chain or one state.

    For circles it is the mean cosine of the angle between them: chains that differ by an offset
    or by the circle's direction disagree, because their samples must not be pooled.
    """
    if len(run.chains) < 2 or run.info["state_space"] == "point":
        return None
    states = run.stacked("state")[..., 0]
    if run.info["state_space"] == "circle":
        phases = np.exp(2j * np.pi * states).mean(axis=1)
        phases = phases / np.maximum(np.abs(phases), 1e-12)
        pairs = [np.mean((a * b.conj()).real) for a, b in _pairs(phases)]
    else:
        pairs = [np.corrcoef(a, b)[0, 1] for a, b in _pairs(states.mean(axis=1))]
    return float(np.min(pairs))


def _pairs(rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(rows[i], rows[j]) for i in range(len(rows)) for j in range(i)]
