"""Reading chains together: samples one at a time, states in the first chain's gauge.

Direction, origin and order of each knob are symmetries of the model (`analysis.knobs`), so every
chain is brought to the first one's before chains are joined.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from hypermol.analysis.knobs import Knob, knob_bins, space_knobs
from hypermol.analysis.run import Run
from hypermol.analysis.state_gauge import (
    StateGauge,
    find_gauge,
    molecule_roles,
    swapped_copies,
    unchanged,
)
from hypermol.io.errors import InputError


class Sample(NamedTuple):
    """One kept sweep: its chain, its number in the chain, and the entries asked for."""

    chain: int
    draw: int
    arrays: dict[str, np.ndarray]


def run_knobs(run: Run) -> tuple[Knob, ...]:
    """The run's state variables; none for a rigid molecule."""
    return space_knobs(run.state_space)


def is_circle(run: Run) -> bool:
    """Whether the run's only knob is periodic."""
    return run.info["state_space"] == "circle"


def n_classes(run: Run) -> int:
    """Number of classes of the run's only knob, 0 where its states are not classes."""
    return run.info["n_terms"] if run.info["state_space"] == "discrete" else 0


def knob_names(run: Run) -> list[str]:
    """Names of the run's knobs; "state" where it has none, for headers of tables."""
    return [knob.name for knob in run_knobs(run)] or ["state"]


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


def state_gauges(run: Run) -> dict[int, StateGauge]:
    """What takes each chain's states to the first chain's, from the particles' mean states."""
    knobs = run_knobs(run)
    roles = molecule_roles(run.molecule, knobs)
    gauges: dict[int, StateGauge] = {}
    reference: np.ndarray | None = None
    for chain in run.chains:
        gauges[chain] = unchanged(knobs)
        if not knobs or len(run.chains) == 1:
            continue
        states = _chain_states(run, chain)
        if reference is None:
            reference = states
        else:
            gauges[chain] = find_gauge(knobs, roles, states, reference)
    return gauges


def chains_of_swapped_copies(run: Run) -> list[int]:
    """Chains whose copies of a part look like other copies in the first chain (state_gauge)."""
    if len(run.chains) < 2:
        return []
    knobs = run_knobs(run)
    roles = molecule_roles(run.molecule, knobs)
    reference = _chain_states(run, run.chains[0])
    return [
        chain
        for chain in run.chains[1:]
        if swapped_copies(knobs, roles, _chain_states(run, chain), reference)
    ]


def _chain_states(run: Run, chain: int) -> np.ndarray:
    """[draws, N, dim] states of one chain as sampled."""
    names = run.directory.sample_names(chain)
    return np.stack([run.directory.read_arrays(name, ("state",))["state"] for name in names])


def aligned_states(run: Run) -> np.ndarray:
    """[chains, draws, N, dim] states in the first chain's gauge (cut to the shortest chain).

    Raises:
        InputError: no samples yet, or a rigid molecule, which has no states.
    """
    if not has_states(run):
        raise InputError(f"{run.directory.path} is a rigid fit (one state): it has no states")
    gauges = state_gauges(run)
    states = np.asarray(run.stacked("state"), np.float64)
    return np.stack([gauges[c].apply(s) for c, s in zip(run.chains, states, strict=True)])


def pooled_states(run: Run) -> np.ndarray:
    """[S, N, dim]: `aligned_states` of all chains one after another."""
    states = aligned_states(run)
    return states.reshape(-1, *states.shape[2:])


def aligned_occupancy(run: Run) -> np.ndarray:
    """[chains, draws, B_1, B_2, ...] sampled probabilities of joint bins, in the first chain's
    gauge, one axis a knob."""
    gauges = state_gauges(run)
    values = np.asarray(run.stacked("occupancy"), np.float64)
    shape = knob_bins(run.state_space, values.shape[-1])
    return np.stack(
        [gauges[c].apply_bins(v, shape) for c, v in zip(run.chains, values, strict=True)]
    )


def knob_occupancy(run: Run, knob: Knob) -> np.ndarray:
    """[chains, draws, B] sampled probabilities of one knob's bins, whatever the others' states."""
    joint = aligned_occupancy(run)
    others = [axis for axis in range(2, joint.ndim) if axis != 2 + knob.column]
    return joint.sum(axis=tuple(others))
