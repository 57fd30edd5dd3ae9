"""The blocks of a sweep: inference kernels bound to the conditionals of a posterior.

Every block says how the caches it reads are refreshed when other blocks have moved: there is no
default, because a stale cache silently samples the wrong conditional.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.inference import crank_nicolson, ensemble, exact, langevin
from hypermol.inference.ensemble import CandidateCounts, MoveSize, Particles
from hypermol.inference.target import differentiable
from hypermol.molecule.protocol import Coefficients
from hypermol.posterior.conditional import (
    molecule_differentiable,
    molecule_quadratic,
    molecule_tilted,
    motion_information,
    particle_conditional,
    residual_power,
    shell_counts,
    shell_precision,
)
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Counts, HyperPrior, Nuisance, Statistics, latent_statistics


class Data(NamedTuple):
    """What is given: images and the input's poses, in blocks."""

    images: ImageBlocks
    consensus: Consensus


class ChainState(NamedTuple):
    """One chain: the unknowns, the proposals' widths, and the cached slicing grid of theta."""

    theta: Coefficients
    nuisance: Nuisance
    latents: Latents
    size: MoveSize
    prepared: Any


Info = dict[str, Array | np.ndarray]
Step = Callable[[Array, ChainState, Data], tuple[ChainState, Info]]
NuisanceDraw = Callable[[np.random.Generator, Nuisance, Statistics, Counts, HyperPrior], Nuisance]


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

#: Candidates for states that move what is sliced.
_TURNS = 7


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
    turns = CandidateCounts(1, counts.shifts_per_axis, counts.states, _TURNS)

    def one(item, prepared: Any, nuisance) -> tuple[Latents, Info]:
        key, latents, size, images, consensus = item
        keys = jax.random.split(key, 2 + state_steps)
        target = particle_conditional(posterior, prepared, nuisance, consensus, images)
        particles = Particles(*latents)
        if any(target.turning):
            particles, _, _ = ensemble.candidate_step(
                jax.random.fold_in(keys[0], 1), particles, target, space, size, turns
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
    """theta given the rest: an exact draw by perturb-and-solve where its conditional is Gaussian,
    else Crank-Nicolson steps about the Gaussian part."""
    if not posterior.density_prior.is_quadratic:
        return _tilted_molecule_block(posterior, tolerance, max_iterations)

    @jax.jit
    def step(key: Array, state: ChainState, data: Data) -> tuple[ChainState, Info]:
        given = (state.nuisance, state.latents, data.images, state.theta)
        target = molecule_quadratic(posterior, *given)
        maps, record = exact.draw(key, target, state.theta.maps, tolerance, max_iterations)
        info: Info = {"iterations": record.iterations, "error_in_sd": record.error_in_sd}
        return state._replace(theta=state.theta._replace(maps=maps)), info

    return Block("molecule", step, reads_no_cache)


#: Crank-Nicolson steps of theta a sweep, and the range of their shares: log-uniform, drawn afresh
#: for every step, because what is best differs by a hundred between priors and is not known.
_TILTED_STEPS = 6
_TILTED_SHARES = (0.02, 1.0)
#: Their solves' error as a share of `molecule_block`'s: errors of small steps add up.
_TILTED_ERROR = 0.1


def _tilted_molecule_block(posterior: Posterior, tolerance: float, max_iterations: int) -> Block:
    """theta given the rest by `crank_nicolson`, for density priors that are not quadratic."""
    solver = crank_nicolson.Solver(_TILTED_ERROR * tolerance, max_iterations)
    low, high = np.log(_TILTED_SHARES)

    @jax.jit
    def step(key: Array, state: ChainState, data: Data) -> tuple[ChainState, Info]:
        given = (state.nuisance, state.latents, data.images, state.theta)
        target = molecule_tilted(posterior, *given)
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

    return Block("molecule", step, reads_no_cache)


def _statistics(posterior: Posterior) -> Callable[[ChainState, Data], Statistics]:
    @jax.jit
    def statistics(state: ChainState, data: Data) -> Statistics:
        return Statistics(
            residual_power(posterior, state.theta, state.latents, data.images),
            posterior.prior_energy(state.theta, state.nuisance.spectrum),
            *latent_statistics(
                state.latents,
                data.consensus,
                data.images.present,
                posterior.molecule.state_space,
                posterior.n_bins,
            ),
        )

    return statistics


def _host_generator(key: Array) -> np.random.Generator:
    """A NumPy generator that follows from a JAX key: float64 gamma draws, nothing to compile."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def nuisance_block(posterior: Posterior, draws: tuple[NuisanceDraw, ...]) -> Block:
    """mu given the rest, by the conjugate draws named (noise and co., widths of poses)."""
    statistics = _statistics(posterior)

    def step(key: Array, state: ChainState, data: Data) -> tuple[ChainState, Info]:
        summed = statistics(state, data)
        counts = Counts(
            int(np.asarray(data.images.present).sum()),
            shell_counts(posterior),
            posterior.molecule.term_sizes,
            posterior.molecule.state_space.has_occupancy,
        )
        rng = _host_generator(key)
        nuisance = state.nuisance
        for draw in draws:
            nuisance = draw(rng, nuisance, summed, counts, posterior.prior)
        power = np.asarray(summed.residual_power, np.float64).sum(axis=0)
        return state._replace(nuisance=nuisance), {"residual_power": power}

    return Block("nuisance", step, reads_no_cache)


def molecule_mala_block(posterior: Posterior, step_size: float, steps: int) -> Block:
    """theta given the rest by MALA (eq. 19), as the paper does: for comparison with exact draws.

    Preconditioned by A = B B with B the inverse square root of `shell_precision`, in the ball.
    """

    @jax.jit
    def step(key: Array, state: ChainState, data: Data) -> tuple[ChainState, Info]:
        given = (posterior, state.nuisance, state.latents, data.images)
        values, vectors = jnp.linalg.eigh(shell_precision(*given))
        roots = jnp.einsum("sfi,si,sgi->sfg", vectors, values**-0.5, vectors)

        def root(white: Coefficients) -> Coefficients:
            return white._replace(maps=posterior.molecule.multiply_shells(white.maps, roots))

        preconditioner = langevin.Preconditioner(lambda x: root(root(x)), root)
        target = molecule_differentiable(*given)
        start = langevin.init(state.theta, target)
        chain, acceptance = langevin.run(key, start, target, step_size, steps, preconditioner)
        return state._replace(theta=chain.position), {"acceptance": acceptance}

    return Block("molecule", step, reads_no_cache)


#: Every so many blocks of images tell the trajectories' curvature.
_CURVATURE_BLOCKS = 8
_MOTION_STEPS = 2


def motion_blocks(posterior: Posterior) -> tuple[Block, ...]:
    """The trajectories' parameters given the rest by MALA (eq. 19); none where nothing is learned.

    Preconditioned by the inverse Fisher information at the trajectories as given, from a part of
    the images: a function of the rest alone, as a Gibbs step needs.
    """
    start = posterior.molecule.init(jax.random.key(0)).motion
    flat, rebuild = ravel_pytree(start)
    if not flat.size:
        return ()
    step_size = 1.2 * flat.size ** (-1.0 / 6.0)

    @jax.jit
    def step(key: Array, state: ChainState, data: Data) -> tuple[ChainState, Info]:
        given = (posterior, state.nuisance, state.latents, data.images)
        full = molecule_differentiable(*given)

        def at(values: Array) -> Coefficients:
            return state.theta._replace(motion=rebuild(values))

        some = [
            jax.tree.map(lambda x: x[::_CURVATURE_BLOCKS], part)
            for part in (state.latents, data.images)
        ]
        share = len(data.images.present) / len(some[1].present)
        information = share * motion_information(posterior, state.nuisance, some[0], some[1], at)(
            flat
        )
        values, vectors = jnp.linalg.eigh(information + jnp.eye(flat.size))
        cover = (vectors / values) @ vectors.T
        root = (vectors / jnp.sqrt(values)) @ vectors.T
        preconditioner = langevin.Preconditioner(lambda x: cover @ x, lambda x: root @ x)
        target = differentiable(lambda values: full.log_density(at(values)))
        first = langevin.init(ravel_pytree(state.theta.motion)[0], target)
        chain, acceptance = langevin.run(
            key, first, target, step_size, _MOTION_STEPS, preconditioner
        )
        return state._replace(theta=at(chain.position)), {"acceptance": acceptance}

    return (Block("motion", step, reads_no_cache),)
