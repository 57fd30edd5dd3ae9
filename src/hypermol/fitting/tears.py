"""A motion that was put together in the wrong order: torn in the middle, and its mending.

A start orders the particles by how they differ, and can tell near states from far ones, but not
far ones from farther ones: an arm that has moved by its own width overlaps no more with what it
was. So one stretch of a motion may come to lie beside another that it does not follow, forwards or
backwards. Such a molecule explains the images about as well; it is no motion that the particles
make, and where it jumps there are few of them. There it is cut, its pieces are laid in each other
order, a few sweeps are run from each, and the one goes on along which mass moves least.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.fitting.level import Level, spread_blocks
from hypermol.fitting.maps import thetas_of_parts
from hypermol.fitting.march import even_occupancy
from hypermol.fitting.sweep import ChainState, Sweep, adapt_tunings, init_tunings, run_sweep
from hypermol.molecule.parts import Part
from hypermol.runtime import on_device

#: Nodes of a path, each of as many particles; sweeps of each order; particles at most.
_NODES, _SWEEPS, _PARTICLES = 12, 5, 4000
#: Differences of densities count by k^-5 within a volume of Fourier space: low frequencies tell how
#: far mass has moved when high ones have forgotten it.
_POWER = -5.0
#: Another order is taken where its path is shorter by this factor, and looked at again so often.
_SHORTER, _ROUNDS = 0.75, 3


class Path(NamedTuple):
    """A motion, node by node.

    Attributes:
        nodes: [K] states, of as many particles each.
        steps: [K - 1] squared distances of neighbours, as shares of the farthest two nodes'.
    """

    nodes: np.ndarray
    steps: np.ndarray

    @property
    def length(self) -> float:
        """Mean square step over that of an even straight path, which has 1; less is noise."""
        return float(len(self.steps) * self.steps.sum())

    @property
    def tear(self) -> float:
        """The state in the middle of its largest step."""
        place = int(np.argmax(self.steps))
        return float(0.5 * (self.nodes[place] + self.nodes[place + 1]))


#: Orders of the two pieces of [0, 1] that are cut at c; the other four run backwards.
ORDERS: dict[str, Callable[[Array, float], Array]] = {
    "as it was": lambda u, c: u,
    "first piece turned": lambda u, c: jnp.where(u < c, c - u, u),
    "second piece turned": lambda u, c: jnp.where(u < c, u, 1.0 + c - u),
    "pieces changed over": lambda u, c: jnp.where(u < c, u + 1.0 - c, u - c),
}


def may_be_torn(level: Level) -> bool:
    """Whether a molecule has one knob, between two ends, that acts through its maps' weights."""
    molecule, space = level.molecule, level.molecule.state_space
    return (
        molecule.is_linear and space.dim == 1 and space.has_ends and not any(molecule.is_position)
    )


def path_of(level: Level, state: ChainState) -> Path:
    """How the density moves along a molecule's knob, by two halves of the images, whose noise is
    independent."""
    molecule: Any = level.molecule
    shape = level.data.images.present.shape
    second = np.broadcast_to(np.arange(shape[1]) % 2, shape)
    halves = [theta.maps for theta in thetas_of_parts(level, state, [1 - second, second])]
    states = np.asarray(state.latents.state)[np.asarray(level.data.images.present) > 0]
    nodes = np.quantile(states[:, 0], (np.arange(_NODES) + 0.5) / _NODES)
    tau = jnp.asarray(nodes[:, None], jnp.float32)
    apart = np.zeros((_NODES, _NODES))
    for part in molecule.parts:
        weights = np.asarray(molecule.seats_of(part.name)[0].weights(tau), np.float64)
        between = weights[:, None] - weights[None]
        gram = _gram(part, *(half[part.name] for half in halves))
        apart += np.einsum("ijt,tu,iju->ij", between, gram, between)
    return Path(nodes, np.diagonal(apart, 1) / max(apart.max(), 1e-30))


def _gram(part: Part, first: Array, second: Array) -> np.ndarray:
    """Products of one half's terms with the other's, [T, T], the lowest shells counting most."""
    rows = []
    for term in first:
        total, difference = (
            np.asarray(part.basis.shell_power(maps), np.float64)
            for maps in (term + second, term - second)
        )
        shells = np.arange(1, total.shape[1])
        rows.append(0.25 * (total - difference)[:, 1:] @ shells ** (2.0 + _POWER))
    return 0.5 * (np.stack(rows) + np.stack(rows).T)


def mended(
    key: Array, level: Level, sweep: Sweep, state: ChainState
) -> tuple[ChainState, list[str]]:
    """A chain whose motion has the order along which mass moves least.

    Args:
        key: of the sweeps.
        level: of a molecule that `may_be_torn`.
        sweep: a sweep's blocks.
        state: the chain.

    Returns:
        The chain, as it was where all is in order, and how the pieces were laid, time after time.
    """
    few, some = _of_some(level, state)
    done: list[str] = []
    for number in range(_ROUNDS):
        cut = path_of(few, some).tear
        own = jax.random.fold_in(key, number)
        tried = {order: _swept(own, few, sweep, _laid(level, some, order, cut)) for order in ORDERS}
        lengths = {order: path_of(few, tried[order]).length for order in ORDERS}
        best = min(lengths, key=lengths.__getitem__)
        if not 1.0 <= lengths[best] < _SHORTER * lengths["as it was"]:
            break
        done.append(best)
        some, state = tried[best], _laid(level, state, best, cut)
    if done:
        everyone = np.ones(level.data.images.present.shape)
        state = state._replace(theta=thetas_of_parts(level, state, [everyone])[0])
    return state, done


def _laid(level: Level, state: ChainState, order: str, cut: float) -> ChainState:
    """A chain whose particles' states have another order, run the way most of them ran."""
    old = state.latents.state
    new = jnp.clip(ORDERS[order](old, cut), 0.0, 1.0)
    backwards = jnp.sum((new - new.mean()) * (old - old.mean())) < 0.0
    latents = state.latents._replace(state=jnp.where(backwards, 1.0 - new, new))
    mu = state.mu._replace(occupancy=on_device(even_occupancy(level)))
    return state._replace(latents=latents, mu=mu)


def _of_some(level: Level, state: ChainState) -> tuple[Level, ChainState]:
    """The level and the chain of some blocks of particles, or of all if they are few."""
    rows = spread_blocks(_PARTICLES, len(level.data.images.present))
    if rows is None:
        return level, state
    data, latents = jax.tree.map(lambda x: x[rows], (level.data, state.latents))
    return replace(level, data=data), state._replace(latents=latents)


def _swept(key: Array, level: Level, sweep: Sweep, state: ChainState) -> ChainState:
    """A chain after a few sweeps of burn-in."""
    tunings = init_tunings(sweep, state, level.data)
    for number in range(_SWEEPS):
        step_key = jax.random.fold_in(key, number)
        state, infos = run_sweep(step_key, sweep, state, tunings, level.data)
        tunings = adapt_tunings(sweep, tunings, infos)
    return state
