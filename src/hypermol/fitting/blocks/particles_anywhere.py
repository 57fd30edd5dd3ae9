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
from hypermol.fitting.blocks.hyperparameters import host_generator
from hypermol.fitting.blocks.matching import Looked, Matcher, steps_of_all
from hypermol.fitting.sweep import Block, ChainState, Data, Info
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
from hypermol.runtime import block_loop, on_device, split_keys
from hypermol.space.fourier import half_plane, plane_columns

#: Frequency, in 1/box, that proposals are matched at.
_WAVES = 8
#: Proposals of each particle.
_PROPOSALS = 15
#: A far jump is of more than so much; and share of all particles of whom few jump so.
_FAR_RAD, _FEW = 0.35, 0.003
#: What is left of a particle's unrest when it was asked and stayed near, and the least of it.
_CALMER, _CALM = 0.6, 0.1


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


def _in_a_row(values: Array) -> Array:
    """[n_blocks, B, ...] as [n_blocks B, ...], of nothing too (states of a rigid molecule)."""
    return values.reshape(values.shape[0] * values.shape[1], *values.shape[2:])


@jax.jit
def _gathered(blocks: Any, places: Array) -> Any:
    """Some of the particles of all blocks, [R, B], as blocks."""
    return jax.tree.map(lambda x: _in_a_row(x)[places], blocks)


@jax.jit
def _put_back(latents: Latents, places: Array, moved: Latents) -> Latents:
    """Latents of all blocks, some of whose particles have moved."""
    return jax.tree.map(
        lambda old, new: _in_a_row(old).at[places].set(new).reshape(old.shape),
        latents,
        moved,
    )


class Asking(NamedTuple):
    """Whom a sweep asks.

    Attributes:
        settled: bool, whether few of all jump far.
        unrest: [n_blocks, B] chances to be asked, up to a factor: 1 of a particle that jumped far
            when it was last asked, or never was.
    """

    settled: Array
    unrest: Array


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
    """Particles drawn by lot take poses from anywhere or stay.

    Those that still jump have more lots than others, as burn-in has found; while sampling the lots
    are what they were, so that who is asked does not depend on where anyone is.

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

    def init(state: ChainState, data: Data) -> Asking:
        return Asking(
            jnp.asarray(offers.most <= offers.settled), jnp.ones_like(data.images.present)
        )

    def step(key: Array, state: ChainState, tuning: Asking, data: Data) -> tuple[ChainState, Info]:
        present = np.asarray(data.images.present)
        count = offers.settled if bool(tuning.settled) else offers.most
        places = drawn_by_lot(key, np.asarray(tuning.unrest) * present, count)
        keys = split_keys(key, 2)
        looked = look(keys[0], state.theta)
        every = split_keys(keys[1], len(places))
        asked = (state.latents, data.images, data.consensus)
        if places.size < present.size:  # of all of them nothing is copied
            asked = _gathered(asked, places)
        moved, jumped = jump((every, *asked), (state.theta, state.mu, looked))
        jumped, n = np.asarray(jumped), max(float(present.ravel()[places].sum()), 1.0)
        shares = np.sum(jumped, axis=(0, 1)) / n
        state = state._replace(latents=_put_back(state.latents, places, moved))
        unrest = np.array(tuning.unrest)
        calmer = np.maximum(_CALMER * unrest.ravel()[places], _CALM)
        unrest.ravel()[places] = np.where(jumped[..., 1], 1.0, calmer)
        info = {"jumped": shares[0], "jumped_far": shares[1], "unrest": on_device(unrest)}
        return state, info | {"few": shares[1] * n < _FEW * present.sum()}

    def adapt(tuning: Asking, info: Info) -> Asking:
        return Asking(tuning.settled | info["few"], info["unrest"])

    def carry(before: Asking, fresh: Asking) -> Asking:
        """At another level all may move once more; who was restless is known."""
        return fresh._replace(unrest=before.unrest)

    return Block("particles anywhere", step, init, adapt, carry, _numbers)


def drawn_by_lot(key: Array, lots: np.ndarray, count: int) -> np.ndarray:
    """Places of about so many particles in the order of all, int [R, B]: as many as fill blocks.

    Args:
        key: random key.
        lots: [n_blocks, B], how much likelier each is to be drawn than another; 0 of those that
            are not there.
        count: how many.
    """
    n_blocks, block = lots.shape
    rows = min(n_blocks, -(-count // block))
    if rows == n_blocks:
        return np.arange(lots.size).reshape(lots.shape)
    with np.errstate(divide="ignore"):
        luck = np.log(lots.ravel()) + host_generator(key).gumbel(size=lots.size)
    return np.sort(np.argsort(-luck, kind="stable")[: rows * block]).reshape(rows, block)


def _numbers(info: Info) -> dict[str, float]:
    return {name: float(info[name]) for name in ("jumped", "jumped_far")}
