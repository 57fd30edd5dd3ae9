"""A sweep: blocks that draw every unknown in turn, each leaving the posterior as it is.

A block is three functions and a name (as kernels are in blackjax):

    init(state, data) -> tuning                  what its steps are tuned with
    step(key, state, tuning, data) -> (state, info)
    adapt(tuning, info) -> tuning                burn-in only: adaptation breaks exactness

Nothing is cached between blocks: each makes what it reads from the state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, final

import jax
from jax import Array

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.posterior.priors import Hyperparameters


class Data(NamedTuple):
    """What is given: images and the input's poses, in blocks."""

    images: ImageBlocks
    consensus: Consensus


class ChainState(NamedTuple):
    """All unknowns of eq. 29: theta, mu, and the latents of every particle."""

    theta: Any
    mu: Hyperparameters
    latents: Latents


Info = dict[str, Any]
Tuning = Any


def no_tuning(state: ChainState, data: Data) -> Tuning:
    """For blocks that have nothing to tune."""
    return ()


def as_it_is(tuning: Tuning, info: Info) -> Tuning:
    """No adaptation."""
    return tuning


def first_is_kept(before: Tuning, fresh: Tuning) -> Tuning:
    """A tuning goes on to the next level of the march as it is."""
    return before


def no_numbers(info: Info) -> dict[str, float]:
    """Nothing to record."""
    return {}


@final
@dataclass(frozen=True)
class Block:
    """One entry of a sweep; see the module.

    Attributes:
        name: of what it draws, unique in a sweep.
        step: leaves the posterior invariant if `is_exact`.
        init, adapt: its tuning.
        carry: (tuning at the last level, a fresh one at this level) -> tuning to go on with.
        numbers: what of its info the trace records.
        is_exact: blocks that are not serve starts and burn-in; no sample is kept of their sweeps.
    """

    name: str
    step: Callable[[Array, ChainState, Tuning, Data], tuple[ChainState, Info]]
    init: Callable[[ChainState, Data], Tuning] = no_tuning
    adapt: Callable[[Tuning, Info], Tuning] = as_it_is
    carry: Callable[[Tuning, Tuning], Tuning] = first_is_kept
    numbers: Callable[[Info], dict[str, float]] = no_numbers
    is_exact: bool = True


Sweep = tuple[Block, ...]
#: Tunings by the names of their blocks.
Tunings = dict[str, Tuning]


def init_tunings(sweep: Sweep, state: ChainState, data: Data) -> Tunings:
    """Every block's tuning at its start."""
    return {block.name: block.init(state, data) for block in sweep}


@partial(jax.jit, static_argnums=1)
def _step_keys(key: Array, n: int) -> tuple[Array, ...]:
    return tuple(jax.random.fold_in(key, index) for index in range(n))


def run_sweep(
    key: Array, sweep: Sweep, state: ChainState, tunings: Tunings, data: Data
) -> tuple[ChainState, dict[str, Info]]:
    """Run every block in turn: the new state, and each block's info by its name."""
    infos: dict[str, Info] = {}
    for step_key, block in zip(_step_keys(key, len(sweep)), sweep, strict=True):
        state, infos[block.name] = block.step(step_key, state, tunings[block.name], data)
    return state, infos


def adapt_tunings(sweep: Sweep, tunings: Tunings, infos: dict[str, Info]) -> Tunings:
    """Every block's tuning after a sweep of burn-in."""
    return {block.name: block.adapt(tunings[block.name], infos[block.name]) for block in sweep}


def trace_numbers(sweep: Sweep, infos: dict[str, Info]) -> dict[str, float]:
    """What the trace records of a sweep."""
    found: dict[str, float] = {}
    for block in sweep:
        found |= block.numbers(infos[block.name])
    return found
