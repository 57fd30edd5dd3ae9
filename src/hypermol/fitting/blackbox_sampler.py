"""Fitting molecules known only through `fourier`: gradients for poses, states and coefficients.

One sweep leaves the posterior of eq. 29 invariant: MALA on every particle's pose, shift, contrast
and state, HMC (or MALA) on theta, conjugate draws of the noise and the priors' widths. What comes
before the sweeps is a start and no sampling: Adam on the likelihood averaged over a lattice of
states, then a state of the lattice for each particle.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.fitting.blackbox_start import Start, adam_start, first_guess, lattice_start
from hypermol.inference import hamiltonian, langevin
from hypermol.inference.langevin import StepSize
from hypermol.molecule.protocol import Molecule
from hypermol.posterior.black_box import (
    Parameters,
    Problem,
    Tangent,
    parameter_target,
    particle_curvature,
    particle_target,
    residual_power,
    retract,
)
from hypermol.posterior.priors import (
    Counts,
    Nuisance,
    Statistics,
    draw_nuisance,
    draw_pose_widths,
    latent_statistics,
)

_FIRST_THETA_STEP, _FIRST_LATENT_STEP = 0.2, 0.7
#: A particle's proposals never grow beyond this many standard deviations of its information.
_LARGEST_LATENT_STEP = 2.0
#: Spread of states on an interval of length 1: proposals without information go this far.
_STATE_SD = 0.3


@final
@dataclass(frozen=True)
class Schedule:
    """How long a fit runs.

    Attributes:
        start: the inexact start.
        burn_in: sweeps that adapt step sizes; not samples.
        samples: sweeps that are kept.
        latent_steps: MALA steps of each particle in a sweep.
        theta_steps: leapfrog steps of HMC, or MALA steps.
        theta_kernel: which of them moves theta.
        move_poses: sample rotations and shifts; else they stay at the consensus.
    """

    start: Start = field(default_factory=Start)
    burn_in: int = 15
    samples: int = 15
    latent_steps: int = 8
    theta_steps: int = 6
    theta_kernel: Literal["hmc", "mala"] = "hmc"
    move_poses: bool = True


class Tuning(NamedTuple):
    """What burn-in adapts: steps and squared scales of the particles and of the parameters."""

    latent_step: StepSize
    latent_variance: Tangent
    theta_step: StepSize
    theta_variance: Parameters


class State(NamedTuple):
    """One chain; latents [n_blocks, B, ...]."""

    parameters: Parameters
    nuisance: Nuisance
    latents: Latents
    tuning: Tuning


#: (key, number of the sweep, state) to the new state and the acceptances [2].
Sweep = Callable[[Array, int, State], tuple[State, Array]]


class Chain(NamedTuple):
    """Samples of the sweeps after burn-in, stacked on a first axis, and what was watched.

    Attributes:
        parameters: theta and gain, [S, ...].
        nuisance: mu, [S, ...].
        latents: [S, n_blocks, B, ...].
        acceptance: float [S, 2], mean acceptance of the particles' and of theta's steps.
        last: the whole state, to go on from.
    """

    parameters: Parameters
    nuisance: Nuisance
    latents: Latents
    acceptance: np.ndarray
    last: State


def begin(
    key: Array,
    problem: Problem,
    images: ImageBlocks,
    consensus: Consensus,
    schedule: Schedule,
    on_round: Callable[[int], None] = lambda number: None,
) -> tuple[Problem, State]:
    """The inexact start: the problem with its gain's prior, and a chain's first state.

    Args:
        key, problem, images, consensus, schedule: as `fit_black_box` takes them.
        on_round: called after each of the `blackbox_start.ROUNDS` of Adam.
    """
    keys = jax.random.split(key, 3)
    theta = problem.molecule.init(keys[0])
    problem, nuisance = first_guess(problem, theta, images, consensus)
    first = Parameters(theta, jnp.asarray(problem.log_gain, jnp.float32))
    given = (images, consensus, nuisance)
    parameters, nuisance, variance = adam_start(
        keys[1], problem, first, given, schedule.start, on_round
    )
    draw_lattice = jax.jit(partial(lattice_start, problem, n=schedule.start.lattice))
    latents = draw_lattice(keys[2], parameters, nuisance, images, consensus)
    tuning = _first_tuning(problem, latents, variance, schedule)
    return problem, State(parameters, nuisance, latents, tuning)


def state_form(molecule: Molecule) -> Any:
    """The tree of a `State`, to rebuild one from its leaves."""
    theta = jax.eval_shape(molecule.init, jax.random.key(0))
    leaf = jnp.zeros(())
    parameters, step = Parameters(theta, leaf), StepSize(leaf, leaf)
    nuisance = Nuisance(*[leaf for _ in Nuisance._fields])
    latents = Latents(*[leaf for _ in Latents._fields])
    scales = Tangent(*[leaf for _ in Tangent._fields])
    state = State(parameters, nuisance, latents, Tuning(step, scales, step, parameters))
    return jax.tree.structure(state)


def make_sweep(
    problem: Problem, images: ImageBlocks, consensus: Consensus, schedule: Schedule
) -> Sweep:
    """Sweep number n of a chain: (key, n, state) -> (state, acceptance [2]).

    Sweeps below `schedule.burn_in` adapt the proposals; the others leave the posterior invariant.
    """
    move = jax.jit(partial(_moves, problem, schedule))
    widths = jax.jit(partial(_latent_variance, problem, schedule.move_poses))

    def sweep(key: Array, number: int, state: State) -> tuple[State, Array]:
        if number in (0, schedule.burn_in // 2):
            tuning = state.tuning._replace(latent_variance=widths(state, images))
            state = state._replace(tuning=tuning)
        state, adapted, accepted = move(key, state, images, consensus)
        if number < schedule.burn_in:
            state = state._replace(tuning=adapted)
        return _draw_nuisance(key, problem, schedule, state, (images, consensus)), accepted

    return sweep


def fit_black_box(
    key: Array,
    problem: Problem,
    images: ImageBlocks,
    consensus: Consensus,
    schedule: Schedule,
    on_sweep: Callable[[int, State], None] = lambda sweep, state: None,
) -> Chain:
    """Sample theta, noise, poses and states of a molecule known only through `fourier`.

    Args:
        key: random key.
        problem: the molecule and how it is imaged; its `log_gain` is replaced by an estimate.
        images: in blocks; one block is in memory at a time when theta moves.
        consensus: the input's poses: centre of the pose prior, and start.
        schedule: how long.
        on_sweep: called after every sweep.
    """
    keys = jax.random.split(key)
    problem, state = begin(keys[0], problem, images, consensus, schedule)
    sweep = make_sweep(problem, images, consensus, schedule)
    kept, acceptance = [], []
    for number in range(schedule.burn_in + schedule.samples):
        state, accepted = sweep(jax.random.fold_in(keys[1], number), number, state)
        on_sweep(number, state)
        if number >= schedule.burn_in:
            kept.append((state.parameters, state.nuisance, state.latents))
            acceptance.append(np.asarray(accepted))
    parameters, nuisance, latents = jax.tree.map(lambda *leaves: jnp.stack(leaves), *kept)
    return Chain(parameters, nuisance, latents, np.stack(acceptance), state)


def _first_tuning(
    problem: Problem, latents: Latents, variance: Parameters, schedule: Schedule
) -> Tuning:
    shape = latents.contrast.shape
    step = StepSize(jnp.full(shape, np.log(_FIRST_LATENT_STEP)), jnp.zeros(shape))
    nothing = Tangent(jnp.zeros((*shape, 3)), *(jnp.zeros_like(x) for x in latents[1:]))
    return Tuning(step, nothing, langevin.first_step_size(_FIRST_THETA_STEP), variance)


def _latent_variance(
    problem: Problem, move_poses: bool, state: State, images: ImageBlocks
) -> Tangent:
    """Squared scale of every latent: 1 / (its image's information + its prior's precision)."""
    mu = state.nuisance

    def block(item: tuple[Latents, Array]) -> Tangent:
        return jax.vmap(
            lambda one, ctf: particle_curvature(problem, state.parameters, mu, one, ctf)
        )(*item)

    information = jax.lax.map(block, (state.latents, images.ctf))
    prior = Tangent(
        1.0 / mu.pose_sd_rad**2,
        1.0 / mu.shift_sd_px**2,
        1.0 / mu.contrast_sd**2,
        jnp.asarray(1.0 / _STATE_SD**2),
    )
    variance = jax.tree.map(lambda i, p: 1.0 / (i + p), information, prior)
    if move_poses:
        return variance
    still = (jnp.zeros_like(variance.rotation), jnp.zeros_like(variance.shift_px))
    return Tangent(*still, variance.contrast, variance.state)


def _moves(
    problem: Problem,
    schedule: Schedule,
    key: Array,
    state: State,
    images: ImageBlocks,
    consensus: Consensus,
) -> tuple[State, Tuning, Array]:
    """All particles, then theta: the new state, the tuning that burn-in would take, acceptance."""
    keys = jax.random.split(key)
    latents, acceptance = _particle_moves(problem, schedule, keys[0], state, (images, consensus))
    state = state._replace(latents=latents)
    parameters, theta_acceptance = _parameter_moves(problem, schedule, keys[1], state, images)
    tuning = state.tuning
    grown = langevin.adapt(tuning.latent_step, acceptance)
    largest = np.log(_LARGEST_LATENT_STEP)
    hmc = schedule.theta_kernel == "hmc"
    wanted = hamiltonian.OPTIMAL_ACCEPTANCE if hmc else langevin.OPTIMAL_ACCEPTANCE
    adapted = tuning._replace(
        latent_step=grown._replace(log_size=jnp.minimum(grown.log_size, largest)),
        theta_step=langevin.adapt(tuning.theta_step, theta_acceptance, wanted),
    )
    count = jnp.sum(images.present)
    mean = jnp.sum(acceptance * images.present) / count
    return state._replace(parameters=parameters), adapted, jnp.stack([mean, theta_acceptance])


def _particle_moves(
    problem: Problem,
    schedule: Schedule,
    key: Array,
    state: State,
    given: tuple[ImageBlocks, Consensus],
) -> tuple[Latents, Array]:
    """MALA on every particle: latents, and mean acceptance [n_blocks, B]."""
    space = problem.molecule.state_space

    def particle(key, latents, step, variance, pose, pixels, ctf):
        target = particle_target(problem, state.parameters, state.nuisance, pose, (pixels, ctf))
        chain, acceptance = langevin.run(
            key,
            langevin.init(latents, target),
            target,
            jnp.exp(step),
            schedule.latent_steps,
            langevin.diagonal(variance),
            retract,
        )
        moved = chain.position
        quaternion = moved.quaternion / jnp.linalg.norm(moved.quaternion)
        folded = moved._replace(quaternion=quaternion, state=space.wrap(moved.state))
        return folded, acceptance

    images, consensus = given
    keys = jax.random.split(key, images.present.shape)
    tuning = state.tuning
    items = (
        keys,
        state.latents,
        tuning.latent_step.log_size,
        tuning.latent_variance,
        consensus,
        images.pixels,
        images.ctf,
    )
    return jax.lax.map(lambda item: jax.vmap(particle)(*item), items)


def _parameter_moves(
    problem: Problem, schedule: Schedule, key: Array, state: State, images: ImageBlocks
) -> tuple[Parameters, Array]:
    """HMC or MALA on theta and the gain: parameters and mean acceptance."""
    target = parameter_target(problem, state.nuisance, state.latents, images)
    preconditioner = langevin.diagonal(state.tuning.theta_variance)
    size = jnp.exp(state.tuning.theta_step.log_size)
    start = langevin.init(state.parameters, target)
    if schedule.theta_kernel == "hmc":
        chain, info = hamiltonian.step(
            key, start, target, size, schedule.theta_steps, preconditioner.root
        )
        return chain.position, info.acceptance
    chain, acceptance = langevin.run(key, start, target, size, schedule.theta_steps, preconditioner)
    return chain.position, acceptance


def _draw_nuisance(
    key: Array,
    problem: Problem,
    schedule: Schedule,
    state: State,
    given: tuple[ImageBlocks, Consensus],
) -> State:
    """mu given the rest: conjugate, exact; on the host in float64."""
    images, consensus = given
    prior, space = problem.prior, problem.molecule.state_space
    n_bins = space.n_bins(prior.n_bins)
    power = _residual_power(problem, state.parameters, state.latents, images)
    statistics = Statistics(
        power,
        jnp.zeros(0),
        *latent_statistics(state.latents, consensus, images.present, space, n_bins),
    )
    counts = Counts(
        int(np.asarray(images.present).sum()),
        np.bincount(problem.plane.shells, minlength=problem.plane.n_shells),
        np.zeros(0),
        space.has_occupancy,
    )
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    nuisance = draw_nuisance(rng, state.nuisance, statistics, counts, prior)
    if schedule.move_poses:
        nuisance = draw_pose_widths(rng, nuisance, statistics, counts, prior)
    return state._replace(nuisance=nuisance)


_residual_power = jax.jit(residual_power, static_argnums=0)
