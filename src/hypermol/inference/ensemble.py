"""Exact Gibbs steps over finite sets of candidates for a block of particles.

A candidate set that would be generated with the same probability from any of its members may be
drawn from by posterior weight, with no rejection: rotations scattered symmetrically about a
hidden pivot, a shift lattice laid with a random corner, a state lattice through the current
state. Contrast is integrated out, so a move draws (rotation, shift, state) jointly; contrast is
then drawn exactly.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.density import Separable
from hypermol.space.rotation import (
    matrix_from_quaternion,
    quaternion_from_vector,
    quaternion_multiply,
)
from hypermol.space.state_space import StateSpace


class Particles(NamedTuple):
    """A block's unknowns: quaternion [B, 4], shift_px [B, 2], contrast [B], state [B, dim]."""

    quaternion: Array
    shift_px: Array
    contrast: Array
    state: Array


class MoveSize(NamedTuple):
    """Widths of the pose proposals, per particle: radians [B] and pixels [B]."""

    rotation_rad: Array
    shift_px: Array


class CandidateCounts(NamedTuple):
    """How many candidates a move weighs; 1 leaves a variable where it is.

    `states` is what the space is asked for: a finite set of states is always weighed as a whole.
    """

    rotations: int
    shifts_per_axis: int
    states: int


class Moved(NamedTuple):
    """What a step did, [B]: whether rotation and shift changed."""

    rotation: Array
    shift: Array


def rotation_candidates(key: Array, quaternion: Array, width: Array, n: int) -> Array:
    """Candidates [B, n, 4]: the current rotation, then n - 1 scattered about a hidden pivot."""
    if n == 1:
        return quaternion[:, None]
    vectors = width[:, None, None] * jax.random.normal(key, (quaternion.shape[0], n, 3))
    pivot = quaternion_multiply(quaternion_from_vector(vectors[:, 0]), quaternion)
    others = quaternion_multiply(quaternion_from_vector(vectors[:, 1:]), pivot[:, None])
    return jnp.concatenate([quaternion[:, None], others], axis=1)


def shift_candidates(key: Array, shift: Array, width: Array, per_axis: int) -> tuple[Array, Array]:
    """A square lattice [B, per_axis^2, 2] with the current shift at a random place [B].

    The spacing is `width` [B] times a fresh factor, whatever the shift: a fixed spacing would
    hold the chain on one lattice for ever.
    """
    n = per_axis**2
    keys = jax.random.split(key)
    place = jax.random.randint(keys[0], (shift.shape[0],), 0, n)
    spacing = width * jax.random.uniform(keys[1], width.shape, minval=0.6, maxval=1.4)
    steps = jnp.stack(jnp.divmod(jnp.arange(n), per_axis), axis=-1).astype(shift.dtype)
    lattice = (steps[None] - steps[place][:, None]) * spacing[:, None, None]
    return shift[:, None] + lattice, place


def contrast_marginal(linear: Array, gram: Array, precision: Array) -> Array:
    """log of the integral over contrast a ~ N(1, 1 / precision) of exp(a linear - a^2 gram / 2).

    Up to a constant that depends on the precision alone.
    """
    total = gram + precision
    return 0.5 * (linear + precision) ** 2 / total - 0.5 * jnp.log(total)


def draw_contrast(key: Array, linear: Array, gram: Array, precision: Array) -> Array:
    """Contrast given everything else, exactly Gaussian."""
    total = gram + precision
    return (linear + precision) / total + jax.random.normal(key, linear.shape) / jnp.sqrt(total)


def _quadratic(weights: Array, gram: Array) -> Array:
    return jnp.einsum("...f,...fg,...g->...", weights, gram, weights)


def candidate_step(
    key: Array,
    particles: Particles,
    target: Separable,
    space: StateSpace,
    size: MoveSize,
    counts: CandidateCounts,
) -> tuple[Particles, tuple[Array, Array], Moved]:
    """Draw (rotation, shift, state) of each particle from its candidates, contrast integrated out.

    Returns:
        The particles (contrast not yet redrawn), the (gram [B, F, F], linear [B, F]) at their new
        poses, and what moved.
    """
    keys = jax.random.split(key, 3)
    rotations = rotation_candidates(
        keys[0], particles.quaternion, size.rotation_rad, counts.rotations
    )
    shifts, place = shift_candidates(
        keys[1], particles.shift_px, size.shift_px, counts.shifts_per_axis
    )
    states = jax.vmap(lambda tau: space.lattice(tau, counts.states))(particles.state)
    gram, linear = target.evidence(matrix_from_quaternion(rotations), shifts)
    weights = target.weights(states)
    along = jnp.einsum("bjsf,btf->bjst", linear, weights)
    power = jnp.einsum("btf,bjfg,btg->bjt", weights, gram, weights)[:, :, None]
    score = (
        contrast_marginal(along, power, target.contrast_precision)
        + target.log_pose(rotations)[:, :, None, None]
        + target.log_shift(shifts)[:, None, :, None]
        + target.log_state(states)[:, None, None, :]
    )
    flat = score.reshape(score.shape[0], -1)
    chosen = jnp.argmax(flat + jax.random.gumbel(keys[2], flat.shape), axis=-1)
    rotation, rest = jnp.divmod(chosen, shifts.shape[1] * states.shape[1])
    shift, state = jnp.divmod(rest, states.shape[1])
    row = jnp.arange(flat.shape[0])
    moved = Moved(rotation != 0, shift != place)
    particles = Particles(
        rotations[row, rotation], shifts[row, shift], particles.contrast, states[row, state]
    )
    return particles, (gram[row, rotation], linear[row, rotation, shift]), moved


def state_step(
    key: Array,
    state: Array,
    local: tuple[Array, Array],
    target: Separable,
    space: StateSpace,
    width: float,
) -> Array:
    """One Metropolis step of each state by the space's own proposal, contrast integrated out.

    It moves states off the lattice that `candidate_step` stays on. The proposal is symmetric, so
    that the ratio of densities alone decides.
    """
    gram, linear = local
    keys = jax.random.split(key)
    proposal = space.propose(keys[0], state, width)

    def score(tau: Array) -> Array:
        weights = target.weights(tau)
        along = jnp.sum(weights * linear, axis=-1)
        return contrast_marginal(
            along, _quadratic(weights, gram), target.contrast_precision
        ) + target.log_state(tau)

    log_ratio = score(proposal) - score(state)
    accept = jnp.log(jax.random.uniform(keys[1], log_ratio.shape)) < log_ratio
    return jnp.where(accept[:, None], proposal, state)


def contrast_step(key: Array, state: Array, local: tuple[Array, Array], target: Separable) -> Array:
    """Contrasts [B] given poses and states."""
    gram, linear = local
    weights = target.weights(state)
    along = jnp.sum(weights * linear, axis=-1)
    return draw_contrast(key, along, _quadratic(weights, gram), target.contrast_precision)


def gaussian_state_step(key: Array, contrast: Array, local: tuple[Array, Array]) -> Array:
    """States [B, d] of linear-subspace models (weights = 1, tau) given contrast: exact.

    Conditional precision `a^2 G_zz + I`, linear term `a b_z - a^2 G_z0`.
    """
    gram, linear = local
    a = contrast[:, None]
    precision = a[..., None] ** 2 * gram[:, 1:, 1:] + jnp.eye(gram.shape[-1] - 1)
    right = a * linear[:, 1:] - a**2 * gram[:, 1:, 0]
    factor = jnp.linalg.cholesky(precision)
    solve = jax.scipy.linalg.solve_triangular
    white = solve(factor, right[..., None], lower=True)[..., 0]
    white = white + jax.random.normal(key, white.shape)
    return solve(factor, white[..., None], lower=True, trans=1)[..., 0]
