"""theta given the rest by MALA (eq. 19, as in sec. 5) or HMC (sec. 2.7): any molecule.

Steps are preconditioned by a guess of theta's covariance. Of a linear molecule's maps it is one
matrix a shell, made anew from the other unknowns at every step, which leaves the step exact. Of
other molecules it is one number an entry, from the images' scores at the start of a level.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.fitting.sweep import Block, ChainState, Data, Info
from hypermol.inference import hamiltonian, langevin
from hypermol.inference.langevin import Preconditioner, StepSize
from hypermol.inference.target import Differentiable
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.theta_conditional import (
    Given,
    prior_precision,
    score_variance,
    theta_differentiable,
)
from hypermol.posterior.theta_precision import shell_precision

#: MALA steps, and leapfrog steps of HMC, a sweep.
_STEPS = 6
_FIRST_STEP = 0.2

#: (key, chain, target, step size, preconditioner) -> chain, acceptance.
Kernel = Callable[
    [Array, langevin.State, Differentiable, Array, Preconditioner], tuple[langevin.State, Array]
]


def _mala(
    key: Array,
    chain: langevin.State,
    target: Differentiable,
    size: Array,
    preconditioner: Preconditioner,
) -> tuple[langevin.State, Array]:
    return langevin.run(key, chain, target, size, _STEPS, preconditioner)


def _hmc(
    key: Array,
    chain: langevin.State,
    target: Differentiable,
    size: Array,
    preconditioner: Preconditioner,
) -> tuple[langevin.State, Array]:
    chain, info = hamiltonian.step(key, chain, target, size, _STEPS, preconditioner.root)
    return chain, info.acceptance


class _Method(NamedTuple):
    kernel: Kernel
    wanted: float


_METHODS = {
    "mala": _Method(_mala, langevin.OPTIMAL_ACCEPTANCE),
    "hmc": _Method(_hmc, hamiltonian.OPTIMAL_ACCEPTANCE),
}


class ThetaTuning(NamedTuple):
    """The step size, and a guess of the variance of every entry of theta; () for linear ones."""

    step: StepSize
    variance: Any


def _adapting(method: _Method) -> Callable[[ThetaTuning, Info], ThetaTuning]:
    def adapt(tuning: ThetaTuning, info: Info) -> ThetaTuning:
        return tuning._replace(step=langevin.adapt(tuning.step, info["acceptance"], method.wanted))

    return adapt


def _step_of(before: ThetaTuning, fresh: ThetaTuning) -> ThetaTuning:
    """At another level the images say more, or less, of theta: its step is found anew from here."""
    return fresh._replace(step=fresh.step._replace(log_size=before.step.log_size))


def _numbers(info: Info) -> dict[str, float]:
    return {"accepted_molecule": float(info["acceptance"])}


def shell_preconditioner(posterior: Posterior, given: Given) -> Preconditioner:
    """A = B B of eq. 19 for a linear molecule's maps, B the inverse root of `shell_precision`."""
    molecule: Any = posterior.molecule
    values, vectors = jnp.linalg.eigh(shell_precision(posterior, *given))
    roots = jnp.einsum("sfi,si,sgi->sfg", vectors, values**-0.5, vectors)

    def root(white: Any) -> Any:
        return molecule.multiply_shells(white, roots)

    return Preconditioner(lambda x: root(root(x)), root)


def theta_by_gradient(posterior: Posterior, method: str) -> Block:
    """theta by MALA or HMC steps.

    Args:
        posterior: of any molecule; of a linear one the maps are moved, its trajectories have a
            block of their own.
        method: mala or hmc.
    """
    make = _maps_by_gradient if posterior.molecule.is_linear else _entries_by_gradient
    return make(posterior, _METHODS[method])


def _maps_by_gradient(posterior: Posterior, method: _Method) -> Block:
    @jax.jit
    def step(
        key: Array, state: ChainState, tuning: ThetaTuning, data: Data
    ) -> tuple[ChainState, Info]:
        given = Given(state.mu, state.latents, data.images)
        target = maps_target(posterior, given, state.theta)
        chain, acceptance = method.kernel(
            key,
            langevin.init(state.theta.maps, target),
            target,
            jnp.exp(tuning.step.log_size),
            shell_preconditioner(posterior, given),
        )
        theta = state.theta._replace(maps=chain.position)
        return state._replace(theta=theta), {"acceptance": acceptance}

    def init(state: ChainState, data: Data) -> ThetaTuning:
        return ThetaTuning(langevin.first_step_size(_FIRST_STEP), ())

    return Block("theta", step, init, _adapting(method), _step_of, _numbers)


def maps_target(posterior: Posterior, given: Given, theta: Any) -> Differentiable:
    """theta's maps alone, its trajectories held, as a log density with gradient."""
    whole = theta_differentiable(posterior, given)

    def value_and_gradient(maps: Any) -> tuple[Array, Any]:
        terms, gradient = whole.value_and_gradient(theta._replace(maps=maps))
        return terms, gradient.maps

    return Differentiable(
        lambda maps: whole.log_density(theta._replace(maps=maps)), value_and_gradient
    )


def _entries_by_gradient(posterior: Posterior, method: _Method) -> Block:
    @jax.jit
    def step(
        key: Array, state: ChainState, tuning: ThetaTuning, data: Data
    ) -> tuple[ChainState, Info]:
        target = theta_differentiable(posterior, Given(state.mu, state.latents, data.images))
        chain, acceptance = method.kernel(
            key,
            langevin.init(state.theta, target),
            target,
            jnp.exp(tuning.step.log_size),
            langevin.diagonal(tuning.variance),
        )
        return state._replace(theta=chain.position), {"acceptance": acceptance}

    @jax.jit
    def variance(state: ChainState, data: Data) -> Any:
        given = Given(state.mu, state.latents, data.images)
        information = score_variance(posterior, given, state.theta)
        prior = prior_precision(posterior, state.theta, state.mu)
        return jax.tree.map(lambda i, p: 1.0 / (i + p), information, prior)

    def init(state: ChainState, data: Data) -> ThetaTuning:
        return ThetaTuning(langevin.first_step_size(_FIRST_STEP), variance(state, data))

    return Block("theta", step, init, _adapting(method), _step_of, _numbers)
