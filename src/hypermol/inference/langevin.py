"""The Metropolis-adjusted Langevin algorithm (eq. 17-19) on any pytree, with a preconditioner.

Positions may also live on a group, such as rotations: gradients, noise and drift are then tangent
vectors at the position, and `retract` walks along them.

The step size is adapted by Robbins-Monro, which breaks reversibility: adapt in burn-in only.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from hypermol.inference.metropolis import Info, Position, metropolis_choice, white_noise
from hypermol.inference.target import Differentiable

#: Acceptance at which MALA moves farthest in high dimension (Roberts and Rosenthal 1998).
OPTIMAL_ACCEPTANCE = 0.574


class Preconditioner(NamedTuple):
    """A symmetric positive semi-definite A (eq. 19): r -> A r, and white noise -> N(0, A)."""

    apply: Callable[[Any], Any]
    root: Callable[[Any], Any]


#: Plain MALA (eq. 17).
IDENTITY = Preconditioner(lambda x: x, lambda x: x)


def diagonal(variances: Position) -> Preconditioner:
    """A = diag(variances), a pytree like the position; zeros hold coordinates still."""
    return Preconditioner(
        lambda x: jax.tree_util.tree_map(jnp.multiply, variances, x),
        lambda x: jax.tree_util.tree_map(lambda v, w: jnp.sqrt(v) * w, variances, x),
    )


def dense(root: Array) -> Preconditioner:
    """A = root root' [D, D] of a position's numbers in the order of `ravel_pytree`."""

    def apply(x: Any) -> Any:
        flat, rebuild = ravel_pytree(x)
        return rebuild(root @ (root.T @ flat))

    def coloured(white: Any) -> Any:
        flat, rebuild = ravel_pytree(white)
        return rebuild(root @ flat)

    return Preconditioner(apply, coloured)


class State(NamedTuple):
    """A chain: position, the terms of its log density, and the gradient of their sum."""

    position: Position
    log_density: Array
    gradient: Position


def init(position: Position, target: Differentiable) -> State:
    """Start at `position`."""
    return State(position, *target.value_and_gradient(position))


def add(position: Position, move: Position) -> Position:
    """Walk along `move` in a vector space."""
    return jax.tree_util.tree_map(jnp.add, position, move)


def _dot(a: Position, b: Position) -> Array:
    products = jax.tree_util.tree_map(lambda x, y: jnp.sum(x * y), a, b)
    return sum(jax.tree_util.tree_leaves(products), jnp.zeros(()))


def step(
    key: Array,
    state: State,
    target: Differentiable,
    step_size: Array | float,
    preconditioner: Preconditioner = IDENTITY,
    retract: Callable[[Position, Position], Position] = add,
) -> tuple[State, Info]:
    """One step of eq. 19 with sigma = `step_size`, accepted by eq. 15-16.

    With u = x' - x and gradients g, g' the Hastings ratio needs no inverse of A:
    `log q(x', x) / q(x, x') = -u.(g + g') / 2 - sigma^2 (g'.A g' - g.A g) / 8`.

    Args:
        key: random key.
        state: the chain.
        target: log density (with respect to the group's invariant measure) and its gradient, a
            tangent vector at the position.
        step_size: sigma.
        preconditioner: A.
        retract: (position, tangent vector) -> position. Walking back must be the same vector
            reversed, retract(retract(x, u), -u) = x, and the volume it spans even in u, as with
            x + u and exp(u) R: then q is that of eq. 19 in u.
    """
    keys = jax.random.split(key)
    drift = preconditioner.apply(state.gradient)
    noise = preconditioner.root(white_noise(keys[0], state.gradient))
    move = jax.tree_util.tree_map(lambda d, w: 0.5 * step_size**2 * d + step_size * w, drift, noise)
    proposal = init(retract(state.position, move), target)
    new_drift = preconditioner.apply(proposal.gradient)
    both = jax.tree_util.tree_map(jnp.add, state.gradient, proposal.gradient)
    curvature = _dot(proposal.gradient, new_drift) - _dot(state.gradient, drift)
    hastings = -0.5 * _dot(move, both) - step_size**2 * curvature / 8.0
    log_ratio = jnp.sum(proposal.log_density - state.log_density) + hastings
    return metropolis_choice(keys[1], log_ratio, proposal, state)


def run(
    key: Array,
    state: State,
    target: Differentiable,
    step_size: Array | float,
    steps: int,
    preconditioner: Preconditioner = IDENTITY,
    retract: Callable[[Position, Position], Position] = add,
) -> tuple[State, Array]:
    """`steps` steps in a row (see `step`): the chain, and the mean probability of acceptance."""

    def one(state: State, step_key: Array) -> tuple[State, Array]:
        state, info = step(step_key, state, target, step_size, preconditioner, retract)
        return state, info.acceptance

    state, acceptance = jax.lax.scan(one, state, jax.random.split(key, steps))
    return state, jnp.mean(acceptance)


class StepSize(NamedTuple):
    """An adapted step size: log sigma and how often it was changed."""

    log_size: Array
    changes: Array


def first_step_size(size: float) -> StepSize:
    """Start of the adaptation."""
    return StepSize(jnp.log(jnp.asarray(size, jnp.float32)), jnp.zeros((), jnp.float32))


def adapt(
    size: StepSize,
    acceptance: Array,
    wanted: float = OPTIMAL_ACCEPTANCE,
    delay: float = 10.0,
    decay: float = 0.6,
) -> StepSize:
    """Robbins-Monro: log sigma += (acceptance - wanted) (changes / delay + 1)^-decay."""
    gain = (size.changes / delay + 1.0) ** (-decay)
    return StepSize(size.log_size + gain * (acceptance - wanted), size.changes + 1.0)
