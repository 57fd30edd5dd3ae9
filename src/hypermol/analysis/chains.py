"""Reading chains together: samples one at a time, and the state gauge that chains differ by.

The parametrisation of the state is a gauge (sec. 6.2): one chain's motion may run backwards in
another, a circle may begin elsewhere, and classes may be numbered in another order. These are
symmetries of the model, so every chain is brought to the first one's direction, origin and order
before chains are joined.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from scipy.optimize import linear_sum_assignment

from hypermol.analysis.run import Run
from hypermol.io.errors import InputError


@final
@dataclass(frozen=True)
class StateGauge:
    """tau' = direction * tau + offset, modulo 1 on circles: a chain's states as the first chain's.

    Of classes, the permutation that takes a chain's to the first chain's.

    Attributes:
        direction: +1 or -1.
        offset: in units of the state; 1 for an interval that is turned round.
        circular: whether states are modulo 1.
        classes: the first chain's class of each class; empty where states are not classes.
    """

    direction: int = 1
    offset: float = 0.0
    circular: bool = False
    classes: tuple[int, ...] = ()

    def apply(self, states: np.ndarray) -> np.ndarray:
        """A chain's states [...] as the first chain's."""
        if self.classes:
            return _renumber(states, np.asarray(self.classes))
        return self._wrap(self.direction * np.asarray(states) + self.offset)

    def inverse(self, states: np.ndarray) -> np.ndarray:
        """The first chain's states [...] as this chain's."""
        if self.classes:
            return _renumber(states, np.argsort(self.classes))
        return self._wrap(self.direction * (np.asarray(states) - self.offset))

    def apply_bins(self, values: np.ndarray) -> np.ndarray:
        """Values [..., B] of equal bins of a chain's states, over the first chain's bins."""
        n_bins = values.shape[-1]
        centres = (np.arange(n_bins) + 0.5) / n_bins
        source = np.floor(self.inverse(centres) * n_bins).astype(np.intp)
        return values[..., np.clip(source, 0, n_bins - 1)]

    def _wrap(self, states: np.ndarray) -> np.ndarray:
        return np.mod(states, 1.0) if self.circular else states


def _renumber(states: np.ndarray, new: np.ndarray) -> np.ndarray:
    """States [...] of classes c as those of classes new[c]."""
    return (new[class_index(states, len(new))] + 0.5) / len(new)


def class_index(states: np.ndarray, n: int) -> np.ndarray:
    """Class int [...] of states [...] among n."""
    return np.clip((np.asarray(states) * n).astype(np.intp), 0, n - 1)


class Sample(NamedTuple):
    """One kept sweep: its chain, its place in the chain, and the entries asked for."""

    chain: int
    draw: int
    arrays: dict[str, np.ndarray]


def is_circle(run: Run) -> bool:
    """Whether the run's states are periodic."""
    return run.info["state_space"] == "circle"


def n_classes(run: Run) -> int:
    """Number of classes, 0 where the run's states are not classes."""
    return run.info["n_terms"] if run.info["state_space"] == "discrete" else 0


def knob_names(run: Run) -> list[str]:
    """Names of the run's knobs; "state" where it has none, for headers of tables."""
    return list(run.state_space.names) or ["state"]


def has_states(run: Run) -> bool:
    """Whether the run's molecule moves at all."""
    return run.info["state_space"] != "point"


def iterate_samples(run: Run, *names: str) -> Iterator[Sample]:
    """All samples of all chains, only the entries `names` read, one sample in memory.

    Raises:
        InputError: there are none yet, or one cannot be read.
    """
    if not run.chains:
        raise InputError(
            f"{run.directory.path} holds no posterior samples yet: let `hypermol fit` reach "
            "its sampling stage (--resume goes on)"
        )
    for chain in run.chains:
        for draw, name in enumerate(run.directory.sample_names(chain)):
            yield Sample(chain, draw, run.directory.read_arrays(name, names))


def n_samples(run: Run) -> int:
    """Number of samples of all chains."""
    return sum(len(run.directory.sample_names(chain)) for chain in run.chains)


def sample_sweeps(run: Run, chain: int) -> list[int]:
    """Sweep number of each of a chain's samples, in order."""
    return [
        int(name.rpartition("_")[2][: -len(".npz")]) for name in run.directory.sample_names(chain)
    ]


def circular_mean(turns: np.ndarray, axis: int = 0) -> np.ndarray:
    """Mean direction of states in turns, in [0, 1)."""
    resultant = np.exp(2j * np.pi * np.asarray(turns, np.float64)).mean(axis=axis)
    return np.mod(np.angle(resultant) / (2 * np.pi), 1.0)


def state_gauges(run: Run) -> dict[int, StateGauge]:
    """What takes each chain's states to the first chain's, from the particles' mean states.

    An interval is turned round where the chains' mean states are negatively correlated; a circle
    is turned and reflected to the best agreement; classes are matched one to one so that most
    particles agree. Several knobs are left as they are: what takes one chain's to another's may
    swap copies of a part, and chains part only after the subspace that ordered their states.
    """
    circular, classes = is_circle(run), n_classes(run)
    gauges: dict[int, StateGauge] = {}
    reference: np.ndarray | None = None
    for chain in run.chains:
        gauges[chain] = StateGauge(circular=circular, classes=tuple(range(classes)))
        if run.state_space.dim != 1 or len(run.chains) == 1:
            continue
        states = _chain_states(run, chain)
        if classes:
            shares = np.eye(classes)[class_index(states, classes)].mean(axis=0)
            if reference is None:
                reference = shares
            matched = linear_sum_assignment(shares.T @ reference, maximize=True)[1]
            gauges[chain] = StateGauge(classes=tuple(int(c) for c in matched))
            continue
        mean = circular_mean(states) if circular else states.mean(axis=0)
        if reference is None:
            reference = mean
        elif circular:
            gauges[chain] = _circle_gauge(mean, reference)
        elif np.dot(mean - mean.mean(), reference - reference.mean()) < 0:
            gauges[chain] = StateGauge(-1, 1.0)
    return gauges


def _chain_states(run: Run, chain: int) -> np.ndarray:
    """[draws, N] states of one chain as sampled."""
    names = run.directory.sample_names(chain)
    return np.stack([run.directory.read_arrays(name, ("state",))["state"][:, 0] for name in names])


def _circle_gauge(mean: np.ndarray, reference: np.ndarray) -> StateGauge:
    a, b = np.exp(2j * np.pi * mean), np.exp(2j * np.pi * reference)
    direction = 1 if abs(np.mean(a * b.conj())) >= abs(np.mean(a * b)) else -1
    turned = a if direction == 1 else a.conj()
    offset = float(np.angle(np.mean(b * turned.conj())) / (2 * np.pi))
    return StateGauge(direction, offset, True)


def aligned_states(run: Run) -> np.ndarray:
    """[chains, draws, N] states in the first chain's gauge (draws cut to the shortest chain).

    Raises:
        InputError: no samples yet, or a rigid molecule, which has no states.
    """
    if not has_states(run):
        raise InputError(f"{run.directory.path} is a rigid fit (one state): it has no states")
    gauges = state_gauges(run)
    states = np.asarray(run.stacked("state"), np.float64)[..., 0]
    return np.stack([gauges[c].apply(s) for c, s in zip(run.chains, states, strict=True)])


def aligned_occupancy(run: Run) -> np.ndarray:
    """[chains, draws, B] sampled bin probabilities in the first chain's gauge."""
    gauges = state_gauges(run)
    values = np.asarray(run.stacked("occupancy"), np.float64)
    return np.stack([gauges[c].apply_bins(v) for c, v in zip(run.chains, values, strict=True)])
