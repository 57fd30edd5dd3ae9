"""Poses proposed from anywhere, for one image: cells of SO(3) x shifts by weight, and exact picks.

The proposals do not depend on where the particle is, so that iterated sampling importance
resampling (Tjelmeland 2004; Andrieu, Lee and Vihola 2018) leaves the posterior as it is: the pose
now and n proposals are drawn from by posterior over proposal density.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.inference.ensemble import (
    CandidateCounts,
    Particles,
    contrast_marginal,
    draw_contrast,
)
from hypermol.inference.target import Separable
from hypermol.space.rotation import matrix_from_quaternion, quaternion_multiply, random_quaternions

#: Chance of a proposal from anywhere at all: no pose is without one.
_BROAD = 0.05


class Cells(NamedTuple):
    """Balls of rotations times squares of shifts.

    Attributes:
        quaternions: [G, 4] centres of the balls.
        shifts_px: [S, 2] centres of the squares, which tile a part of the plane: rows of a square
            lattice, the second coordinate fastest.
        reach_rad: radius of the balls.
        spacing_px: side of the squares.
    """

    quaternions: Array
    shifts_px: Array
    reach_rad: float
    spacing_px: float


class Poses(NamedTuple):
    """n poses: quaternions [n, 4] and shifts [n, 2] in pixels."""

    quaternion: Array
    shift_px: Array


def propose(key: Array, cells: Cells, chance: Array, sd_px: float, n: int) -> Poses:
    """Draw n poses: a cell by its chance and a pose evenly within; seldom one from anywhere.

    Args:
        key: random key.
        cells: G x S of them.
        chance: [G, S], summing to 1.
        sd_px: of the shifts of those from anywhere, about 0.
        n: how many.
    """
    keys = jax.random.split(key, 7)
    ladder = jnp.cumsum(jnp.sum(chance, axis=1))
    rung = jax.random.uniform(keys[0], (n,)) * ladder[-1]
    ball = jnp.minimum(jnp.searchsorted(ladder, rung), len(ladder) - 1)
    square = jax.random.categorical(keys[1], jnp.log(chance[ball]))
    # the vector part x of a turn by angle w has |x| = sin(w / 2): evenly in a ball of such x
    direction = jax.random.normal(keys[2], (n, 3))
    direction = direction / jnp.linalg.norm(direction, axis=-1, keepdims=True)
    radius = jnp.sin(0.5 * cells.reach_rad) * jnp.cbrt(jax.random.uniform(keys[3], (n, 1)))
    turn = jnp.concatenate([jnp.sqrt(1.0 - radius**2), radius * direction], axis=-1)
    near = quaternion_multiply(turn, cells.quaternions[ball])
    offset = cells.spacing_px * jax.random.uniform(keys[4], (n, 2), minval=-0.5, maxval=0.5)
    broad = jax.random.uniform(keys[5], (n, 1)) < _BROAD
    far = jax.random.split(keys[6])
    return Poses(
        jnp.where(broad, random_quaternions(far[0], n), near),
        jnp.where(
            broad,
            sd_px * jax.random.normal(far[1], (n, 2)),
            cells.shifts_px[square] + offset,
        ),
    )


def log_proposal(cells: Cells, chance: Array, sd_px: float, poses: Poses) -> Array:
    """log density [n] of `propose`, with respect to Haar measure (of total 1) and pixels^2.

    Evenly drawn vector parts x have density 3 / (4 pi r^3) in a ball of radius r; Haar measure
    has 1 / (pi^2 w) there, w being the turn's real part.
    """
    radius = jnp.sin(0.5 * cells.reach_rad)
    real = jnp.abs(poses.quaternion @ cells.quaternions.T)
    inside = jnp.where(real > jnp.sqrt(1.0 - radius**2), real, 0.0)
    kernel = 0.75 * jnp.pi / radius**3 * inside
    square, held = _square_of(cells, poses.shift_px)
    near = jnp.einsum("ng,gn->n", kernel, chance[:, square])
    near = jnp.where(held, near, 0.0) / cells.spacing_px**2
    distance2 = jnp.sum(poses.shift_px**2, axis=-1)
    far = jnp.exp(-0.5 * distance2 / sd_px**2) / (2.0 * jnp.pi * sd_px**2)
    return jnp.log((1.0 - _BROAD) * near + _BROAD * far)


def _square_of(cells: Cells, shifts_px: Array) -> tuple[Array, Array]:
    """Which square holds each shift [n], and whether one does."""
    side = round(len(cells.shifts_px) ** 0.5)
    steps = jnp.rint((shifts_px - cells.shifts_px[0]) / cells.spacing_px).astype(jnp.int32)
    held = jnp.all((steps >= 0) & (steps < side), axis=-1)
    return jnp.where(held, side * steps[:, 0] + steps[:, 1], 0), held


#: Views whose slices are held at a time.
_TOGETHER = 4


def anywhere_step(
    key: Array,
    particles: Particles,
    target: Separable,
    proposals: Poses,
    log_proposals: Array,
    counts: CandidateCounts,
) -> tuple[Particles, Array]:
    """Draw each particle's (rotation, shift, state) from its pose now and n proposals.

    States that act through the weights are drawn with the pose, from the lattice of each; those
    that are positions stay. Contrast is integrated out, then drawn.

    Args:
        key: random key.
        particles: a block of B.
        target: of the block.
        proposals: [B, n], n + 1 a multiple of 4.
        log_proposals: [B, n + 1] their log densities, that of the pose now first.
        counts: of the lattice of states.

    Returns:
        The particles, and whether each took a proposal [B].
    """
    keys = jax.random.split(key)
    quaternions = jnp.concatenate([particles.quaternion[:, None], proposals.quaternion], axis=1)
    shifts = jnp.concatenate([particles.shift_px[:, None], proposals.shift_px], axis=1)
    states = jax.vmap(lambda tau: target.lattice(tau, counts.states))(particles.state)
    gram, linear = _evidence_of_views(target, quaternions, particles.state, shifts)
    weights = target.weights(states)
    along = jnp.einsum("bjf,btf->bjt", linear, weights)
    power = jnp.einsum("btf,bjfg,btg->bjt", weights, gram, weights)
    score = (
        contrast_marginal(along, power, target.contrast_precision)
        + (target.log_rotation(quaternions) + target.log_shift(shifts) - log_proposals)[..., None]
        + target.log_state(states)[:, None]
    )
    flat = score.reshape(len(score), -1)
    chosen = jnp.argmax(flat + jax.random.gumbel(keys[0], flat.shape), axis=-1)
    view, member = jnp.divmod(chosen, states.shape[1])
    row = jnp.arange(len(chosen))
    contrast = draw_contrast(
        keys[1], along[row, view, member], power[row, view, member], target.contrast_precision
    )
    moved = Particles(quaternions[row, view], shifts[row, view], contrast, states[row, member])
    return moved, view > 0


def _evidence_of_views(
    target: Separable, quaternions: Array, states: Array, shifts_px: Array
) -> tuple[Array, Array]:
    """(gram [B, J, F, F], linear [B, J, F]) of J views, each at its own shift: a few at once."""
    block, n = quaternions.shape[:2]

    def some(item: tuple[Array, Array]) -> tuple[Array, Array]:
        turns, shifts = item
        views = jnp.broadcast_to(states[:, None], (block, _TOGETHER, states.shape[-1]))
        gram, linear = target.evidence(matrix_from_quaternion(turns), views, shifts)
        return gram, jnp.einsum("bjjf->bjf", linear)

    def parts(values: Array) -> Array:
        return jnp.moveaxis(values.reshape(block, n // _TOGETHER, _TOGETHER, -1), 1, 0)

    found = jax.lax.map(some, (parts(quaternions), parts(shifts_px)))
    gram, linear = (jnp.moveaxis(x, 0, 1).reshape(block, n, *x.shape[3:]) for x in found)
    return gram, linear
