"""Hamiltonian Monte Carlo (sec. 2.7) on any pytree: leapfrog, jittered step, exact acceptance.

With A = B B a guess of the posterior's covariance, position and white momentum follow
`dx/dt = B p, dp/dt = B grad log h(x)`; what the leapfrog gets wrong is made good by eq. 16.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.inference.langevin import State, init
from hypermol.inference.metropolis import Info, Position, metropolis_choice, white_noise
from hypermol.inference.target import Differentiable

#: Acceptance near which HMC costs least per independent draw (Beskos et al. 2013: 0.651, which
#: is the bottom of a flat valley on the side where steps are too long; hence somewhat above).
OPTIMAL_ACCEPTANCE = 0.75

#: Step sizes vary by this fraction, so that no orbit closes on itself, and so that acceptance falls
#: gently with the mean step: beyond the leapfrog's stability it drops to nothing at once.
JITTER = 0.5

Root = Callable[[Position], Position]


def identity(x: Position) -> Position:
    """B = 1: no preconditioner."""
    return x


def leapfrog(
    state: State,
    momentum: Position,
    target: Differentiable,
    step_size: Array | float,
    n_steps: int,
    root: Root = identity,
) -> tuple[State, Position]:
    """Follow the motion for `n_steps` steps; reversed momentum leads back.

    Args:
        state: position with its log density and gradient.
        momentum: white, a pytree like the position.
        target: log h and its gradient.
        step_size: of one step.
        n_steps: number of steps.
        root: B, symmetric.
    """

    def kick(momentum: Position, gradient: Position, size: Array | float) -> Position:
        return jax.tree_util.tree_map(lambda p, g: p + size * g, momentum, root(gradient))

    def one(_: Array, carried: tuple[State, Position]) -> tuple[State, Position]:
        state, momentum = carried
        momentum = kick(momentum, state.gradient, 0.5 * step_size)
        position = jax.tree_util.tree_map(
            lambda x, v: x + step_size * v, state.position, root(momentum)
        )
        state = init(position, target)
        return state, kick(momentum, state.gradient, 0.5 * step_size)

    return jax.lax.fori_loop(0, n_steps, one, (state, momentum))


def _kinetic_change(new: Position, old: Position) -> Array:
    terms = jax.tree_util.tree_map(lambda p, q: 0.5 * jnp.sum((p - q) * (p + q)), new, old)
    return sum(jax.tree_util.tree_leaves(terms), jnp.zeros(()))


def step(
    key: Array,
    state: State,
    target: Differentiable,
    step_size: Array | float,
    n_steps: int,
    root: Root = identity,
) -> tuple[State, Info]:
    """One HMC step: fresh momentum, `n_steps` leapfrog steps, accept or stay.

    Args:
        key: random key.
        state: the chain (`langevin.init` makes one).
        target: log h, as terms whose differences are summed, and its gradient.
        step_size: mean of the leapfrog step, which is jittered by `JITTER`.
        n_steps: leapfrog steps, each one gradient.
        root: B, symmetric: the square root of a guess of the covariance.
    """
    keys = jax.random.split(key, 3)
    momentum = white_noise(keys[0], state.position)
    size = step_size * jax.random.uniform(keys[1], minval=1.0 - JITTER, maxval=1.0 + JITTER)
    proposal, final = leapfrog(state, momentum, target, size, n_steps, root)
    log_ratio = jnp.sum(proposal.log_density - state.log_density)
    log_ratio = log_ratio - _kinetic_change(final, momentum)
    return metropolis_choice(keys[2], log_ratio, proposal, state)
