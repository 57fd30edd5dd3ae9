"""Maps from each half of the particles, given one draw of everything else."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from hypermol.data.half_sets import half_sets
from hypermol.data.particles import ParticleSet
from hypermol.fitting.level import Level
from hypermol.fitting.sweep import ChainState
from hypermol.inference import exact
from hypermol.io.store import RunDirectory
from hypermol.posterior.theta_conditional import Given, theta_differentiable, theta_quadratic

_TOLERANCE, _MAX_ITERATIONS = 0.03, 100
#: Steps of L-BFGS to the nearest optimum of a half, for molecules that are not linear.
_DESCENTS = 30


def write_half_maps(
    directory: RunDirectory, particles: ParticleSet, level: Level, state: ChainState
) -> None:
    """halves.npz: `half_maps` of the input's half sets, or of halves that are made."""
    halves, _ = half_sets(particles)
    directory.write_arrays("halves.npz", half_maps(level, state, halves))


def half_maps(level: Level, state: ChainState, halves: np.ndarray) -> dict[str, np.ndarray]:
    """theta from each half set, given the state's latents, as it is shown: half1, half2.

    The posterior mean of linear molecules; the nearest optimum of others, from the state's theta.
    Poses and states were drawn against all images, so an FSC between the halves is optimistic
    (not "gold standard").

    Args:
        level: the final one.
        state: a draw of all unknowns.
        halves: [N] of 1 and 2.
    """
    images = level.data.images
    fitted = _linear_mean if level.molecule.is_linear else _optimum
    best = jax.jit(partial(fitted, level.posterior))
    found = {}
    for half in (1, 2):
        member = np.zeros(images.present.size, np.float32)
        member[: len(halves)] = halves == half
        present = images.present * jnp.asarray(member.reshape(images.present.shape))
        given = Given(state.mu, state.latents, images._replace(present=present))
        theta = best(given, state.theta)
        found[f"half{half}"] = np.asarray(level.molecule.shown(theta))
    return found


def _linear_mean(posterior: Any, given: Given, theta: Any) -> Any:
    target = theta_quadratic(posterior, given, theta)
    maps, _ = exact.mean(target, theta.maps, _TOLERANCE, _MAX_ITERATIONS)
    return theta._replace(maps=maps)


def _optimum(posterior: Any, given: Given, theta: Any) -> Any:
    target = theta_differentiable(posterior, given)
    optimizer = optax.lbfgs()

    def loss(theta: Any) -> Array:
        return -jnp.sum(target.log_density(theta))

    def one(_: int, carried: tuple[Any, Any]) -> tuple[Any, Any]:
        theta, memory = carried
        terms, slope = target.value_and_gradient(theta)
        down = jax.tree.map(jnp.negative, slope)
        change, memory = optimizer.update(
            down, memory, theta, value=-jnp.sum(terms), grad=down, value_fn=loss
        )
        return optax.apply_updates(theta, change), memory

    return jax.lax.fori_loop(0, _DESCENTS, one, (theta, optimizer.init(theta)))[0]
