"""theta's maps given the rest, where these are Gaussian: an exact draw by perturb-and-solve.

Under a density prior that is not quadratic, Crank-Nicolson steps about the Gaussian part.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.fitting.sweep import Block, ChainState, Data, Info, Tuning
from hypermol.inference import crank_nicolson, exact
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.theta_conditional import Given, theta_quadratic, theta_tilted

#: Error of the draws in posterior standard deviations: adds 1 % to their variance at most.
TOLERANCE = 0.1
_MAX_ITERATIONS = 100
#: Crank-Nicolson steps of theta a sweep, and the range of their shares: log-uniform, drawn afresh
#: for every step, because what is best differs by a hundred between priors and is not known.
_TILTED_STEPS = 6
_TILTED_SHARES = (0.02, 1.0)
#: Their solves' error as a share of the tolerance: errors of small steps add up.
_TILTED_ERROR = 0.1


def theta_exact(posterior: Posterior, tolerance: float = TOLERANCE) -> Block:
    """theta's maps given the rest, trajectories included.

    Args:
        posterior: of a linear molecule.
        tolerance: error of the solves in posterior standard deviations.
    """
    if not posterior.density_prior.is_quadratic:
        return _theta_tilted(posterior, tolerance)

    @jax.jit
    def step(key: Array, state: ChainState, tuning: Tuning, data: Data) -> tuple[ChainState, Info]:
        given = Given(state.mu, state.latents, data.images)
        target = theta_quadratic(posterior, given, state.theta)
        maps, record = exact.draw(key, target, state.theta.maps, tolerance, _MAX_ITERATIONS)
        return state._replace(theta=state.theta._replace(maps=maps)), record._asdict()

    return Block("theta", step, numbers=_numbers)


def _theta_tilted(posterior: Posterior, tolerance: float) -> Block:
    solver = crank_nicolson.Solver(_TILTED_ERROR * tolerance, _MAX_ITERATIONS)
    low, high = np.log(_TILTED_SHARES)

    @jax.jit
    def step(key: Array, state: ChainState, tuning: Tuning, data: Data) -> tuple[ChainState, Info]:
        given = Given(state.mu, state.latents, data.images)
        target = theta_tilted(posterior, given, state.theta)
        mean, record = exact.mean(target.reference, state.theta.maps, *solver)
        chain, _ = crank_nicolson.init(state.theta.maps, target, solver)

        def one(
            chain: crank_nicolson.State, step_key: Array
        ) -> tuple[crank_nicolson.State, crank_nicolson.Info]:
            keys = jax.random.split(step_key)
            share = jnp.exp(jax.random.uniform(keys[0], minval=low, maxval=high))
            return crank_nicolson.step(keys[1], chain, target, mean, share, solver)

        chain, steps = jax.lax.scan(one, chain, jax.random.split(key, _TILTED_STEPS))
        info: Info = {
            "iterations": record.iterations + jnp.sum(steps.iterations),
            "error_in_sd": jnp.maximum(record.error_in_sd, jnp.max(steps.error_in_sd)),
            "acceptance": jnp.mean(steps.acceptance),
        }
        return state._replace(theta=state.theta._replace(maps=chain.position)), info

    return Block("theta", step, numbers=_numbers)


def _numbers(info: Info) -> dict[str, float]:
    found = {
        "cg_iterations": int(info["iterations"]),
        "cg_error_in_sd": float(info["error_in_sd"]),
    }
    if "acceptance" in info:
        found["accepted_molecule"] = float(info["acceptance"])
    return found
