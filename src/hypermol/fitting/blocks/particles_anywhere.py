"""Some particles a sweep, each offered poses from anywhere: far jumps that are exact.

The match at low frequencies says where (`inference.anywhere`); the images up to the stage's
frequency decide.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.fitting.blocks.matching import Looked, Matcher, some_blocks, steps_of_all
from hypermol.fitting.sweep import Block, ChainState, Data, Info, Tuning
from hypermol.inference.anywhere import (
    Offered,
    Poses,
    anywhere_step,
    draw_pivots,
    log_proposal,
    propose,
)
from hypermol.inference.ensemble import CandidateCounts, Particles
from hypermol.posterior.particle_conditional import particles_separable
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters
from hypermol.runtime import block_loop, split_keys
from hypermol.space.fourier import half_plane, plane_columns

#: Frequency, in 1/box, that proposals are matched at.
_WAVES = 8
#: Proposals of each particle.
_PROPOSALS = 15
#: A far jump is of more than so much; and share of those offered of whom few jump so.
_FAR_RAD, _FEW = 0.35, 0.003


class _Proposer:
    """Proposals for one block of particles, from a match at low frequencies."""

    def __init__(self, posterior: Posterior) -> None:
        plane = posterior.plane
        coarse = half_plane(plane.box, min(_WAVES, plane.kmax))
        self._posterior = replace(posterior, plane=coarse)
        self._columns = plane_columns(plane, coarse)
        # a place that takes shifts two jumps to reach is hardly ever found: as far as a search
        # where some have nothing to do with the input's, half as far where a search has been
        reach = steps_of_all(coarse.kmax)
        steps = reach if posterior.pose_prior.misplaced_shift else -(-reach // 2)
        self._matcher = Matcher(self._posterior, steps)

    def look(self, key: Array, theta: Any) -> Looked:
        """Cells and templates, the same for all particles."""
        return self._matcher.look(key, theta)

    def offer(
        self,
        key: Array,
        mu: Hyperparameters,
        looked: Looked,
        latents: Latents,
        data: Data,
    ) -> Offered:
        """Proposals for a block."""
        cells, templates = looked
        matcher, prior = self._matcher, self._posterior.pose_prior
        pixels, ctf = (
            jnp.take(values, self._columns, axis=-1)
            for values in (data.images.pixels, data.images.ctf)
        )

        def one(item: tuple[Array, Array, Array, Latents, Consensus]) -> Offered:
            key, pixels, ctf, now, consensus = item
            pair = jax.random.split(key)
            pivot = draw_pivots(pair[0], cells, now.shift_px)
            log_rotation = prior.log_rotation(cells.quaternions, consensus.quaternion, mu)
            log_shift = prior.log_shift(pivot + cells.shifts_px, consensus.shift_px, mu)
            weights = matcher.log_weights(mu, templates, matcher.about(pixels, pivot), ctf)
            chance = jax.nn.softmax(weights + log_rotation[:, None] + log_shift, axis=(0, 1))
            poses = propose(pair[1], cells, chance, _PROPOSALS)
            every = Poses(
                jnp.concatenate([now.quaternion[None], poses.quaternion]),
                jnp.concatenate([(now.shift_px - pivot)[None], poses.shift_px]),
            )
            log_density = log_proposal(cells, chance, every)
            return Offered(poses._replace(shift_px=poses.shift_px + pivot), log_density)

        keys = jax.random.split(key, len(ctf))
        return jax.lax.map(one, (keys, pixels, ctf, latents, data.consensus))


@jax.jit
def _at_rows(latents: Latents, rows: Array, moved: Latents) -> Latents:
    """Latents of all blocks, some of which have moved."""
    return jax.tree.map(lambda old, new: old.at[rows].set(new), latents, moved)


class Offers(NamedTuple):
    """How many particles are offered poses in a sweep, about.

    Attributes:
        most: at first.
        settled: once few of them jump far.
    """

    most: int
    settled: int


def _is_far(old: Array, new: Array) -> Array:
    """Whether rotations, quaternions [..., 4], are so far apart that this was a jump, [...]."""
    cosine = jnp.abs(jnp.sum(old * new, axis=-1))
    return cosine < np.cos(0.5 * _FAR_RAD)


def particles_anywhere(posterior: Posterior, offers: Offers, states: int) -> Block:
    """Blocks of particles, chosen at random, take poses from anywhere or stay.

    Args:
        posterior: of any molecule.
        offers: how many; once they have settled they stay so, to the stage's end.
        states: asked of the lattice of states.
    """
    proposer = _Proposer(posterior)
    counts = CandidateCounts(1, 1, states)

    def shared(given: tuple[Any, Hyperparameters, Looked]) -> Callable[[Any], Any]:
        theta, mu, looked = given
        prepared = posterior.molecule.prepare(theta)

        def block(item: tuple[Array, Latents, ImageBlocks, Consensus]) -> tuple[Latents, Array]:
            key, latents, images, consensus = item
            pair = jax.random.split(key)
            offered = proposer.offer(pair[0], mu, looked, latents, Data(images, consensus))
            target = particles_separable(posterior, prepared, mu, consensus, images)
            moved, jumped = anywhere_step(pair[1], Particles(*latents), target, offered, counts)
            far = _is_far(latents.quaternion, moved.quaternion)
            return Latents(*moved), jnp.stack([jumped, far], axis=-1) & (images.present > 0)[
                :, None
            ]

        return block

    look, jump = jax.jit(proposer.look), block_loop(shared)

    def init(state: ChainState, data: Data) -> Tuning:
        return jnp.asarray(offers.most <= offers.settled)

    def step(key: Array, state: ChainState, tuning: Tuning, data: Data) -> tuple[ChainState, Info]:
        count = offers.settled if bool(tuning) else offers.most
        rows = some_blocks(key, data.images.present.shape, count)
        keys = split_keys(key, 2)
        looked = look(keys[0], state.theta)
        every = split_keys(keys[1], len(data.images.present))
        items = (every, state.latents, data.images, data.consensus)
        moved, jumped = jump(items, (state.theta, state.mu, looked), rows)
        n = max(float(np.sum(np.asarray(data.images.present)[rows])), 1.0)
        jumped, far = np.sum(np.asarray(jumped), axis=(0, 1)) / n
        state = state._replace(latents=_at_rows(state.latents, rows, moved))
        return state, {"jumped": jumped, "jumped_far": far}

    def adapt(tuning: Tuning, info: Info) -> Tuning:
        return tuning | (info["jumped_far"] < _FEW)

    # at another level the particles, or how many there are, may be others: all are asked once more
    return Block("particles anywhere", step, init, adapt, lambda before, fresh: fresh, _numbers)


def _numbers(info: Info) -> dict[str, float]:
    return {name: float(info[name]) for name in ("jumped", "jumped_far")}
