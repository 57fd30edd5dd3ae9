"""Poses, shifts, contrasts and states of every particle by MALA (eq. 19): any molecule."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import Latents
from hypermol.fitting.sweep import Block, ChainState, Data, Info
from hypermol.inference import langevin, metropolis
from hypermol.inference.langevin import StepSize
from hypermol.inference.target import Density
from hypermol.posterior.particle_conditional import (
    particle_density,
    particle_differentiable,
    particle_information,
    retract,
)
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters
from hypermol.runtime import BlockLoop, block_loop, split_keys
from hypermol.space.state_space import StateSpace

_FIRST_STEP = 0.7
#: A particle's proposals never grow beyond this many standard deviations of its information.
_LARGEST_STEP = 2.0
#: Added to the information, each latent's own being 1: clear images of what is round leave one
#: direction out, which float32 could not invert.
_RIDGE = 1e-4
#: Spread of states on an interval of length 1: proposals without information go this far.
_STATE_SD = 0.3


class ParticleTuning(NamedTuple):
    """Per particle: MALA's step, and a root [D, D] of the covariance that it is preconditioned by,
    of the latents in the order of `Tangent`."""

    step: StepSize
    root: Array


def class_columns(posterior: Posterior) -> np.ndarray:
    """bool [dim]: state variables that are classes, which have no gradient."""
    found = [
        bool(space.state_labels)
        for space in posterior.molecule.state_space.simple_spaces
        for _ in range(space.dim)
    ]
    return np.asarray(found, bool)


def _roots(posterior: Posterior, moves_poses: bool) -> BlockLoop:
    """Of the inverses of each image's information and the prior's precision together, with nothing
    where a latent is held still: a loop over blocks of (latents, CTFs), given theta and mu."""
    still = class_columns(posterior)
    free = np.concatenate([np.full(5, moves_poses), [True], ~still]).astype(np.float32)

    def shared(given: tuple[Any, Hyperparameters]) -> Callable[[tuple[Latents, Array]], Array]:
        theta, mu = given
        prepared = posterior.molecule.prepare(theta)
        prior = jnp.concatenate(
            [
                jnp.full(3, mu.pose_sd_rad),
                jnp.full(2, mu.shift_sd_px),
                jnp.full(1, mu.contrast_sd),
                jnp.full(len(still), _STATE_SD),
            ]
        )

        def one(latents: Latents, ctf: Array) -> Array:
            told = particle_information(posterior, prepared, mu, latents, ctf)
            precision = free[:, None] * told * free + jnp.diag(prior**-2.0)
            scale = jnp.diag(precision) ** -0.5
            ridge = _RIDGE * jnp.eye(len(free))
            factor = jnp.linalg.cholesky(scale[:, None] * precision * scale + ridge)
            inverse = jax.scipy.linalg.solve_triangular(factor, jnp.diag(scale * free), lower=True)
            return inverse.T

        return lambda item: jax.vmap(one)(*item)

    return block_loop(shared)


def _other_classes(
    key: Array,
    latents: Latents,
    density: Density,
    space: StateSpace,
    classes: np.ndarray,
    steps: int,
) -> Latents:
    """Metropolis steps of one particle's classes, any other as likely to be proposed."""

    def propose(key: Array, at: Latents) -> Latents:
        proposed = space.propose(key, at.state, 0.0)
        return at._replace(state=jnp.where(classes, proposed, at.state))

    walked = metropolis.init(latents, density)
    for step_key in jax.random.split(key, steps):
        walked, _ = metropolis.step(step_key, walked, density, propose)
    return walked.position


def _moves(posterior: Posterior, steps: int) -> BlockLoop:
    """Steps of every particle: a loop over blocks of (keys, tunings, what is known of particles),
    given theta and mu; latents, and the mean probability of acceptance of each."""
    space, classes = posterior.molecule.state_space, class_columns(posterior)

    def one(
        prepared: Any, mu: Any, key: Array, tuning: ParticleTuning, given: tuple
    ) -> tuple[Latents, Array]:
        latents, consensus, pixels, ctf = given
        target = particle_differentiable(posterior, prepared, mu, consensus, (pixels, ctf))
        keys = jax.random.split(key)
        chain, acceptance = langevin.run(
            keys[0],
            langevin.init(latents, target),
            target,
            jnp.exp(tuning.step.log_size),
            steps,
            langevin.dense(tuning.root),
            retract,
        )
        moved = chain.position
        quaternion = moved.quaternion / jnp.linalg.norm(moved.quaternion)
        # classes did not move: wrapping them would only round them
        state = jnp.where(classes, latents.state, space.wrap(moved.state))
        moved = moved._replace(quaternion=quaternion, state=state)
        if classes.any():
            density = particle_density(posterior, prepared, mu, consensus, (pixels, ctf))
            moved = _other_classes(keys[1], moved, density, space, classes, steps // 2)
        return moved, acceptance

    def shared(given: tuple[Any, Hyperparameters]) -> Callable[[Any], Any]:
        theta, mu = given
        prepared = posterior.molecule.prepare(theta)
        return lambda item: jax.vmap(lambda *x: one(prepared, mu, *x))(*item)

    return block_loop(shared)


def particles_by_gradient(posterior: Posterior, moves_poses: bool, steps: int = 8) -> Block:
    """MALA on all latents of a particle at once; classes, which have no gradient, by Metropolis.

    Steps have the shape of what the image told of the latents where they were when the stage began.

    Args:
        posterior: of any molecule.
        moves_poses: whether rotations and shifts are drawn, or left where they are.
        steps: of each particle in a sweep.
    """
    move, roots = _moves(posterior, steps), _roots(posterior, moves_poses)

    def step(
        key: Array, state: ChainState, tuning: ParticleTuning, data: Data
    ) -> tuple[ChainState, Info]:
        images = data.images
        given = (state.latents, data.consensus, images.pixels, images.ctf)
        keys = split_keys(key, images.present.shape)
        latents, acceptance = move((keys, tuning, given), (state.theta, state.mu))
        share = _share(acceptance, images.present)
        return state._replace(latents=latents), {"acceptance": acceptance, "share": share}

    def init(state: ChainState, data: Data) -> ParticleTuning:
        shape = data.images.present.shape
        first = StepSize(jnp.full(shape, np.log(_FIRST_STEP), jnp.float32), jnp.zeros(shape))
        told = roots((state.latents, data.images.ctf), (state.theta, state.mu))
        return ParticleTuning(first, told)

    return Block("particles by gradient", step, init, _adapt, carry=_step_of, numbers=_numbers)


@jax.jit
def _share(acceptance: Array, present: Array) -> Array:
    return jnp.sum(acceptance * present) / jnp.sum(present)


def _adapt(tuning: ParticleTuning, info: Info) -> ParticleTuning:
    grown = langevin.adapt(tuning.step, info["acceptance"])
    largest = np.log(_LARGEST_STEP)
    return tuning._replace(step=grown._replace(log_size=jnp.minimum(grown.log_size, largest)))


def _step_of(before: ParticleTuning, fresh: ParticleTuning) -> ParticleTuning:
    """At another level the images say more, or less, of every latent: steps are found anew."""
    return fresh._replace(step=fresh.step._replace(log_size=before.step.log_size))


def _numbers(info: Info) -> dict[str, float]:
    return {"accepted_particles": float(info["share"])}
