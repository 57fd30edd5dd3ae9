"""The paper's second mode: a part of the particles an iteration, theta by a gradient step.

"In each iteration, only a subset of the particle image variables are updated (using a MH step for
each particle image); the hyper-molecule is updated using a gradient step, based only on the
subset" (sec. 5). A crude approximation of MCMC: never kept as samples.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.fitting.blocks.particles_by_random_walk import (
    Walks,
    adapt_widths,
    first_widths,
    walk,
    walk_numbers,
)
from hypermol.fitting.blocks.theta_by_gradient import maps_target, shell_preconditioner
from hypermol.fitting.sweep import Block, ChainState, Data, Info
from hypermol.inference.target import Differentiable
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.theta_conditional import Given

#: Iterations in a sweep; each takes this share of the blocks of particles (one block at least).
_ITERATIONS, _SHARE = 8, 0.125
#: Share of a preconditioned gradient step that is taken: 1 would forget all other particles.
_RATE = 0.3


def _dot(one: Any, other: Any) -> Array:
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, one, other)), jnp.zeros(()))


def _rate(target: Differentiable, maps: Any, move: Any, gradient: Any) -> Array:
    """What is taken of a step: no more than leads uphill to the top along it (maps are linear, so
    that two slopes tell where that is). Some images may say more than their shell's mean."""
    _, beyond = target.value_and_gradient(jax.tree.map(jnp.add, maps, move))
    rises = _dot(move, gradient)
    bends = rises - _dot(move, beyond)
    return jnp.minimum(_RATE, rises / jnp.maximum(bends, 1e-30))


def second_mode(posterior: Posterior, moves: Walks) -> Block:
    """Random walks of a part of the particles, and a step of theta that they alone decide.

    Args:
        posterior: of a linear molecule.
        moves: what is perturbed.
    """

    def iteration(
        key: Array, state: ChainState, widths: Array, data: Data
    ) -> tuple[ChainState, Array, Array]:
        keys = jax.random.split(key)
        n_blocks = data.images.present.shape[0]
        count = max(1, round(_SHARE * n_blocks))
        rows = jax.random.choice(keys[0], n_blocks, (count,), replace=False)
        some = jax.tree.map(lambda x: x[rows], data)
        part = state._replace(latents=jax.tree.map(lambda x: x[rows], state.latents))
        latents, acceptance = walk(posterior, moves, 1, keys[1], part, widths[rows], some)
        whole = jax.tree.map(lambda x, new: x.at[rows].set(new), state.latents, latents)
        # as many images as there are, all like these
        share = jnp.sum(some.images.present) / jnp.sum(data.images.present)
        louder = part.mu._replace(noise_variance=part.mu.noise_variance * share)
        given = Given(louder, latents, some.images)
        target = maps_target(posterior, given, state.theta)
        _, gradient = target.value_and_gradient(state.theta.maps)
        move = shell_preconditioner(posterior, given).apply(gradient)
        rate = _rate(target, state.theta.maps, move, gradient)
        maps = jax.tree.map(lambda x, m: x + rate * m, state.theta.maps, move)
        moved = state._replace(theta=state.theta._replace(maps=maps), latents=whole)
        return moved, rows, acceptance

    @jax.jit
    def step(key: Array, state: ChainState, widths: Any, data: Data) -> tuple[ChainState, Info]:
        def one(carried: tuple[ChainState, Array], key: Array) -> tuple:
            state, widths = carried
            state, rows, acceptance = iteration(key, state, widths, data)
            widths = widths.at[rows].set(adapt_widths(widths[rows], acceptance))
            return (state, widths), acceptance

        keys = jax.random.split(key, _ITERATIONS)
        acceptance: Array
        (state, widths), acceptance = jax.lax.scan(one, (state, widths), keys)
        return state, {"after": widths, "acceptance": acceptance.reshape(-1, *acceptance.shape[2:])}

    return Block(
        "second mode",
        step,
        first_widths,
        lambda widths, info: info["after"],
        numbers=walk_numbers,
        is_exact=False,
    )
