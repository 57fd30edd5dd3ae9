"""A mixture of hands in a search from nothing: told from the states' maps, and resolved (sec. 5).

Where some states show a molecule and others its reflection, the search begins again with the map
of one state, in which nearly all particles find a place of its hand. A molecule that does move
between mirror images of itself is found to do so again.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from hypermol.analysis.hands import HandStanding, judge_hands, states_apart
from hypermol.fitting.level import Level
from hypermol.fitting.march import first_state
from hypermol.fitting.sweep import ChainState
from hypermol.imaging.blocks import from_blocks
from hypermol.molecule.composite_march import from_whole


def densities(level: Level, state: ChainState, states: np.ndarray) -> np.ndarray:
    """Of states [K, d], on the level's grid, [K, n, n, n]."""
    weights = np.asarray(level.molecule.shown_weights(jnp.asarray(states, jnp.float32)))
    return np.tensordot(weights, np.asarray(level.shown(state.theta)), axes=1)


def hands_of(level: Level, state: ChainState) -> HandStanding:
    """How the states of particles that are far apart stand to the strongest one's hand."""
    n = int(np.asarray(level.data.images.present).sum())
    states = states_apart(from_blocks(state.latents.state, n))
    return judge_hands(states, densities(level, state, states))


def begun_again(level: Level, density: np.ndarray) -> ChainState:
    """A chain that knows a rigid map [n, n, n], and no particle's place."""
    molecule: Any = level.molecule
    theta = from_whole(molecule.parts, np.asarray(density, np.float32))
    fresh = first_state(level)
    # a contrast that is not 0 says that there is a map to be looked for in
    latents = fresh.latents._replace(contrast=jnp.ones_like(fresh.latents.contrast))
    return fresh._replace(theta=theta, latents=latents)
