"""Preconditioned Crank-Nicolson steps with drift, for a Gaussian times a smooth factor.

The target is h(x) = N(x; m, C) exp(f(x)) with C = A^-1 (Cotter, Roberts, Stuart and White 2013).
A proposal turns x about the mean and adds a draw of the Gaussian, of share b, c = sqrt(1 - b^2):

    x' = m + c (x - m) + (1 - c) d(x) + b xi,   d(x) = C grad f(x),   xi ~ N(0, C).

Without d it is reversible for N(m, C), so that in eq. 15 only f is left; with d (a Langevin step
whose Gaussian part is integrated exactly) the factor of the proposal's density that d brings is

    log r(x -> x') = [(x' - c x - (1 - c) m) . g - (1 - c) d . g / 2] / (1 + c),   g = grad f(x),

and the step is accepted by f(x') - f(x) + log r(x' -> x) - log r(x -> x'). No size of x enters but
through f: a Gaussian that is known to a thousandth of its prior width costs nothing.

m, d and xi come from iterative solves: the step is reversible as far as these are exact, and what
the law gains from their error is of its order in standard deviations (`tolerance`). b may be drawn
afresh for every step, from any law that does not look at x: a mixture of reversible steps.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.inference import exact
from hypermol.inference.metropolis import metropolis_choice
from hypermol.inference.target import Tilted

Position = Any


class State(NamedTuple):
    """A chain: position, terms of the tilt f, its gradient g, and the drift d = C g."""

    position: Position
    tilt: Array
    gradient: Position
    drift: Position


class Solver(NamedTuple):
    """How solves end: rms error in standard deviations of the Gaussian, and iterations at most."""

    tolerance: float
    max_iterations: int


class Info(NamedTuple):
    """Probability of acceptance, and the solves' iterations and largest error of a step."""

    acceptance: Array
    iterations: Array
    error_in_sd: Array


def _combine(*pairs: tuple[Array | float, Position]) -> Position:
    """Sum of factor times position."""
    factors, positions = zip(*pairs, strict=True)
    return jax.tree.map(lambda *x: sum(f * v for f, v in zip(factors, x, strict=True)), *positions)


def init(position: Position, target: Tilted, solver: Solver) -> tuple[State, exact.SolveRecord]:
    """Start at `position`, or refresh a chain whose target has changed."""
    terms, gradient = target.tilt.value_and_gradient(position)
    zero = jax.tree.map(jnp.zeros_like, position)
    drift, record = exact.solve(target.reference, gradient, zero, *solver)
    return State(position, terms, gradient, drift), record


def _log_factor(origin: State, end: Position, mean: Position, keep: Array) -> Array:
    """log r(origin -> end)."""
    moved = _combine((1.0, end), (-keep, origin.position), (keep - 1.0, mean))
    pull = exact.dot(moved, origin.gradient)
    return (pull - 0.5 * (1.0 - keep) * exact.dot(origin.drift, origin.gradient)) / (1.0 + keep)


def step(
    key: Array,
    state: State,
    target: Tilted,
    mean: Position,
    share: Array | float,
    solver: Solver,
) -> tuple[State, Info]:
    """One step.

    Args:
        key: random key.
        state: the chain.
        target: the Gaussian and the tilt.
        mean: m, the Gaussian's mean (`exact.mean`), solved at least as tightly.
        share: b in (0, 1]; 1 is an independent proposal (about m + d).
        solver: of the linear systems.
    """
    keys = jax.random.split(key)
    keep = jnp.sqrt(1.0 - jnp.asarray(share) ** 2)
    # at the mean the residual is the perturbation alone, and the solve is of xi itself
    noise = target.reference.perturbed_residual(keys[0], mean)
    zero = jax.tree.map(jnp.zeros_like, mean)
    xi, record = exact.solve(target.reference, noise, zero, *solver)
    moved = _combine(
        (keep, state.position), (1.0 - keep, mean), (1.0 - keep, state.drift), (share, xi)
    )
    proposal, drifted = init(moved, target, solver)
    log_ratio = (
        jnp.sum(proposal.tilt - state.tilt)
        + _log_factor(proposal, state.position, mean, keep)
        - _log_factor(state, proposal.position, mean, keep)
    )
    chosen, taken = metropolis_choice(keys[1], log_ratio, proposal, state)
    iterations = record.iterations + drifted.iterations
    error = jnp.maximum(record.error_in_sd, drifted.error_in_sd)
    return chosen, Info(taken.acceptance, iterations, error)
