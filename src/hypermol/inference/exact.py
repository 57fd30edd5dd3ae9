"""Exact draws from Gaussian conditionals by perturb-and-solve (Papandreou and Yuille 2010).

If e ~ N(0, A) then x = A^-1 (b + e) ~ N(A^-1 b, A^-1). The system is solved by preconditioned
conjugate gradients. The error is measured on the scale of the posterior itself: r' M^-1 r estimates
(x - x*)' A (x - x*), which for the draw's own scatter about the mean is its dimension.
"""

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


def solve(
    target: Quadratic, residual: Any, start: Any, tolerance: float, max_iterations: int
) -> tuple[Any, SolveRecord]:
    """Preconditioned conjugate gradients from `start`, whose residual (right - A start) is given.

    Stops when the rms error is below `tolerance` posterior standard deviations per coefficient.
    Vectors are pytrees of arrays.
    """
    enough = tolerance**2 * target.dimension
    conditioned = target.precondition(residual)
    power = dot(residual, conditioned)

    def unfinished(carry) -> Array:
        _, _, _, power, count = carry
        return (power > enough) & (count < max_iterations)

    def step(carry):
        x, residual, direction, power, count = carry
        image = target.apply(direction)
        length = power / dot(direction, image)
        x = _add(x, length, direction)
        residual = _add(residual, -length, image)
        conditioned = target.precondition(residual)
        new_power = dot(residual, conditioned)
        direction = _add(conditioned, new_power / power, direction)
        return x, residual, direction, new_power, count + 1

    x, _, _, power, count = jax.lax.while_loop(
        unfinished, step, (start, residual, conditioned, power, jnp.zeros((), jnp.int32))
    )
    return x, SolveRecord(count, jnp.sqrt(power / target.dimension))


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
