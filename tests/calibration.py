"""Coverage of credible intervals on data simulated from the model's own prior.

Each repetition draws mu, theta, poses, states, contrasts and images from the prior, runs the sweep
of a fit that refines poses, and asks whether intervals of the chain hold the truth. The chain
starts at the input's poses, contrast 1, theta 0, a fresh mu, and states up to 0.1 off the truth:
the last chooses between tau and 1 - tau, which the posterior cannot tell apart. No gauge is
fixed: the prior about the consensus poses pins the global rotation and shift.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.analysis.coverage import interval_coverage, rotation_coverage
from hypermol.analysis.diagnostics import bulk_ess
from hypermol.data.latents import Latents
from hypermol.fitting.blocks.hyperparameters import hyperparameters
from hypermol.fitting.blocks.particles_by_candidates import particles_by_candidates
from hypermol.fitting.blocks.theta_exact import theta_exact
from hypermol.fitting.sweep import ChainState, Data, Sweep, Tunings, init_tunings, run_sweep
from hypermol.inference.ensemble import CandidateCounts, MoveSize
from hypermol.molecule.state_basis import Cosine
from hypermol.posterior.priors import HyperPrior, InverseGamma
from hypermol.space.rotation import matrix_from_quaternion
from simulated import (
    World,
    draw_images,
    draw_latents_prior,
    draw_mu_prior,
    draw_prior,
    make_world,
)

PRIOR = HyperPrior(
    noise=InverseGamma(20.0, 20.0),
    pose=InverseGamma(20.0, 20.0 * 0.1**2),
    shift=InverseGamma(20.0, 20.0 * 0.4**2),
    contrast=InverseGamma(20.0, 20.0 * 0.15**2),
    level_shape=20.0,
    level_rate=20.0,
    occupancy=5.0,
    n_bins=4,
)
#: Widths of the pose moves: radians, pixels.
PROPOSAL = (0.08, 0.2)
COUNTS = CandidateCounts(rotations=6, shifts_per_axis=3, states=10)
N_FUNCTIONALS = 50
#: Particles in a block.
BLOCK = 256
#: Farthest start of a state from its truth.
STATE_PERTURBATION = 0.1


@dataclass(frozen=True)
class Plan:
    """How much to run."""

    images: int = 512
    repetitions: int = 20
    burn_in: int = 60
    samples: int = 100
    thin: int = 2
    precision: float = 0.75


class Draws(NamedTuple):
    """Quantities that are checked: of the truth, or of samples with a leading axis.

    Attributes:
        state: [N].
        shift: [N, 2] pixels.
        contrast: [N].
        rotation: [N, 3, 3].
        density: [50] linear functionals <phi_j, V(tau_j)>.
    """

    state: Array
    shift: Array
    contrast: Array
    rotation: Array
    density: Array


def calibration_world(plan: Plan) -> World:
    """16-pixel images, kmax 5, a ball of 123 voxels, three cosine terms."""
    return make_world(
        Cosine(3),
        PRIOR,
        box=16,
        kmax=5,
        radius_px=4.0,
        blocks=(plan.images, BLOCK),
        precision=plan.precision,
    )


def functionals(world: World, seed: int = 11) -> Array:
    """[50, F, n, n, n]: smooth random functions in the ball times P_q at a random state each."""
    rng = np.random.default_rng(seed)
    molecule = world.posterior.molecule
    basis = molecule.parts[0].basis
    n, support = basis.n, basis.support
    axis = np.fft.fftfreq(n, 1.0 / n)
    k2 = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2
    white = rng.normal(size=(N_FUNCTIONALS, n, n, n))
    smooth = np.fft.ifftn(np.fft.fftn(white, axes=(1, 2, 3)) * np.exp(-k2 / 8.0), axes=(1, 2, 3))
    smooth = smooth.real * support
    smooth /= np.sqrt((smooth**2).sum(axis=(1, 2, 3), keepdims=True))
    states = rng.uniform(size=(N_FUNCTIONALS, 1))
    weights = np.asarray(molecule.weights(jnp.asarray(states)))
    return jnp.asarray(weights[:, :, None, None, None] * smooth[:, None], jnp.float32)


def make_record(world: World) -> Callable[[ChainState], Draws]:
    """(state) -> Draws, compiled."""
    probes = functionals(world)
    present = np.flatnonzero(np.asarray(world.blank.present).reshape(-1))

    @jax.jit
    def record(state: ChainState) -> Draws:
        flat = Latents(*(x.reshape(-1, *x.shape[2:])[present] for x in state.latents))
        density = jnp.einsum("jfzyx,fzyx->j", probes, state.theta.maps[""])
        rotation = matrix_from_quaternion(flat.quaternion)
        return Draws(flat.state[:, 0], flat.shift_px, flat.contrast, rotation, density)

    return record


def calibration_sweep(world: World) -> Sweep:
    """The sweep of a fit that refines poses: theta comes first, for at theta = 0 images say
    nothing about states."""
    posterior = world.posterior
    return (
        theta_exact(posterior),
        hyperparameters(posterior, learns_widths=True),
        particles_by_candidates(posterior, COUNTS),
    )


def tunings_of(sweep: Sweep, state: ChainState, data: Data) -> Tunings:
    """Fixed widths of the poses' moves."""
    shape = data.images.present.shape
    size = MoveSize(jnp.full(shape, PROPOSAL[0]), jnp.full(shape, PROPOSAL[1]))
    found, name = init_tunings(sweep, state, data), "particles by candidates"
    return found | {name: found[name]._replace(size=size)}


def start_of(rng: np.random.Generator, world: World, truth: ChainState) -> ChainState:
    """See the module's docstring."""
    mu = draw_mu_prior(rng, world)
    blank = draw_latents_prior(rng, world, mu)
    space = world.posterior.molecule.state_space
    off = rng.uniform(-STATE_PERTURBATION, STATE_PERTURBATION, truth.latents.state.shape)
    latents = Latents(
        world.consensus.quaternion,
        world.consensus.shift_px,
        jnp.ones_like(blank.contrast),
        space.wrap(truth.latents.state + jnp.asarray(off, jnp.float32)),
    )
    theta = jax.tree_util.tree_map(jnp.zeros_like, truth.theta)
    return truth._replace(mu=mu, latents=latents, theta=theta)


class Repetition(NamedTuple):
    """One simulated data set: its truth, the chain's samples, how it went."""

    truth: Draws
    samples: Draws
    snr: float


class Machine(NamedTuple):
    """Everything compiled."""

    world: World
    sweep: Sweep
    record: Callable[[ChainState], Draws]
    images: Callable[[Array, ChainState], Data]


def make_machine(plan: Plan) -> Machine:
    """What repetitions share, compiled at its first use."""
    world = calibration_world(plan)
    images = jax.jit(lambda key, state: draw_images(key, world, state))
    return Machine(world, calibration_sweep(world), make_record(world), images)


def signal_to_noise(data: Data, state: ChainState, world: World) -> float:
    """Mean power of the signal over that of the noise, on the plane's pixels."""
    noise = np.asarray(state.mu.noise_variance)[world.posterior.plane.shells].mean()
    return float(np.mean(np.abs(np.asarray(data.images.pixels)) ** 2) / noise - 1.0)


def run_repetition(machine: Machine, plan: Plan, seed: int) -> Repetition:
    """Simulate, sample, keep every `thin`-th sweep after the burn-in."""
    rng = np.random.default_rng(seed)
    truth = draw_prior(rng, machine.world)
    key = jax.random.key(seed)
    data = machine.images(jax.random.fold_in(key, 0), truth)
    state = start_of(rng, machine.world, truth)
    tunings = tunings_of(machine.sweep, state, data)
    kept = []
    for i in range(plan.burn_in + plan.samples * plan.thin):
        sweep_key = jax.random.fold_in(key, 1 + i)
        state, _ = run_sweep(sweep_key, machine.sweep, state, tunings, data)
        if i >= plan.burn_in and (i - plan.burn_in) % plan.thin == 0:
            kept.append(jax.device_get(machine.record(state)))
    samples = Draws(*(np.stack(parts) for parts in zip(*kept, strict=True)))
    true = jax.device_get(machine.record(truth))
    return Repetition(true, samples, signal_to_noise(data, truth, machine.world))


#: Levels that are checked.
LEVELS = (0.5, 0.9)


def coverage_rows(repetition: Repetition) -> dict[str, np.ndarray]:
    """Fractions [levels] of intervals that hold the truth, by quantity."""
    truth, samples = repetition.truth, repetition.samples

    def plain(drawn: np.ndarray, true: np.ndarray) -> np.ndarray:
        return interval_coverage(drawn, true, LEVELS).fraction

    turned = rotation_coverage(samples.rotation, truth.rotation, LEVELS).fraction
    return {
        "state": plain(samples.state, truth.state),
        "shift x": plain(samples.shift[..., 0], truth.shift[..., 0]),
        "shift y": plain(samples.shift[..., 1], truth.shift[..., 1]),
        "rotation x": turned[:, 0],
        "rotation y": turned[:, 1],
        "rotation z (in plane)": turned[:, 2],
        "contrast": plain(samples.contrast, truth.contrast),
        "density": plain(samples.density, truth.density),
    }


def smallest_ess(repetition: Repetition) -> dict[str, float]:
    """Fifth percentile of the bulk effective sample sizes over particles or functionals."""
    samples = repetition.samples
    return {
        name: float(np.nanpercentile(bulk_ess(np.asarray(values)[None]), 5))
        for name, values in (
            ("state", samples.state),
            ("shift", samples.shift),
            ("contrast", samples.contrast),
            ("rotation", samples.rotation[..., 0, 1]),
            ("density", samples.density),
        )
    }
