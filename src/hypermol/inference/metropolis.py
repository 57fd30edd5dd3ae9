"""Random-walk Metropolis-Hastings (eq. 15-16) on any pytree.

A target may return its log density as an array of terms, say one a particle: the differences of
the terms are summed, not the other way round, because a sum over all images is larger than
float32 resolves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.inference.target import Density

Position = Any


class State(NamedTuple):
    """A chain: position (any pytree of arrays) and the terms of its log density."""

    position: Position
    log_density: Array


class Info(NamedTuple):
    """What a step did: probability of acceptance, and whether it was taken."""

    acceptance: Array
    accepted: Array


def white_noise(key: Array, like: Position) -> Position:
    """Independent standard normals of the shapes and types of `like`."""
    leaves, structure = jax.tree_util.tree_flatten(like)
    keys = jax.random.split(key, max(len(leaves), 1))
    drawn = [
        jax.random.normal(k, jnp.shape(leaf), jnp.result_type(leaf))
        for k, leaf in zip(keys, leaves, strict=False)
    ]
    return jax.tree_util.tree_unflatten(structure, drawn)


def metropolis_choice(
    key: Array, log_ratio: Array, proposal: Position, current: Position
) -> tuple[Position, Info]:
    """Take `proposal` with probability min(1, exp(log_ratio)) (eq. 16); never if it is nan."""
    acceptance = jnp.exp(jnp.minimum(jnp.where(jnp.isnan(log_ratio), -jnp.inf, log_ratio), 0.0))
    accepted = jax.random.uniform(key, jnp.shape(log_ratio)) < acceptance
    chosen = jax.tree_util.tree_map(
        lambda new, old: jnp.where(accepted, new, old), proposal, current
    )
    return chosen, Info(acceptance, accepted)


def init(position: Position, target: Density) -> State:
    """Start at `position`."""
    return State(position, target.log_density(position))


def gaussian_walk(
    width: Array | float, wrap: Callable[[Position], Position] = lambda position: position
) -> Callable[[Array, Position], Position]:
    """A proposal that adds Gaussian noise of standard deviation `width`.

    `wrap` brings proposals back into the space without breaking their symmetry
    (`StateSpace.wrap`), so that q cancels in eq. 15.
    """

    def propose(key: Array, position: Position) -> Position:
        noise = white_noise(key, position)
        return wrap(jax.tree_util.tree_map(lambda x, n: x + width * n, position, noise))

    return propose


def step(
    key: Array,
    state: State,
    target: Density,
    propose: Callable[[Array, Position], Position],
) -> tuple[State, Info]:
    """One step: propose, then accept or stay.

    Args:
        key: random key.
        state: the chain.
        target: eq. 15's h, up to a constant.
        propose: (key, position) -> position, there and back equally likely.
    """
    keys = jax.random.split(key)
    proposal = init(propose(keys[0], state.position), target)
    log_ratio = jnp.sum(proposal.log_density - state.log_density)
    return metropolis_choice(keys[1], log_ratio, proposal, state)
