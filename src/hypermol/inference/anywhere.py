"""Poses proposed from anywhere, for one image: cells of SO(3) x shifts by weight, and exact picks.

Proposals depend on where the particle is through a pivot alone, a shift drawn evenly from the
square about its own; given the pivot, every pose in the square about that is as likely to have led
to it. So iterated sampling importance resampling (Tjelmeland 2004; Andrieu, Lee and Vihola 2018)
leaves the posterior as it is: the pose now and n proposals are drawn from by posterior over
proposal density. Rotations are anywhere; shifts walk.
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

#: Chance of a proposal of any pose at all: none in reach is without one.
_BROAD = 0.05


class Cells(NamedTuple):
    """Balls of rotations times squares of shifts.

    Attributes:
        quaternions: [G, 4] centres of the balls.
        shifts_px: [S, 2] centres of the squares, which tile a square about 0: rows of a lattice,
            the second coordinate fastest.
        reach_rad: radius of the balls.
        spacing_px: side of the squares.
    """

    quaternions: Array
    shifts_px: Array
    reach_rad: float
    spacing_px: float

    @property
    def half_px(self) -> float:
        """From 0 to the edge of the square that the squares tile."""
        return 0.5 * round(len(self.shifts_px) ** 0.5) * self.spacing_px


class Poses(NamedTuple):
    """n poses: quaternions [n, 4] and shifts [n, 2] in pixels."""

    quaternion: Array
    shift_px: Array


def draw_pivots(key: Array, cells: Cells, shifts_px: Array) -> Array:
    """A pivot [..., 2] for each shift, from the square about it."""
    away = jax.random.uniform(key, shifts_px.shape, minval=-1.0, maxval=1.0)
    return shifts_px + cells.half_px * away


def propose(key: Array, cells: Cells, chance: Array, n: int) -> Poses:
    """Draw n poses: a cell by its chance and a pose evenly within; seldom one of all evenly.

    Args:
        key: random key.
        cells: G x S of them.
        chance: [G, S], summing to 1.
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
            cells.half_px * jax.random.uniform(far[1], (n, 2), minval=-1.0, maxval=1.0),
            cells.shifts_px[square] + offset,
        ),
    )


def log_proposal(cells: Cells, chance: Array, poses: Poses) -> Array:
    """log density [n] of `propose`, with respect to Haar measure (of total 1) and pixels^2; -inf
    where it proposes nothing.

    Evenly drawn vector parts x have density 3 / (4 pi r^3) in a ball of radius r; Haar measure
    has 1 / (pi^2 w) there, w being the turn's real part.
    """
    radius = jnp.sin(0.5 * cells.reach_rad)
    real = jnp.abs(poses.quaternion @ cells.quaternions.T)
    inside = jnp.where(real > jnp.sqrt(1.0 - radius**2), real, 0.0)
    kernel = 0.75 * jnp.pi / radius**3 * inside
    square, held = _square_of(cells, poses.shift_px)
    near = jnp.einsum("ng,gn->n", kernel, chance[:, square])
    near = near / cells.spacing_px**2
    far = 1.0 / (2.0 * cells.half_px) ** 2
    return jnp.where(held, jnp.log((1.0 - _BROAD) * near + _BROAD * far), -jnp.inf)


#: How far outside the squares rounding may put a pose, in squares.
_ROUNDING = 1e-3


def _square_of(cells: Cells, shifts_px: Array) -> tuple[Array, Array]:
    """Which square holds each shift [n], and whether one does."""
    side = round(len(cells.shifts_px) ** 0.5)
    place = (shifts_px + cells.half_px) / cells.spacing_px
    held = jnp.all((place >= -_ROUNDING) & (place <= side + _ROUNDING), axis=-1)
    steps = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, side - 1)
    return side * steps[:, 0] + steps[:, 1], held


#: Views whose slices are held at a time.
_TOGETHER = 4


class Offered(NamedTuple):
    """Poses offered to a block of B particles.

    Attributes:
        poses: [B, n], n + 1 a multiple of 4.
        log_density: [B, n + 1] of proposing them, and first the pose now.
    """

    poses: Poses
    log_density: Array


def anywhere_step(
    key: Array, particles: Particles, target: Separable, offered: Offered, counts: CandidateCounts
) -> tuple[Particles, Array]:
    """Draw each particle's (rotation, shift, state) from its pose now and n proposals.

    States that act through the weights are drawn with the pose, from the lattice of each; those
    that are positions stay. Contrast is integrated out, then drawn.

    Args:
        key: random key.
        particles: a block of B.
        target: of the block.
        offered: to each of them.
        counts: of the lattice of states.

    Returns:
        The particles, and whether each took a proposal [B].
    """
    keys = jax.random.split(key)
    views = _weighed(particles, target, offered)
    states = jax.vmap(lambda tau: target.lattice(tau, counts.states))(particles.state)
    weights = target.weights(states)
    along = jnp.einsum("bjf,btf->bjt", views.linear, weights)
    power = jnp.einsum("btf,bjfg,btg->bjt", weights, views.gram, weights)
    score = (
        contrast_marginal(along, power, target.contrast_precision)
        + views.log_weight[..., None]
        + target.log_state(states)[:, None]
    )
    flat = score.reshape(len(score), -1)
    chosen = jnp.argmax(flat + jax.random.gumbel(keys[0], flat.shape), axis=-1)
    view, member = jnp.divmod(chosen, states.shape[1])
    row = jnp.arange(len(chosen))
    contrast = draw_contrast(
        keys[1], along[row, view, member], power[row, view, member], target.contrast_precision
    )
    return views.taken(view, contrast, states[row, member]), view > 0


class _Views(NamedTuple):
    """The pose now [B, 1 + n] and those offered.

    Attributes:
        poses: [B, 1 + n].
        gram, linear: [B, 1 + n, F, F] and [B, 1 + n, F], of the images.
        log_weight: [B, 1 + n] prior over proposal density.
    """

    poses: Poses
    gram: Array
    linear: Array
    log_weight: Array

    def taken(self, view: Array, contrast: Array, state: Array) -> Particles:
        """Particles at one of their views [B]."""
        row = jnp.arange(len(view))
        return Particles(
            self.poses.quaternion[row, view], self.poses.shift_px[row, view], contrast, state
        )


def _weighed(particles: Particles, target: Separable, offered: Offered) -> _Views:
    """Every pose that a particle may take."""
    now = Poses(particles.quaternion, particles.shift_px)
    poses = jax.tree.map(
        lambda one, more: jnp.concatenate([one[:, None], more], axis=1), now, offered.poses
    )
    gram, linear = _evidence_of_views(target, poses.quaternion, particles.state, poses.shift_px)
    log_prior = target.log_rotation(poses.quaternion) + target.log_shift(poses.shift_px)
    return _Views(poses, gram, linear, log_prior - offered.log_density)


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
