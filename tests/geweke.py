"""Geweke's joint test of whole sweeps ("Getting it right", JASA 2004), for any molecule.

Two simulators of the joint law of unknowns and data must agree: independent draws from the prior
(marginal-conditional), and a chain that alternates one sweep with new data (successive-
conditional). A sweep that leaves any conditional slightly wrong drifts off the prior. The chain
starts at a draw from the prior, so it needs no burn-in; tunings are fixed, as in sampling.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from scipy import stats

from hypermol.fitting.blocks.hyperparameters import hyperparameters
from hypermol.fitting.blocks.particles_anywhere import Offers, particles_anywhere
from hypermol.fitting.blocks.particles_by_candidates import particles_by_candidates
from hypermol.fitting.blocks.particles_by_gradient import particles_by_gradient
from hypermol.fitting.blocks.particles_by_random_walk import Walks, particles_by_random_walk
from hypermol.fitting.blocks.theta_by_gradient import theta_by_gradient
from hypermol.fitting.blocks.theta_exact import theta_exact
from hypermol.fitting.blocks.trajectories import trajectories
from hypermol.fitting.sweep import ChainState, Data, Sweep, Tuning, Tunings, init_tunings, run_sweep
from hypermol.inference.ensemble import CandidateCounts, MoveSize
from hypermol.inference.langevin import StepSize
from hypermol.posterior.pose_priors import pose_vector
from hypermol.posterior.posterior import Posterior
from simulated import World, draw_images

BATCHES = 25
#: Chance of a false alarm in one run, all test functions together (Bonferroni).
ALARM = 1e-3

#: Widths of pose moves by candidates (radians, pixels), of random walks (rotation, shift, state,
#: contrast), and steps of gradient kernels in standard deviations of their preconditioners.
MOVES = (0.35, 0.6)
WALKS = (0.25, 0.5, 0.4, 0.3)
STEPS = {"gradient": 0.8, "mala": 0.7, "hmc": 0.4}
#: Steps of a black box's coefficients: short, for what is known of them grows with their gain.
ENTRY_STEPS = {"mala": 0.2, "hmc": 0.12}

_THETA = {
    "exact": theta_exact,  # at the tolerance of a fit
    "mala": lambda posterior: theta_by_gradient(posterior, "mala"),
    "hmc": lambda posterior: theta_by_gradient(posterior, "hmc"),
}
_PARTICLES = {
    "candidates": lambda posterior, moves: particles_by_candidates(
        posterior, CandidateCounts(4, 3, 6) if moves else CandidateCounts(1, 1, 6)
    ),
    "gradient": particles_by_gradient,
    "random walk": lambda posterior, moves: particles_by_random_walk(posterior, Walks(moves)),
}
#: Particles offered poses from anywhere in a sweep, where they are: all but a block.
SOME = 4


@dataclass(frozen=True)
class Kind:
    """A sweep: how theta and particles are drawn, and whether poses move."""

    theta: str
    particles: str
    moves_poses: bool = True
    anywhere: bool = False

    def __str__(self) -> str:
        poses = "from anywhere" if self.anywhere else "move" if self.moves_poses else "held"
        return f"{self.particles}, {self.theta}, poses {poses}"

    def sweep(self, posterior: Posterior) -> Sweep:
        """In a fit's order."""
        return (
            _THETA[self.theta](posterior),
            *trajectories(posterior),
            hyperparameters(
                posterior, learns_widths=self.moves_poses, learns_shares=self.moves_poses
            ),
            *([particles_anywhere(posterior, Offers(SOME, SOME), 6)] if self.anywhere else []),
            _PARTICLES[self.particles](posterior, self.moves_poses),
        )

    def tunings(self, sweep: Sweep, state: ChainState, data: Data) -> Tunings:
        """Those of a chain's start, at steps that are fixed here."""
        shape = data.images.present.shape
        found = init_tunings(sweep, state, data)

        def at_step(tuning: Tuning, size: float) -> Tuning:
            log_size = jnp.full_like(tuning.step.log_size, np.log(size))
            return tuning._replace(step=StepSize(log_size, tuning.step.changes))

        if self.theta != "exact":
            entries = len(jax.tree.leaves(found["theta"].variance))
            steps = ENTRY_STEPS if entries else STEPS
            found["theta"] = at_step(found["theta"], steps[self.theta])
        name = sweep[-1].name
        if self.particles == "candidates":
            size = MoveSize(*(jnp.full(shape, width) for width in MOVES))
            found[name] = found[name]._replace(size=size)
        elif self.particles == "gradient":
            found[name] = at_step(found[name], STEPS[self.particles])
        else:
            widths = jnp.log(jnp.asarray(WALKS, jnp.float32))
            found[name] = jnp.broadcast_to(widths, (*shape, len(WALKS)))
        return found


def theta_numbers(world: World) -> Callable[[Any], Array]:
    """theta -> [M]: two random projections of every term of a linear molecule's maps, and every
    other coefficient as it is."""
    molecule = world.posterior.molecule
    rng = np.random.default_rng(5)
    if not molecule.is_linear:
        return lambda theta: ravel_pytree(theta)[0]
    probes = {}
    for part in molecule.parts:
        shape = (2, part.state_basis.n_terms, *part.basis.coefficient_shape)
        values = rng.normal(size=shape) * part.basis.support / np.sqrt(part.basis.n_coefficients)
        probes[part.name] = jnp.asarray(values, jnp.float32)

    def numbers(theta: Any) -> Array:
        seen = [
            jnp.einsum("pfzyx,fzyx->pf", probe, theta.maps[name]).reshape(-1)
            for name, probe in probes.items()
        ]
        return jnp.concatenate([*seen, ravel_pytree(theta.motion)[0]])

    return numbers


def residual_by_model(world: World, state: ChainState, data: Data) -> Array:
    """Inner product of residuals and predictions, in units of the noise: zero on average."""
    posterior = world.posterior
    prepared = posterior.molecule.prepare(state.theta)

    def block(item: tuple) -> Array:
        latents, images = item
        model = posterior.predict(prepared, latents, images.ctf)
        product = (jnp.conj(model) * (images.pixels - model)).real
        return images.present @ (product @ posterior.pixel_precision(state.mu))

    return jnp.sum(jax.lax.map(block, (state.latents, data.images)))


def density_prior(world: World, state: ChainState) -> Array:
    """Log of the density prior; zero where there is none."""
    prior: Any = world.posterior.density_prior
    molecule: Any = world.posterior.molecule
    return prior.log_density(molecule, state.theta) if prior.members else jnp.zeros(())


def functions_of(world: World) -> Callable[[ChainState, Data], dict[str, Array]]:
    """Functions of everything unknown and of the data, each with a finite variance."""
    posterior, numbers = world.posterior, theta_numbers(world)

    def values(state: ChainState, data: Data) -> dict[str, Array]:
        lat, mu, present = state.latents, state.mu, data.images.present

        def mean(x: Array) -> Array:
            return jnp.sum(x.T * present.T) / jnp.sum(present)

        vector = pose_vector(lat.quaternion, data.consensus.quaternion)
        shift = lat.shift_px - data.consensus.shift_px
        terms = posterior.terms(state.theta, mu, lat, data.consensus, data.images)
        bins = posterior.molecule.state_space.bin(lat.state, posterior.n_bins)
        power = jnp.log(jnp.mean(jnp.abs(data.images.pixels) ** 2, axis=-1))
        out = {
            "contrast": mean(lat.contrast),
            "contrast^2": mean(lat.contrast**2),
            "rotation^2": mean(jnp.sum(vector**2, axis=-1)),
            "shift^2": mean(jnp.sum(shift**2, axis=-1)),
            "rotation^2 / sd^2": mean(jnp.sum(vector**2, axis=-1)) / mu.pose_sd_rad**2,
            "shift^2 / sd^2": mean(jnp.sum(shift**2, axis=-1)) / mu.shift_sd_px**2,
            "contrast^2 / sd^2": mean((lat.contrast - 1.0) ** 2) / mu.contrast_sd**2,
            "log pose sd": jnp.log(mu.pose_sd_rad),
            "log shift sd": jnp.log(mu.shift_sd_px),
            "log contrast sd": jnp.log(mu.contrast_sd),
            "misplaced rotations": mu.misplaced[0],
            "misplaced shifts": mu.misplaced[1],
            "log misplaced shift sd": jnp.log(mu.misplaced_shift_sd_px),
            "power": mean(power),
            "power x contrast": mean(power * lat.contrast),
            "prior energy": jnp.sum(mu.level * posterior.prior_energy(state.theta, mu.spectrum)),
            "log likelihood": jnp.sum(terms.likelihood),
            "residual x model": residual_by_model(world, state, data),
            "own occupancy": mean(jnp.log(mu.occupancy * posterior.n_bins)[bins]),
            "density prior": density_prior(world, state),
            "log prior theta": terms.theta_prior,
            "log prior mu": terms.mu_prior,
            "log prior latents": jnp.sum(terms.particle_prior),
        }
        out |= {f"rotation {a}": mean(vector[..., i]) for i, a in enumerate("xyz")}
        out |= {f"shift {a}": mean(shift[..., i]) for i, a in enumerate("xy")}
        shells = range(1, posterior.plane.n_shells)
        out |= {f"log noise {s}": jnp.log(mu.noise_variance[s]) for s in shells}
        out |= {f"log level {t}": jnp.log(level) for t, level in enumerate(mu.level)}
        out |= {f"occupancy {b}": p for b, p in enumerate(mu.occupancy[:-1])}
        theta = numbers(state.theta)
        for i, value in enumerate(theta):
            out |= {f"theta {i}": value, f"theta {i}^2": value**2}
        for d in range(lat.state.shape[-1]):
            tau = lat.state[..., d]
            half, whole = jnp.cos(jnp.pi * tau), jnp.sin(2.0 * jnp.pi * tau)
            out |= {
                f"cos state {d}": mean(half),
                f"sin state {d}": mean(whole),
                f"cos^2 state {d}": mean(half**2),
                f"power x state {d}": mean(power * half),
                f"contrast x state {d}": mean(lat.contrast * half),
            }
            out |= {f"theta {i} x state {d}": value * mean(half) for i, value in enumerate(theta)}
        return out

    return values


#: (generator, world) -> all unknowns from the prior.
Draw = Callable[[np.random.Generator, World], ChainState]


@dataclass(frozen=True)
class Joint:
    """A world and the test functions of its joint law.

    Attributes:
        world: the model.
        draw_all: of all unknowns.
        moves_poses: whether poses and their widths are unknown too, or held at one draw.
    """

    world: World
    draw_all: Draw
    moves_poses: bool

    @cached_property
    def first(self) -> ChainState:
        """A draw that tunings start at, and whose poses are held where they do not move."""
        return self.draw_all(np.random.default_rng(1), self.world)

    def draw(self, rng: np.random.Generator) -> ChainState:
        """All unknowns from the prior."""
        state = self.draw_all(rng, self.world)
        if self.moves_poses:
            return state
        held, mu = self.first.latents, self.first.mu
        return state._replace(
            latents=state.latents._replace(quaternion=held.quaternion, shift_px=held.shift_px),
            mu=state.mu._replace(
                pose_sd_rad=mu.pose_sd_rad,
                shift_sd_px=mu.shift_sd_px,
                misplaced=mu.misplaced,
                misplaced_shift_sd_px=mu.misplaced_shift_sd_px,
            ),
        )

    @cached_property
    def images(self) -> Callable[[Array, ChainState], Data]:
        """New data, compiled."""
        return jax.jit(lambda key, state: draw_images(key, self.world, state))

    @cached_property
    def names(self) -> list[str]:
        """Of the test functions."""
        named, first = functions_of(self.world), self.first
        return sorted(jax.eval_shape(named, first, self.images(jax.random.key(0), first)))

    @cached_property
    def functions(self) -> Callable[[ChainState, Data], Array]:
        """All test functions [T], compiled."""
        named, names = functions_of(self.world), self.names

        @jax.jit
        def stacked(state: ChainState, data: Data) -> Array:
            values = named(state, data)
            return jnp.stack([values[name] for name in names])

        return stacked

    def marginal(self, draws: int) -> np.ndarray:
        """Independent draws from the prior: test functions [draws, T]."""
        rng, rows = np.random.default_rng(1), []
        for key in split_keys(1, draws):
            state = self.draw(rng)
            rows.append(self.functions(state, self.images(key, state)))
        return np.stack(jax.device_get(rows)).astype(np.float64)

    def successive(self, sweep: Sweep, kind: Kind, sweeps: int, seed: int) -> np.ndarray:
        """The successive-conditional chain's test functions, [sweeps, T]."""
        keys = split_keys(seed, 2 * sweeps + 1)
        state = self.draw(np.random.default_rng(seed))
        data = self.images(keys[-1], state)
        tunings = kind.tunings(sweep, self.first, self.images(keys[-1], self.first))
        rows = []
        for sweep_key, data_key in zip(keys[:sweeps], keys[sweeps:-1], strict=True):
            state, _ = run_sweep(sweep_key, sweep, state, tunings, data)
            # with the data that the sweep has seen: a draw that does not fit them is seen at once
            rows.append(self.functions(state, data))
            data = self.images(data_key, state)
        return np.stack(jax.device_get(rows)).astype(np.float64)


def split_keys(seed: int, n: int) -> list[Array]:
    """n keys, split on the device and taken apart on the host."""
    raw = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(seed), n)))
    return [jax.random.wrap_key_data(row) for row in raw]


@dataclass(frozen=True)
class Verdict:
    """Standardised differences of means by test function, and what they may reach."""

    z: dict[str, float]

    @property
    def bound(self) -> float:
        """Two-sided Bonferroni bound with Student's t for the batch means."""
        return float(stats.t.isf(ALARM / (2 * len(self.z)), BATCHES - 1))

    @property
    def worst(self) -> list[tuple[str, float]]:
        """The five largest."""
        return sorted(self.z.items(), key=lambda item: -abs(item[1]))[:5]

    @property
    def largest(self) -> float:
        """Largest |z|; infinite where one is not finite."""
        values = np.abs(list(self.z.values()))
        return float(values.max()) if np.all(np.isfinite(values)) else np.inf

    @property
    def agrees(self) -> bool:
        """Whether the two simulators do; printed for `pytest -s`."""
        worst = ", ".join(f"{name} {value:+.1f}" for name, value in self.worst)
        print(f"{len(self.z)} functions, bound {self.bound:.2f}, largest z: {worst}")
        return self.largest < self.bound


def compare(names: list[str], prior: np.ndarray, chain: np.ndarray) -> Verdict:
    """Batch means for the chain, independent draws for the prior.

    Functions that the prior holds fixed (of poses that do not move) must be so in the chain.
    """
    size = len(chain) // BATCHES
    means = chain[: size * BATCHES].reshape(BATCHES, size, -1).mean(axis=1)
    variance = means.var(axis=0, ddof=1) / BATCHES + prior.var(axis=0, ddof=1) / len(prior)
    difference = means.mean(axis=0) - prior.mean(axis=0)
    fixed = np.ptp(prior, axis=0) < 1e-6
    moved = fixed & (np.abs(chain - prior[:1]).max(axis=0) > 1e-4)
    z = np.where(moved, np.inf, difference / np.sqrt(np.where(fixed, 1.0, variance)))
    return Verdict(
        {n: float(v) for n, v, f, m in zip(names, z, fixed, moved, strict=True) if m or not f}
    )
