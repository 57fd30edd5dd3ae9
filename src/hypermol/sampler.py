"""The blocks of a sweep: inference kernels bound to the conditionals of a posterior.

Every block says how the caches it reads are refreshed when other blocks have moved: there is no
default, because a stale cache silently samples the wrong conditional.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.inference import ensemble, exact
from hypermol.inference.ensemble import CandidateCounts, MoveSize, Particles
from hypermol.molecule.expansion import Coefficients
from hypermol.posterior.conditional import (
    molecule_quadratic,
    particle_conditional,
    residual_power,
    shell_counts,
)
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import draw_level, draw_occupancy, draw_widths
from hypermol.space.state_space import Gaussian


class Data(NamedTuple):
    """What is given: images and the input's poses, in blocks."""

    images: ImageBlocks
    consensus: Consensus


class ChainState(NamedTuple):
    """One chain: the unknowns, the proposals' widths, and the cached slicing grid of theta."""

    theta: Coefficients
    nuisance: Any
    latents: Latents
    size: MoveSize
    prepared: Array


Info = dict[str, Array]
Step = Callable[[Array, ChainState, Data], tuple[ChainState, Info]]


@final
@dataclass(frozen=True)
class Block:
    """One entry of a sweep.

    Attributes:
        name: of the variables it draws.
        step: (key, state, data) -> (state, info), leaving the posterior invariant.
        refresh: recompute, from the state, every cache that `step` reads.
        repeats: steps a sweep.
    """

    name: str
    step: Step
    refresh: Callable[[ChainState], ChainState]
    repeats: int = 1


Sweep = tuple[Block, ...]


def run_sweep(key: Array, sweep: Sweep, state: ChainState, data: Data) -> tuple[ChainState, Info]:
    """Run every block in turn; info keys are `block.quantity`."""
    info: Info = {}
    for index, block in enumerate(sweep):
        for repeat in range(block.repeats):
            step_key = jax.random.fold_in(jax.random.fold_in(key, index), repeat)
            state = block.refresh(state)
            state, reported = block.step(step_key, state, data)
            info.update({f"{block.name}.{name}": value for name, value in reported.items()})
    return state, info


def refresh_prepared(posterior: Posterior) -> Callable[[ChainState], ChainState]:
    """Recompute the slicing grid from theta."""
    prepare = jax.jit(posterior.molecule.prepare)
    return lambda state: state._replace(prepared=prepare(state.theta))


def reads_no_cache(state: ChainState) -> ChainState:
    """For blocks that read theta itself and no cache."""
    return state


def particle_block(posterior: Posterior, counts: CandidateCounts, state_steps: int) -> Block:
    """Poses, states and contrasts of every particle, block by block."""
    space = posterior.molecule.state_space

    def one(item, prepared: Array, nuisance) -> tuple[Latents, Info]:
        key, latents, size, images, consensus = item
        keys = jax.random.split(key, 2 + state_steps)
        target = particle_conditional(posterior, prepared, nuisance, consensus, images)
        particles, local, moved = ensemble.candidate_step(
            keys[0], Particles(*latents), target, space, size, counts
        )
        state, contrast = particles.state, particles.contrast
        if isinstance(space, Gaussian):
            for step_key in keys[2:]:
                pair = jax.random.split(step_key)
                state = ensemble.gaussian_state_step(pair[0], contrast, local)
                contrast = ensemble.contrast_step(pair[1], state, local, target)
        elif space.dim:
            for step_key in keys[2:]:
                width = 1.0 / counts.states
                state = ensemble.state_step(step_key, state, local, target, space, width)
        contrast = ensemble.contrast_step(keys[1], state, local, target)
        latents = Latents(particles.quaternion, particles.shift_px, contrast, state)
        return latents, {"moved_rotation": moved.rotation, "moved_shift": moved.shift}

    @jax.jit
    def step(key: Array, state: ChainState, data: Data) -> tuple[ChainState, Info]:
        n_blocks = data.images.present.shape[0]
        items = (
            jax.random.split(key, n_blocks),
            state.latents,
            state.size,
            data.images,
            data.consensus,
        )
        latents, info = jax.lax.map(lambda it: one(it, state.prepared, state.nuisance), items)
        return state._replace(latents=latents), info

    return Block("particles", step, refresh_prepared(posterior))


def molecule_block(posterior: Posterior, tolerance: float, max_iterations: int) -> Block:
    """theta given the rest, exactly, by perturb-and-solve."""

    @jax.jit
    def step(key: Array, state: ChainState, data: Data) -> tuple[ChainState, Info]:
        target = molecule_quadratic(posterior, state.nuisance, state.latents, data.images)
        maps, record = exact.draw(key, target, state.theta.maps, tolerance, max_iterations)
        info = {"iterations": record.iterations, "error_in_sd": record.error_in_sd}
        return state._replace(theta=Coefficients(maps)), info

    return Block("molecule", step, reads_no_cache)


def nuisance_block(posterior: Posterior) -> Block:
    """Noise per shell, prior level, widths and occupancy: all conjugate."""
    counts = jnp.asarray(shell_counts(posterior), jnp.float32)
    prior = posterior.prior

    @jax.jit
    def step(key: Array, state: ChainState, data: Data) -> tuple[ChainState, Info]:
        keys = jax.random.split(key, 4)
        present = data.images.present
        power = jnp.sum(
            residual_power(posterior, state.theta, state.latents, data.images), axis=0
        )
        # 2 n real residuals of variance sigma^2 / 2 each; shell 0 is not observed
        noise = prior.noise.draw(keys[0], 2.0 * counts * jnp.sum(present), 2.0 * power)
        nuisance = draw_widths(
            keys[1], state.nuisance, state.latents, data.consensus, present, prior
        )
        energy = posterior.prior_energy(state.theta, nuisance.spectrum)
        dimension = posterior.molecule.basis.n_coefficients
        nuisance = nuisance._replace(
            noise_variance=noise,
            level=draw_level(keys[2], energy, dimension, prior),
            occupancy=draw_occupancy(
                keys[3], state.latents.state, present, posterior.molecule.state_space, prior
            ),
        )
        return state._replace(nuisance=nuisance), {"energy": energy, "residual_power": power}

    return Block("nuisance", step, reads_no_cache)
