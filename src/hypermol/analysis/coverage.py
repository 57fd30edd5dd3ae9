"""Are credible intervals honest? Coverage fractions and simulation-based calibration ranks."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy
from scipy.spatial.transform import Rotation


class Coverage(NamedTuple):
    """How often central credible intervals hold the truth.

    Attributes:
        levels: [L] nominal levels.
        fraction: [L] or [L, components] observed fractions.
        lower: Wilson 95 % lower limits, like `fraction`.
        upper: Wilson 95 % upper limits, like `fraction`.
        n: number of truths behind each fraction.
    """

    levels: np.ndarray
    fraction: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    n: int


def wilson_interval(
    successes: np.ndarray, trials: int, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval for a binomial fraction.

    Args:
        successes: [...] counts.
        trials: how many.
        level: confidence.

    Returns:
        lower [...] and upper [...].
    """
    z2 = scipy.stats.norm.ppf(0.5 + level / 2.0) ** 2
    fraction = np.asarray(successes, dtype=np.float64) / trials
    centre = (fraction + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = fraction * (1 - fraction) / trials + z2 / (4 * trials**2)
    half = np.sqrt(z2 * spread) / (1 + z2 / trials)
    return centre - half, centre + half


def _inside(samples: np.ndarray, truth: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """bool [L, ...]: is the truth within the central interval of the samples [S, ...]?"""
    tails = np.concatenate([(1 - levels) / 2, (1 + levels) / 2])
    # ranks (S + 1) p make the interval's expected coverage nominal for a finite S
    bounds = np.quantile(samples, tails, axis=0, method="weibull")
    return (bounds[: len(levels)] <= truth) & (truth <= bounds[len(levels) :])


def _summarise(inside: np.ndarray, levels: np.ndarray) -> Coverage:
    """Fractions over axis 1 of inside [L, M] or [L, M, components]."""
    trials = inside.shape[1]
    counts = inside.sum(axis=1)
    lower, upper = wilson_interval(counts, trials)
    return Coverage(levels, counts / trials, lower, upper, trials)


def interval_coverage(
    samples: np.ndarray, truth: np.ndarray, levels: Sequence[float] = (0.5, 0.9)
) -> Coverage:
    """Coverage of central credible intervals, pooled over all quantities.

    Intervals use the (S + 1) p order statistics, so that S exact posterior draws cover at the
    nominal rate. At least 2 / (1 - level) draws are needed for that; 39 or more for 0.95.

    Args:
        samples: [S, ...] posterior draws (chains joined).
        truth: [...].
        levels: nominal levels.
    """
    chosen = np.asarray(levels, dtype=np.float64)
    draws = np.asarray(samples, dtype=np.float64)
    inside = _inside(draws, np.asarray(truth, dtype=np.float64), chosen)
    return _summarise(inside.reshape(len(chosen), -1), chosen)


def circular_interval_coverage(
    samples: np.ndarray,
    truth: np.ndarray,
    levels: Sequence[float] = (0.5, 0.9),
    period: float = 1.0,
) -> Coverage:
    """Coverage for periodic quantities: the circle is cut opposite each posterior's mean direction.

    Args:
        samples: [S, ...] posterior draws, any representative modulo `period`.
        truth: [...].
        levels: nominal levels.
        period: length of the circle.
    """
    turns = np.asarray(samples, dtype=np.float64) / period
    centre = np.angle(np.exp(2j * np.pi * turns).mean(axis=0)) / (2 * np.pi)
    around = np.asarray(truth, dtype=np.float64) / period - centre
    unwrapped = turns - centre
    return interval_coverage(unwrapped - np.rint(unwrapped), around - np.rint(around), levels)


def mean_rotation(rotations: np.ndarray) -> np.ndarray:
    """Chordal mean [..., 3, 3] over axis 0: the rotation nearest to the mean matrix."""
    return Rotation.from_matrix(rotations).mean(axis=0).as_matrix()


def rotation_coverage(
    samples: np.ndarray, truth: np.ndarray, levels: Sequence[float] = (0.5, 0.9)
) -> Coverage:
    """Coverage of rotations, per component of the rotation vector about the posterior mean.

    With M the chordal mean of a particle's draws, each draw and the truth are written as
    R = exp(w) M; w is in the microscope frame, so its third component is the in-plane angle and
    the first two are the tilt. Intervals are central ones of each component.

    Args:
        samples: [S, N, 3, 3] draws.
        truth: [N, 3, 3], in the same gauge.
        levels: nominal levels.

    Returns:
        Coverage whose `fraction` is [L, 3].
    """
    chosen = np.asarray(levels, dtype=np.float64)
    draws = np.asarray(samples, dtype=np.float64)
    inverse = np.swapaxes(mean_rotation(draws), -1, -2)
    moved = Rotation.from_matrix(draws @ inverse).as_rotvec()
    true = Rotation.from_matrix(np.asarray(truth, dtype=np.float64) @ inverse).as_rotvec()
    inside = _inside(moved, true, chosen)
    return _summarise(inside, chosen)
