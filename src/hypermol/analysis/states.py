"""Comparing estimated states with true ones, whatever parameter each is expressed in (sec. 6.2).

The parametrisation of the state is a gauge too: any monotone map of an interval, any rotation,
reflection and monotone map of a circle gives the same hyper-molecule. Correlations here are of
ranks, and `match_states` finds the map between two parametrisations from the volumes alone.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import scipy

from hypermol.space.fourier import frequency_radii

#: "interval": states in [0, 1] with ends. "circle": states modulo 1.
Topology = Literal["interval", "circle"]


def rank_correlation(estimated: np.ndarray, true: np.ndarray) -> float:
    """|Spearman's rho| of states on an interval: free of direction and of any monotone map.

    Args:
        estimated: [N].
        true: [N].
    """
    return float(abs(scipy.stats.spearmanr(np.ravel(estimated), np.ravel(true)).statistic))


def _resultants(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """|mean exp(i(a - b))| and |mean exp(i(a + b))| of angles [N] in radians."""
    first, second = np.exp(1j * a), np.exp(1j * b)
    return float(abs(np.mean(first * np.conj(second)))), float(abs(np.mean(first * second)))


def _uniform_scores(turns: np.ndarray) -> np.ndarray:
    """Ranks [N] of states in turns, spread evenly round the circle, in radians."""
    wrapped = np.mod(np.ravel(turns), 1.0)
    return 2.0 * np.pi * scipy.stats.rankdata(wrapped) / wrapped.size


def circular_correlation(estimated: np.ndarray, true: np.ndarray) -> float:
    """Rank-based circular correlation of periodic states: the headline number for circles.

    Fisher and Lee (1982): both sets of states are replaced by their ranks spread evenly round the
    circle, and with R- = |mean exp(i(a - b))|, R+ = |mean exp(i(a + b))| the coefficient is
    R-^2 - R+^2; the absolute value is returned. It is free of the offset, the direction and every
    monotone reparametrisation of either circle; 1 when the cyclic order agrees, about
    exp(-sigma^2) for errors of standard deviation sigma radians. To move the cut of a circle turns
    all ranks alike, so the result does not depend on where the circles begin.

    Args:
        estimated: [N] in turns (any representative modulo 1).
        true: [N] in turns.
    """
    minus, plus = _resultants(_uniform_scores(estimated), _uniform_scores(true))
    return abs(minus**2 - plus**2)


def angular_correlation(estimated: np.ndarray, true: np.ndarray) -> float:
    """Jammalamadaka-SenGupta circular correlation, maximised over reflection.

    (R- - R+) / (2 sqrt(mean sin^2(a - a0) mean sin^2(b - b0))), the form of the coefficient
    (Topics in Circular Statistics, 2001, sec. 8.2) that stays defined when the distributions are
    uniform and have no mean direction. Free of offset and direction, but NOT of a
    reparametrisation: it measures the states as they are.

    Args:
        estimated: [N] in turns.
        true: [N] in turns.
    """
    a, b = (2.0 * np.pi * np.ravel(v) for v in (estimated, true))
    minus, plus = _resultants(a, b)
    spread = 1.0
    for angles in (a, b):
        resultant = np.exp(1j * angles).mean()
        # of uniform angles the mean direction is arbitrary and the mean of sin^2 is 1/2
        centre = np.angle(resultant) if abs(resultant) > 1e-12 else 0.0
        spread *= np.mean(np.sin(angles - centre) ** 2)
    return float(min(abs(minus - plus) / (2.0 * np.sqrt(spread)), 1.0))


def circular_errors(estimated: np.ndarray, true: np.ndarray) -> np.ndarray:
    """|estimated - true| [N] in turns, 0 to 1/2, after the best offset and direction."""
    a, b = np.ravel(estimated), np.ravel(true)
    minus, plus = _resultants(2 * np.pi * a, 2 * np.pi * b)
    aligned = -a if plus > minus else a
    offset = np.angle(np.mean(np.exp(2j * np.pi * (b - aligned)))) / (2 * np.pi)
    difference = aligned + offset - b
    return np.abs(difference - np.rint(difference))


@dataclass(frozen=True)
class StateMap:
    """Monotone map from an estimated state to the truth's parameter.

    Attributes:
        nodes: [T] increasing estimated states.
        values: [T] the truth's parameter at the nodes, monotone; for a circle unwrapped, so that
            it runs over at most one turn.
        cost: mean cost along the map (squared distance of volumes).
        topology: what both states live on.
    """

    nodes: np.ndarray
    values: np.ndarray
    cost: float
    topology: Topology

    @property
    def direction(self) -> int:
        """+1 when the truth's parameter grows with the estimated state, else -1."""
        return 1 if self.values[-1] >= self.values[0] else -1

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """Express estimated states [...] in the truth's parameter, by linear interpolation.

        An interval is extrapolated linearly past its outer nodes (which are bin centres) and kept
        within [0, 1]; a circle is closed and wrapped to [0, 1).
        """
        tau = np.asarray(states, dtype=np.float64)
        if self.topology == "circle":
            nodes = np.append(self.nodes, self.nodes[0] + 1.0)
            values = np.append(self.values, self.values[0] + self.direction)
            return np.mod(np.interp(np.mod(tau - nodes[0], 1.0) + nodes[0], nodes, values), 1.0)
        slopes = np.diff(self.values) / np.diff(self.nodes)
        inside = np.interp(tau, self.nodes, self.values)
        below = np.minimum(tau - self.nodes[0], 0.0) * slopes[0]
        above = np.maximum(tau - self.nodes[-1], 0.0) * slopes[-1]
        return np.clip(inside + below + above, 0.0, 1.0)


class _Path(NamedTuple):
    """A monotone path through a cost matrix: column of each row (may exceed F on a circle)."""

    cost: float
    columns: np.ndarray


def _monotone_path(cost: np.ndarray) -> _Path:
    """Cheapest non-decreasing column of each row of cost [T, F] (dynamic programming)."""
    n_rows, n_columns = cost.shape
    origin = np.zeros((n_rows, n_columns), dtype=np.intp)
    total = cost[0].copy()
    for row in range(1, n_rows):
        lowest = np.minimum.accumulate(total)
        is_new = np.concatenate([[True], total[1:] < lowest[:-1]])
        origin[row] = np.maximum.accumulate(np.where(is_new, np.arange(n_columns), 0))
        total = lowest + cost[row]
    columns = np.empty(n_rows, dtype=np.intp)
    columns[-1] = total.argmin()
    for row in range(n_rows - 1, 0, -1):
        columns[row - 1] = origin[row, columns[row]]
    return _Path(float(total.min()), columns)


def _circular_path(cost: np.ndarray) -> _Path:
    """Cheapest path that winds once round the columns, over all starting columns."""
    n_columns = cost.shape[1]
    best = _Path(np.inf, np.zeros(len(cost), dtype=np.intp))
    for start in range(n_columns):
        found = _monotone_path(np.roll(cost, -start, axis=1))
        if found.cost < best.cost:
            best = _Path(found.cost, found.columns + start)
    return best


def _sub_column(cost: np.ndarray, path: np.ndarray, topology: Topology) -> np.ndarray:
    """Fractional columns [T]: the vertex of the parabola through each column's neighbours."""
    n_columns = cost.shape[1]
    rows = np.arange(len(path))
    left, right = path - 1, path + 1
    if topology == "interval":
        left, right = np.maximum(left, 0), np.minimum(right, n_columns - 1)
    low, mid, high = (cost[rows, c % n_columns] for c in (left, path, right))
    curvature = low - 2 * mid + high
    offset = 0.5 * np.divide(low - high, curvature, out=np.zeros(len(path)), where=curvature > 0)
    edge = (left == path) | (right == path)
    offset = np.where(edge, 0.0, np.clip(offset, -0.5, 0.5))
    return np.maximum.accumulate(path + offset)


def _spectra(volumes: np.ndarray, kmax: int) -> tuple[np.ndarray, np.ndarray]:
    """Transforms complex64 [T, K] at 0 < |k| <= kmax of cubes [T, n, n, n], and shells [K].

    One of each pair +-k is kept (nearly: the plane kx = 0 is kept whole, at half weight).
    """
    n = volumes.shape[-1]
    radius = frequency_radii(n)
    keep = (radius > 0) & (radius <= kmax)
    column = np.ones(n // 2 + 1)
    column[0] = np.sqrt(0.5)
    weight = np.broadcast_to(column, radius.shape)[keep]
    rows = [(np.fft.rfftn(volume)[keep] * weight).astype(np.complex64) for volume in volumes]
    return np.stack(rows), np.rint(radius[keep]).astype(np.intp)


def distance_matrix(
    estimated: np.ndarray, true: np.ndarray, max_shell: int | None = None
) -> np.ndarray:
    """Squared distances [T, F] between volumes, the true ones seen at the estimate's resolution.

    Each shell of the true volumes is scaled by the regression of the mean estimate on the mean
    truth, so neither the intensity scale nor the low-pass character of a reconstruction matters;
    without it a smooth estimate is drawn to the middle of the true states. The volumes must
    already share a gauge (`analysis.gauge`).

    Args:
        estimated: real [T, n, n, n] along the estimated state.
        true: real [F, n, n, n] along the true state.
        max_shell: highest shell compared; by default 32, or below Nyquist.
    """
    nyquist = (true.shape[-1] - 1) // 2
    kmax = min(32 if max_shell is None else max_shell, nyquist)
    a, shells = _spectra(estimated, kmax)
    b, _ = _spectra(true, kmax)
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    cross = np.bincount(shells, (mean_a * mean_b.conj()).real)
    power = np.bincount(shells, np.abs(mean_b) ** 2)
    gain = np.divide(cross, power, out=np.zeros(len(power)), where=power > 0)
    b = b * np.maximum(gain, 0.0)[shells].astype(np.float32)
    norms_a = (np.abs(a) ** 2).sum(axis=1, dtype=np.float64)
    norms_b = (np.abs(b) ** 2).sum(axis=1, dtype=np.float64)
    return norms_a[:, None] - 2.0 * (a @ b.conj().T).real + norms_b[None, :]


def match_states(
    cost: np.ndarray,
    estimated_nodes: np.ndarray,
    true_nodes: np.ndarray,
    topology: Topology = "interval",
) -> StateMap:
    """Monotone map from estimated states to the truth's parameter, from volume distances alone.

    No per-particle truth is used: the map minimises the summed distance between the estimated
    volume at each node and the true volume it is matched to, among all monotone maps of either
    direction (on a circle: all maps that wind once, from any starting point), by dynamic
    programming, and is refined between the true volumes by parabolas.

    Args:
        cost: [T, F] distances between estimated and true volumes (`distance_matrix`).
        estimated_nodes: [T] increasing states of the estimated volumes.
        true_nodes: [F] increasing parameters of the true volumes, in [0, 1].
        topology: what both states live on; circles have length 1.
    """
    n_columns = cost.shape[1]
    find = _circular_path if topology == "circle" else _monotone_path
    forward, backward = find(cost), find(cost[:, ::-1])
    if forward.cost <= backward.cost:
        columns = _sub_column(cost, forward.columns, topology)
    else:
        columns = n_columns - 1 - _sub_column(cost[:, ::-1], backward.columns, topology)
    turns = np.arange(-1, 3) if topology == "circle" else np.zeros(1)
    index = (np.arange(n_columns) + n_columns * turns[:, None]).ravel()
    values = (np.asarray(true_nodes) + turns[:, None]).ravel()
    scale = max(min(forward.cost, backward.cost), 0.0) / len(cost)
    return StateMap(
        np.asarray(estimated_nodes, dtype=np.float64),
        np.interp(columns, index, values),
        scale,
        topology,
    )


def match_distributions(estimated: np.ndarray, true: np.ndarray, direction: int) -> StateMap:
    """Monotone map of an interval that gives the states the truth's distribution.

    It takes quantiles to quantiles. Unlike the map from volumes it is free of the volumes' own
    error: a posterior mean volume is drawn towards the mean molecule, most of all at the ends of
    the motion, and then the map from volumes does not reach the ends either. It uses how the true
    states are distributed, but not which particle has which, and holds for draws of a posterior
    whose prior of states is their population: only those are distributed as the truth is.

    Args:
        estimated: sampled states [...], draws and particles pooled.
        true: [N] true states of the particles.
        direction: +1 or -1, as `match_states` found it.
    """
    n_nodes = min(max(len(true) // 50, 2), 41)
    levels = np.linspace(0.0, 1.0, n_nodes)
    nodes, first = np.unique(np.quantile(estimated, levels), return_index=True)
    values = np.quantile(true, levels if direction > 0 else 1.0 - levels)[first]
    return StateMap(nodes, values, 0.0, "interval")
