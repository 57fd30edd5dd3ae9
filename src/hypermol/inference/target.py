"""What a kernel may ask of a target. Kernels name one of these, never a model's class."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.inference.rotation_priors import RotationPrior


class Density(NamedTuple):
    """A log density up to a constant: enough for Metropolis-Hastings (eq. 15).

    It may be an array of terms; kernels sum the differences of terms.
    """

    log_density: Callable[[Any], Array]


class Differentiable(NamedTuple):
    """A log density with the gradient of its sum: enough for MALA (eq. 17) and HMC."""

    log_density: Callable[[Any], Array]
    value_and_gradient: Callable[[Any], tuple[Array, Any]]


def differentiable(log_density: Callable[[Any], Array]) -> Differentiable:
    """A log density given as terms, differentiated by reverse mode."""

    def value_and_gradient(position: Any) -> tuple[Array, Any]:
        terms, transpose = jax.vjp(log_density, position)
        return terms, transpose(jnp.ones_like(terms))[0]

    return Differentiable(log_density, value_and_gradient)


class Quadratic(NamedTuple):
    """A Gaussian conditional N(A^-1 b, A^-1): enough for an exact draw.

    Attributes:
        apply: x -> A x, A symmetric positive definite; x is any pytree of arrays.
        linear: b.
        perturbed_residual: (key, x) -> b - A x plus a draw of N(0, A), in one pass over the data.
        precondition: r -> M^-1 r, M near A and symmetric positive definite.
        dimension: free coefficients, so that a solve's error can be told in standard deviations.
    """

    apply: Callable[[Any], Any]
    linear: Any
    perturbed_residual: Callable[[Array, Any], Any]
    precondition: Callable[[Any], Any]
    dimension: int


class Tilted(NamedTuple):
    """A Gaussian times a smooth factor: enough for preconditioned Crank-Nicolson steps.

    Attributes:
        reference: the Gaussian.
        tilt: log of the factor, as terms, and the gradient of their sum.
    """

    reference: Quadratic
    tilt: Differentiable


class Separable(NamedTuple):
    """A block of particles whose images are linear in contrast x weights(state) at a known view.

    The log-likelihood of contrast a and state t at view j and shift m is
    `a w.linear[j, m] - a^2 w.gram[j].w / 2` with `w = weights(t)`. A view is a rotation together
    with the states that `is_position` marks (they move what is sliced; eq. 26); the other states
    act through the weights alone.

    Attributes:
        evidence: (rotations [B, J, 3, 3], states [B, J, dim], shifts_px [B, S, 2]) ->
            (gram [B, J, F, F], linear [B, J, S, F]).
        weights: states [..., dim] -> [..., F].
        lattice: (state [dim], n) -> [T, dim], about n members of the lattice that holds the
            state; positions stay as they are.
        is_position: per state variable, whether it is part of the view.
        rotation_prior: prior of rotations; candidates are drawn so as to need no density of it.
        log_rotation: quaternions [B, J, 4] -> [B, J] log prior of rotations, for draws that do.
        log_shift: (shifts_px [B, S, 2]) -> [B, S] log prior of shifts.
        log_state: states [..., dim] -> [...] log prior of states.
        contrast_precision: 1 / variance of the Gaussian contrast prior with mean 1.
    """

    evidence: Callable[[Array, Array, Array], tuple[Array, Array]]
    weights: Callable[[Array], Array]
    lattice: Callable[[Array, int], Array]
    is_position: tuple[bool, ...]
    rotation_prior: RotationPrior
    log_rotation: Callable[[Array], Array]
    log_shift: Callable[[Array], Array]
    log_state: Callable[[Array], Array]
    contrast_precision: Array
