"""Exact draws from Gaussian conditionals by perturb-and-solve (Papandreou and Yuille 2010).

If e ~ N(0, A) then x = A^-1 (b + e) ~ N(A^-1 b, A^-1). The system is solved by preconditioned
conjugate gradients. The error is measured on the scale of the posterior itself: r' M^-1 r estimates
(x - x*)' A (x - x*), which for the draw's own scatter about the mean is its dimension.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.inference.target import Quadratic


class SolveRecord(NamedTuple):
    """How a solve ended: iterations, and the rms error in posterior standard deviations."""

    iterations: Array
    error_in_sd: Array


def dot(first: Any, second: Any) -> Array:
    """Inner product of two pytrees of arrays."""
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, first, second)), jnp.zeros(()))


def _add(first: Any, factor: Array | float, second: Any) -> Any:
    """first + factor * second."""
    return jax.tree.map(lambda a, b: a + factor * b, first, second)


class _Solving(NamedTuple):
    """A solve under way; `power` is of the residual that the last direction was made from."""

    x: Any
    residual: Any
    before: Any
    direction: Any
    power: Array
    done: Array
    ended: Array


def solve(
    target: Quadratic,
    residual: Any,
    start: Any,
    tolerance: float,
    max_iterations: int,
    least: int = 0,
) -> tuple[Any, SolveRecord]:
    """Preconditioned conjugate gradients from `start`, whose residual (right - A start) is given.

    Stops when the rms error is below `tolerance` posterior standard deviations per coefficient, not
    before `least` iterations. Vectors are pytrees of arrays. Directions are made conjugate in Polak
    and Ribiere's way, for which the preconditioner may itself be a solve that ends early (Notay
    2000).
    """
    enough = tolerance**2 * target.dimension
    one = jnp.ones(())

    def unfinished(at: _Solving) -> Array:
        return ~at.ended & (at.done < max_iterations)

    def advanced(at: _Solving) -> _Solving:
        image = target.apply(at.direction)
        # the same as power / (direction' A direction) where the preconditioner is linear
        length = dot(at.residual, at.direction) / dot(at.direction, image)
        x, residual = _add(at.x, length, at.direction), _add(at.residual, -length, image)
        return at._replace(x=x, residual=residual, before=at.residual, done=at.done + 1)

    def step(at: _Solving) -> _Solving:
        conditioned = target.precondition(at.residual)
        power = dot(at.residual, conditioned)
        kept = (power - dot(at.before, conditioned)) / at.power
        direction = _add(conditioned, jnp.where(at.done == 0, 0.0, kept), at.direction)
        ended = (power <= enough) & (at.done >= least) | (power <= 0.0)
        at = at._replace(direction=direction, power=power, ended=ended)
        return jax.lax.cond(ended, lambda at: at, advanced, at)

    nothing = jnp.zeros((), jnp.int32)
    begun = _Solving(start, residual, residual, residual, one, nothing, jnp.zeros((), bool))
    at = jax.lax.while_loop(unfinished, step, begun)
    return at.x, SolveRecord(at.done, jnp.sqrt(jnp.maximum(at.power, 0.0) / target.dimension))


#: A solve that preconditions another one ends at this error, in posterior standard deviations, and
#: makes so many iterations at most and at least: the other's error is told from what it finds.
_INNER = (0.05, 100, 3)


def inverse(
    apply: Callable[[Any], Any], precondition: Callable[[Any], Any], dimension: int
) -> Callable[[Any], Any]:
    """r -> x of A x = r, nearly, by conjugate gradients: a preconditioner where A is cheap and near
    to what is to be solved.

    Args:
        apply: x -> A x.
        precondition: of A.
        dimension: free coefficients.
    """

    def nearly(residual: Any) -> Any:
        nothing = jax.tree.map(jnp.zeros_like, residual)
        inner = Quadratic(apply, nothing, lambda key, x: x, precondition, dimension)
        return solve(inner, residual, nothing, *_INNER)[0]

    return nearly


def draw(
    key: Array, target: Quadratic, start: Any, tolerance: float, max_iterations: int
) -> tuple[Any, SolveRecord]:
    """One draw of N(A^-1 b, A^-1); `start` only changes the work, not the law."""
    residual = target.perturbed_residual(key, start)
    return solve(target, residual, start, tolerance, max_iterations)


def mean(
    target: Quadratic, start: Any, tolerance: float, max_iterations: int
) -> tuple[Any, SolveRecord]:
    """The mean A^-1 b."""
    residual = _add(target.linear, -1.0, target.apply(start))
    return solve(target, residual, start, tolerance, max_iterations)
