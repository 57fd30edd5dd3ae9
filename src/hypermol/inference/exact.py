"""Exact draws from Gaussian conditionals by perturb-and-solve (Papandreou and Yuille 2010).

If e ~ N(0, A) then x = A^-1 (b + e) ~ N(A^-1 b, A^-1). The system is solved by preconditioned
conjugate gradients, so the draw is exact up to the tolerance, which the record states.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.density import Quadratic


class SolveRecord(NamedTuple):
    """How a solve ended: iterations used, and |A x - b| over |b| in the preconditioned norm."""

    iterations: Array
    relative_residual: Array


def solve(
    target: Quadratic, right: Array, start: Array, tolerance: float, max_iterations: int
) -> tuple[Array, SolveRecord]:
    """Preconditioned conjugate gradients for A x = right from `start`."""

    def dot(a: Array, b: Array) -> Array:
        return jnp.vdot(a, b)

    scale = dot(right, target.precondition(right))
    residual = right - target.apply(start)
    conditioned = target.precondition(residual)
    power = dot(residual, conditioned)

    def unfinished(carry) -> Array:
        _, _, _, power, count = carry
        return (power > tolerance**2 * scale) & (count < max_iterations)

    def step(carry):
        x, residual, direction, power, count = carry
        image = target.apply(direction)
        length = power / dot(direction, image)
        x = x + length * direction
        residual = residual - length * image
        conditioned = target.precondition(residual)
        new_power = dot(residual, conditioned)
        direction = conditioned + (new_power / power) * direction
        return x, residual, direction, new_power, count + 1

    x, _, _, power, count = jax.lax.while_loop(
        unfinished, step, (start, residual, conditioned, power, jnp.zeros((), jnp.int32))
    )
    return x, SolveRecord(count, jnp.sqrt(power / scale))


def draw(
    key: Array, target: Quadratic, start: Array, tolerance: float, max_iterations: int
) -> tuple[Array, SolveRecord]:
    """One draw of N(A^-1 b, A^-1); `start` only changes the work, not the law."""
    perturbed = target.linear + target.noise(key)
    return solve(target, perturbed, start, tolerance, max_iterations)
