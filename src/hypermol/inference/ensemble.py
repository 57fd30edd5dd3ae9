"""Exact Gibbs steps over finite sets of candidates for a block of particles.

A candidate set that would be generated with the same probability from any of its members may be
drawn from by posterior weight, with no rejection: rotations scattered about a hidden pivot by
steps that leave their prior as it is, a shift lattice laid with a random corner, a state lattice
through the current state. Contrast is integrated out, so a move draws (rotation, shift, state)
jointly; contrast is then drawn exactly.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.inference.target import Separable
from hypermol.space.rotation import matrix_from_quaternion
from hypermol.space.state_space import StateSpace


class Particles(NamedTuple):
    """A block's unknowns: quaternion [B, 4], shift_px [B, 2], contrast [B], state [B, dim]."""

    quaternion: Array
    shift_px: Array
    contrast: Array
    state: Array


class MoveSize(NamedTuple):
    """Widths of the pose proposals, per particle: radians [B] and pixels [B].

    Rotations wider than their prior's standard deviation are fresh draws of the prior.
    """

    rotation_rad: Array
    shift_px: Array


class CandidateCounts(NamedTuple):
    """How many candidates a move weighs; 1 leaves a variable where it is.

    Attributes:
        rotations: directions.
        shifts_per_axis: shifts along x and along y.
        states: asked of the lattice of states that act through the weights (a finite set of
            states is always weighed as a whole).
        positions: candidates for the states that are positions; not both these and rotations.
    """

    rotations: int
    shifts_per_axis: int
    states: int
    positions: int = 1


class Moved(NamedTuple):
    """What a step did, [B]: whether rotation and shift changed."""

    rotation: Array
    shift: Array


def shift_candidates(key: Array, shift: Array, width: Array, per_axis: int) -> tuple[Array, Array]:
    """A square lattice [B, per_axis^2, 2] with the current shift as a random one of its points [B].

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


#: Bounds of the scatter of positions, whose width is drawn anew, log-uniformly.
_POSITION_WIDTHS = (0.01, 0.5)


def state_candidates(
    key: Array, state: Array, target: Separable, space: StateSpace, counts: CandidateCounts
) -> Array:
    """Candidate states [B, J, T, dim]: T lattice members for each of J = counts.positions views.

    Positions scatter evenly about a hidden pivot, with a random width that does not depend on
    them; the others take every member of their lattice.
    """
    lattice = jax.vmap(lambda tau: target.lattice(tau, counts.states))(state)
    if counts.positions == 1:
        return lattice[:, None]
    keys = jax.random.split(key, 3)
    low, high = np.log(_POSITION_WIDTHS)
    width = jnp.exp(jax.random.uniform(keys[0], (len(state), 1, 1), minval=low, maxval=high))
    if sum(target.is_position) > 1:  # all at once would seldom fit
        width = width * jax.random.bernoulli(keys[2], 0.5, (len(state), 1, state.shape[1]))
    steps = width * jax.random.normal(keys[1], (len(state), counts.positions, state.shape[1]))
    pivot = space.wrap(state + steps[:, 0])
    others = space.wrap(pivot[:, None] + steps[:, 1:])
    views = jnp.concatenate([state[:, None], others], axis=1)[:, :, None]
    return jnp.where(jnp.asarray(target.is_position), views, lattice[:, None])


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

    Candidates are views (rotations, or positions at the one rotation) x shifts x a lattice
    of the other states.

    Returns:
        The particles (contrast not yet redrawn), the (gram [B, F, F], linear [B, F]) at their new
        poses, and what moved.
    """
    keys = jax.random.split(key, 4)
    if min(counts.rotations, counts.positions) > 1:
        raise ValueError("rotations and positions are moved in separate steps")
    rotations, log_rotation = target.rotation_prior.candidates(
        keys[0], particles.quaternion, size.rotation_rad, counts.rotations
    )
    shifts, place = shift_candidates(
        keys[1], particles.shift_px, size.shift_px, counts.shifts_per_axis
    )
    states = state_candidates(keys[3], particles.state, target, space, counts)
    n_views = max(counts.rotations, counts.positions)
    rotations = jnp.broadcast_to(rotations, (len(rotations), n_views, 4))
    log_rotation = jnp.broadcast_to(log_rotation, (len(rotations), n_views))
    states = jnp.broadcast_to(states, (len(states), n_views, *states.shape[2:]))
    views = states[:, :, 0]  # the weights' own states do not matter to the slices
    gram, linear = target.evidence(matrix_from_quaternion(rotations), views, shifts)
    weights = target.weights(states)
    along = jnp.einsum("bjsf,bjtf->bjst", linear, weights)
    power = jnp.einsum("bjtf,bjfg,bjtg->bjt", weights, gram, weights)[:, :, None]
    score = (
        contrast_marginal(along, power, target.contrast_precision)
        + log_rotation[:, :, None, None]
        + target.log_shift(shifts)[:, None, :, None]
        + target.log_state(states)[:, :, None, :]
    )
    flat = score.reshape(score.shape[0], -1)
    chosen = jnp.argmax(flat + jax.random.gumbel(keys[2], flat.shape), axis=-1)
    rotation, rest = jnp.divmod(chosen, shifts.shape[1] * states.shape[2])
    shift, state = jnp.divmod(rest, states.shape[2])
    row = jnp.arange(flat.shape[0])
    moved = Moved(rotation != 0, shift != place)
    particles = Particles(
        rotations[row, rotation],
        shifts[row, shift],
        particles.contrast,
        states[row, rotation, state],
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
    """One Metropolis step of the states that act through the weights, contrast integrated out.

    It moves states off the lattice that `candidate_step` stays on. The proposal, the space's own,
    is symmetric, so that the ratio of densities alone decides.
    """
    gram, linear = local
    keys = jax.random.split(key)
    proposal = space.propose(keys[0], state, width)
    proposal = jnp.where(jnp.asarray(target.is_position, bool), state, proposal)

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


def gaussian_state_step(
    key: Array, contrast: Array, local: tuple[Array, Array], target: Separable, dim: int
) -> Array:
    """States [B, dim] of linear-subspace models given contrast: exact.

    Their weights are affine, w(z) = w0 + W z, so that the conditional precision is
    `a^2 W' G W + I` and the linear term `W' (a b - a^2 G w0)`.
    """
    gram, linear = local
    a = contrast[:, None]
    rest = target.weights(jnp.zeros(dim))
    slope = target.weights(jnp.eye(dim)) - rest
    precision = a[..., None] ** 2 * jnp.einsum("df,bfg,eg->bde", slope, gram, slope)
    precision = precision + jnp.eye(dim)
    right = jnp.einsum("df,bf->bd", slope, a * linear - a**2 * (gram @ rest))
    factor = jnp.linalg.cholesky(precision)
    solve = jax.scipy.linalg.solve_triangular
    white = solve(factor, right[..., None], lower=True)[..., 0]
    white = white + jax.random.normal(key, white.shape)
    return solve(factor, white[..., None], lower=True, trans=1)[..., 0]
