"""The trajectories' parameters (eq. 27) given the rest, by MALA (eq. 19)."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from hypermol.fitting.sweep import Block, ChainState, Data, Info, Tuning
from hypermol.inference import langevin
from hypermol.inference.target import Differentiable
from hypermol.molecule.protocol import Coefficients
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.theta_conditional import Given, motion_information, theta_differentiable

#: Every so many blocks of images tell the trajectories' curvature.
_CURVATURE_BLOCKS = 8
_STEPS = 2


def trajectories(posterior: Posterior) -> tuple[Block, ...]:
    """The block; none where no molecule's trajectory is learned.

    Preconditioned by the inverse Fisher information at the trajectories as given, from a part of
    the images: a function of the rest alone, as a Gibbs step needs.
    """
    if not posterior.molecule.is_linear:
        return ()
    as_given = jax.jit(lambda: posterior.molecule.init(jax.random.key(0)).motion)
    if not jax.tree.leaves(jax.eval_shape(as_given)):
        return ()
    flat, rebuild = ravel_pytree(as_given())
    step_size = 1.2 * flat.size ** (-1.0 / 6.0)

    @jax.jit
    def step(key: Array, state: ChainState, tuning: Tuning, data: Data) -> tuple[ChainState, Info]:
        given = Given(state.mu, state.latents, data.images)
        full = theta_differentiable(posterior, given)

        def at(values: Array) -> Coefficients:
            return state.theta._replace(motion=rebuild(values))

        some = jax.tree.map(lambda x: x[::_CURVATURE_BLOCKS], (state.latents, data.images))
        share = len(data.images.present) / len(some[1].present)
        few = Given(state.mu, *some)
        information = share * motion_information(posterior, few, at, flat.size)(flat)
        values, vectors = jnp.linalg.eigh(information + jnp.eye(flat.size))
        cover = (vectors / values) @ vectors.T
        root = (vectors / jnp.sqrt(values)) @ vectors.T
        preconditioner = langevin.Preconditioner(lambda x: cover @ x, lambda x: root @ x)

        def value_and_gradient(values: Array) -> tuple[Array, Array]:
            terms, slope = full.value_and_gradient(at(values))
            return terms, ravel_pytree(slope.motion)[0]

        target = Differentiable(lambda values: full.log_density(at(values)), value_and_gradient)
        first = langevin.init(ravel_pytree(state.theta.motion)[0], target)
        chain, acceptance = langevin.run(key, first, target, step_size, _STEPS, preconditioner)
        return state._replace(theta=at(chain.position)), {"acceptance": acceptance}

    return (Block("trajectories", step, numbers=_numbers),)


def _numbers(info: Info) -> dict[str, float]:
    return {"accepted_motion": float(info["acceptance"])}
