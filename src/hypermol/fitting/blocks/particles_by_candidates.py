"""Poses, states and contrasts drawn from sets of candidates by posterior weight: exact Gibbs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.fitting.sweep import Block, ChainState, Data, Info, as_it_is
from hypermol.inference import ensemble
from hypermol.inference.ensemble import CandidateCounts, MoveSize, Particles
from hypermol.inference.pose_guesses import Seen, carried, first_seen, seen_again
from hypermol.inference.rotation_priors import Guessed
from hypermol.posterior.particle_conditional import particles_separable
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters
from hypermol.runtime import block_loop, on_device, split_keys

#: Shares of candidate steps that should move a rotation or a shift. Steps of rotations that leave
#: the prior as it is decorrelate fastest when they are bold: benchmarks/results/rotations.md.
_ROTATION_TARGET, _SHIFT_TARGET = 0.3, 0.7
#: Least width of the proposals of rotations in radians, bounds of those of shifts in pixels.
_LEAST_ROTATION, _SHIFT_BOUNDS = 0.002, (0.02, 2.0)
_FIRST_ROTATION_RAD, _FIRST_SHIFT_PX = 0.04, 0.7
_GAIN = 0.3
#: Metropolis steps of the states after each draw from the lattice: they leave it.
_STATE_STEPS = 2
#: Rotations weighed when they are drawn from a guess.
_GUESSES = 9
#: Candidates for states that are positions.
_POSITIONS = 7


class Proposals(NamedTuple):
    """What poses are proposed by: widths of steps, and where each particle has been."""

    size: MoveSize
    seen: Seen


class Taken(NamedTuple):
    """What moved in the steps about where particles were, and whose rotation was drawn from its
    guess."""

    moved: ensemble.Moved
    guessed: Array


def _draw(
    posterior: Posterior,
    counts: CandidateCounts,
    item: tuple[Array, Latents, Proposals, ImageBlocks, Consensus],
    prepared: Any,
    mu: Hyperparameters,
) -> tuple[Latents, Taken]:
    """One block of particles."""
    space = posterior.molecule.state_space
    key, latents, (size, seen), images, consensus = item
    keys = jax.random.split(key, 2 + _STATE_STEPS)
    target = particles_separable(posterior, prepared, mu, consensus, images)
    particles = Particles(*latents)
    if any(target.is_position):
        positions = CandidateCounts(1, counts.shifts_per_axis, counts.states, _POSITIONS)
        particles, _, _ = ensemble.candidate_step(
            jax.random.fold_in(keys[0], 1), particles, target, space, size, positions
        )

    guessed = jnp.zeros(len(images.ctf), bool)
    if counts.rotations > 1:
        by_guess = target._replace(rotation_prior=Guessed(seen.guess, target.log_rotation))
        particles, _, (guessed, _) = ensemble.candidate_step(
            jax.random.fold_in(keys[0], 2),
            particles,
            by_guess,
            space,
            size,
            counts._replace(rotations=_GUESSES),
        )
    particles, local, moved = ensemble.candidate_step(
        keys[0], particles, target, space, size, counts
    )
    state, contrast = particles.state, particles.contrast
    if space.is_subspace:
        for step_key in keys[2:]:
            pair = jax.random.split(step_key)
            # contrast first: the candidates' draw integrated it out, so the old one is void
            contrast = ensemble.contrast_step(pair[0], state, local, target)
            state = ensemble.gaussian_state_step(pair[1], contrast, local, target, space.dim)
    elif not all(target.is_position):
        for step_key in keys[2:]:
            width = 1.0 / counts.states
            state = ensemble.state_step(step_key, state, local, target, space, width)
    contrast = ensemble.contrast_step(keys[1], state, local, target)
    latents = Latents(particles.quaternion, particles.shift_px, contrast, state)
    return latents, Taken(moved, guessed)


@jax.jit
def adapt_size(size: MoveSize, moved: ensemble.Moved, widest_rad: Array | float) -> MoveSize:
    """Robbins-Monro step of each particle's proposal widths towards the target rates.

    Args:
        size: widths now, per particle.
        moved: whether, or how often, the last sweep's steps moved.
        widest_rad: the prior's standard deviation, beyond which rotations go no wider.
    """

    def towards(width: Array, moved: Array, target: float, low: float, high: Any) -> Array:
        return jnp.clip(width * jnp.exp(_GAIN * (moved - target)), low, high)

    return MoveSize(
        towards(size.rotation_rad, moved.rotation, _ROTATION_TARGET, _LEAST_ROTATION, widest_rad),
        towards(size.shift_px, moved.shift, _SHIFT_TARGET, *_SHIFT_BOUNDS),
    )


@jax.jit
def _median(values: Array) -> Array:
    return jnp.median(values)


def _init(state: ChainState, data: Data) -> Proposals:
    ones = np.ones(data.images.present.shape)
    size = MoveSize(on_device(_FIRST_ROTATION_RAD * ones), on_device(_FIRST_SHIFT_PX * ones))
    return Proposals(size, first_seen(state.latents.quaternion))


def _adapt(tuning: Proposals, info: Info) -> Proposals:
    size = adapt_size(tuning.size, info["moved"], info["pose_sd_rad"])
    return Proposals(size, seen_again(tuning.seen, info["quaternion"]))


def _carry(before: Proposals, fresh: Proposals) -> Proposals:
    return Proposals(before.size, carried(before.seen))


def _numbers(info: Info) -> dict[str, float]:
    step = min(float(info["median_width_rad"]), float(info["pose_sd_rad"]))
    return {
        "guessed_rotation": float(np.mean(info["guessed"])),
        "moved_rotation": float(np.mean(info["moved"].rotation)),
        "moved_shift": float(np.mean(info["moved"].shift)),
        "rotation_step_deg": float(np.degrees(step)),
    }


def particles_by_candidates(posterior: Posterior, counts: CandidateCounts) -> Block:
    """Rotation, shift and state of every particle jointly from candidates, then its contrast.

    Rotations that move are drawn twice: from a guess of the particle's posterior that is learned
    from where it has been, which forgets where it was, and about where it is, which needs no guess.

    Args:
        posterior: of any molecule.
        counts: candidates; 1 leaves a variable where it is.
    """

    def shared(given: tuple[Any, Hyperparameters]) -> Callable[[Any], Any]:
        theta, mu = given
        prepared = posterior.molecule.prepare(theta)
        return lambda item: _draw(posterior, counts, item, prepared, mu)

    draw = block_loop(shared)

    def step(
        key: Array, state: ChainState, tuning: Proposals, data: Data
    ) -> tuple[ChainState, Info]:
        keys = split_keys(key, data.images.present.shape[0])
        items = (keys, state.latents, tuning, data.images, data.consensus)
        latents, taken = draw(items, (state.theta, state.mu))
        info = {
            "moved": taken.moved,
            "guessed": taken.guessed,
            "pose_sd_rad": state.mu.pose_sd_rad,
            "median_width_rad": _median(tuning.size.rotation_rad),
            "quaternion": latents.quaternion,
        }
        return state._replace(latents=latents), info

    moves = counts.rotations > 1
    return Block(
        "particles by candidates",
        step,
        _init,
        _adapt if moves else as_it_is,
        _carry,
        numbers=_numbers,
    )
