"""Geweke's joint test of whole sweeps ("Getting it right", JASA 2004).

Two simulators of the joint law of unknowns and data must agree: independent draws from the prior
(marginal-conditional), and a chain that alternates one sweep with new data (successive-
conditional). A sweep that leaves any conditional slightly wrong drifts off the prior. The chain
starts at a draw from the prior, so it needs no burn-in.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypermol.fitting.sampler import (
    Block,
    ChainState,
    Data,
    Sweep,
    molecule_block,
    nuisance_block,
    particle_block,
    reads_no_cache,
    run_sweep,
)
from jax import Array
from scipy import stats

from hypermol.inference import ensemble
from hypermol.inference.ensemble import CandidateCounts
from hypermol.molecule.state_basis import Constant, Cosine, Fourier, Linear, StateBasis
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import (
    HyperPrior,
    InverseGamma,
    draw_nuisance,
    draw_pose_widths,
    pose_vector,
)
from simulated import World, draw_images, draw_prior, make_world

#: Proper, with fourth moments: shapes well above 4.
PRIOR = HyperPrior(
    noise=InverseGamma(8.0, 8.0),
    pose=InverseGamma(8.0, 8.0 * 0.35**2),
    shift=InverseGamma(8.0, 8.0 * 0.6**2),
    contrast=InverseGamma(8.0, 8.0 * 0.3**2),
    level_shape=8.0,
    level_rate=8.0,
    occupancy=3.0,
    n_bins=3,
)
COUNTS = CandidateCounts(rotations=4, shifts_per_axis=3, states=6)
PROPOSAL = (0.35, 0.6)
BATCHES = 25
#: Chance of a false alarm in one run, all test functions together (Bonferroni).
ALARM = 1e-3

SweepMaker = Callable[[Posterior], Sweep]


def right_sweep(posterior: Posterior) -> Sweep:
    """The sweep of a fit that refines poses."""
    return (
        particle_block(posterior, COUNTS, state_steps=2),
        molecule_block(posterior, tolerance=1e-3, max_iterations=100),
        nuisance_block(posterior, (draw_nuisance, draw_pose_widths)),
    )


def world_of(state_basis: StateBasis) -> World:
    """Seven particles in two blocks (one absent), 19 voxels a term, signal about the noise's."""
    return make_world(
        state_basis, PRIOR, box=8, kmax=3, radius_px=1.5, blocks=(7, 4), precision=0.15
    )


def functions_of(world: World) -> Callable[[ChainState, Data], dict[str, Array]]:
    """Functions of everything unknown and of the data, each with a finite variance."""
    posterior = world.posterior
    rng = np.random.default_rng(5)
    basis = posterior.molecule.parts[0].basis
    maps_shape = (len(posterior.molecule.term_labels), *basis.coefficient_shape)
    probe = rng.normal(size=(2, *maps_shape)) * basis.support
    probe = jnp.asarray(probe / np.sqrt(basis.n_coefficients), jnp.float32)

    def values(state: ChainState, data: Data) -> dict[str, Array]:
        lat, mu, present = state.latents, state.nuisance, data.images.present

        def mean(x: Array) -> Array:
            return jnp.sum(x.T * present.T) / jnp.sum(present)

        vector = pose_vector(lat.quaternion, data.consensus.quaternion)
        shift = lat.shift_px - data.consensus.shift_px
        projected = jnp.einsum("pfzyx,fzyx->pf", probe, state.theta.maps[""])
        terms = posterior.terms(state.theta, mu, lat, data.consensus, data.images)
        power = jnp.mean(jnp.abs(data.images.pixels) ** 2, axis=-1)
        out = {
            "contrast": mean(lat.contrast),
            "contrast^2": mean(lat.contrast**2),
            "rotation^2": mean(jnp.sum(vector**2, axis=-1)),
            "shift^2": mean(jnp.sum(shift**2, axis=-1)),
            "log pose sd": jnp.log(mu.pose_sd_rad),
            "log shift sd": jnp.log(mu.shift_sd_px),
            "log contrast sd": jnp.log(mu.contrast_sd),
            "power": jnp.log(mean(power)),
            "power x contrast": mean(jnp.log(power) * lat.contrast),
            "prior energy": jnp.sum(mu.level * posterior.prior_energy(state.theta, mu.spectrum)),
            "log likelihood": jnp.sum(terms.likelihood),
            "log prior theta": terms.molecule_prior,
            "log prior mu": terms.nuisance_prior,
            "log prior latents": jnp.sum(terms.particle_prior),
        }
        out |= {f"rotation {a}": mean(vector[..., i]) for i, a in enumerate("xyz")}
        out |= {f"shift {a}": mean(shift[..., i]) for i, a in enumerate("xy")}
        out |= {
            f"log noise {s}": jnp.log(mu.noise_variance[s])
            for s in range(1, posterior.plane.n_shells)
        }
        for f in range(maps_shape[0]):
            out[f"log level {f}"] = jnp.log(mu.level[f])
            for p in range(len(probe)):
                out[f"theta {f} {p}"] = projected[p, f]
                out[f"theta^2 {f} {p}"] = jnp.abs(projected[p, f])
        if lat.state.shape[-1]:
            weights = posterior.molecule.weights(lat.state)
            for f in range(1, maps_shape[0]):
                out[f"P_{f}"] = mean(weights[..., f])
                out[f"P_{f}^2"] = mean(weights[..., f] ** 2)
                out[f"theta x P_{f}"] = projected[0, f] * mean(weights[..., f])
        if posterior.molecule.state_space.has_occupancy:
            out |= {f"occupancy {b}": mu.occupancy[b] for b in range(posterior.prior.n_bins - 1)}
            sine = jnp.sin(2.0 * jnp.pi * lat.state[..., 0])
            out["sin state"] = mean(sine)
        return out

    return values


class Joint(NamedTuple):
    """A world, its compiled parts, and its marginal-conditional simulation.

    Attributes:
        world: the model.
        functions: all test functions, [T] in the order of `names`.
        images: new data.
        sweep: the right one.
        names: of the test functions.
        marginal: [draws, T].
    """

    world: World
    functions: Callable[[ChainState, Data], Array]
    images: Callable[[Array, ChainState], Data]
    sweep: Sweep
    names: list[str]
    marginal: np.ndarray


def make_joint(state_basis: StateBasis, draws: int) -> Joint:
    """The world and its marginal-conditional simulation."""
    world = world_of(state_basis)
    named = functions_of(world)
    images = jax.jit(lambda key, state: draw_images(key, world, state))
    rng = np.random.default_rng(1)
    state = draw_prior(rng, world, PROPOSAL)
    keys = split_keys(1, draws)
    names = sorted(jax.eval_shape(named, state, images(keys[0], state)))

    @jax.jit
    def functions(state: ChainState, data: Data) -> Array:
        values = named(state, data)
        return jnp.stack([values[name] for name in names])

    rows = []
    for key in keys:
        state = draw_prior(rng, world, PROPOSAL)
        rows.append(functions(state, images(key, state)))
    marginal = np.stack(jax.device_get(rows)).astype(np.float64)
    return Joint(world, functions, images, right_sweep(world.posterior), names, marginal)


def split_keys(seed: int, n: int) -> list[Array]:
    """n keys, split on the device and taken apart on the host."""
    raw = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(seed), n)))
    return [jax.random.wrap_key_data(row) for row in raw]


def successive(joint: Joint, sweep: Sweep, sweeps: int, seed: int) -> np.ndarray:
    """The successive-conditional chain's test functions, [sweeps, T]."""
    keys = split_keys(seed, 2 * sweeps + 1)
    state = draw_prior(np.random.default_rng(seed), joint.world, PROPOSAL)
    data = joint.images(keys[-1], state)
    rows = []
    for sweep_key, data_key in zip(keys[:sweeps], keys[sweeps:-1], strict=True):
        state, _ = run_sweep(sweep_key, sweep, state, data)
        data = joint.images(data_key, state)
        rows.append(joint.functions(state, data))
    return np.stack(jax.device_get(rows)).astype(np.float64)


def z_scores(joint: Joint, chain: np.ndarray) -> dict[str, float]:
    """Standardised differences of means: batch means for the chain, independent for the prior."""
    size = len(chain) // BATCHES
    means = chain[: size * BATCHES].reshape(BATCHES, size, -1).mean(axis=1)
    prior = joint.marginal
    variance = means.var(axis=0, ddof=1) / BATCHES + prior.var(axis=0, ddof=1) / len(prior)
    z = (means.mean(axis=0) - prior.mean(axis=0)) / np.sqrt(variance)
    return dict(zip(joint.names, z.tolist(), strict=True))


def bound(z: dict[str, float]) -> float:
    """Two-sided Bonferroni bound with Student's t for the batch means."""
    return float(stats.t.isf(ALARM / (2 * len(z)), BATCHES - 1))


def report(z: dict[str, float]) -> list[tuple[str, float]]:
    """The five largest, printed for `pytest -s`."""
    worst = sorted(z.items(), key=lambda item: -abs(item[1]))[:5]
    largest = ", ".join(f"{name} {value:+.1f}" for name, value in worst)
    print(f"{len(z)} functions, bound {bound(z):.2f}, largest z: {largest}")
    return worst


def assert_agrees(z: dict[str, float]) -> None:
    assert all(np.isfinite(value) for value in z.values())
    worst = report(z)
    assert abs(worst[0][1]) < bound(z), worst


def assert_differs(z: dict[str, float]) -> None:
    worst = report(z)
    assert not abs(worst[0][1]) < bound(z), worst


@pytest.fixture(scope="module")
def joint() -> Joint:
    """States on the interval, with learned occupancy."""
    return make_joint(Cosine(2), draws=2000)


def test_sweep_leaves_the_joint_law_invariant(joint: Joint):
    assert_agrees(z_scores(joint, successive(joint, joint.sweep, 1500, seed=2)))


def half_plane_weight_forgotten(rng, nuisance, statistics, counts, prior):
    """Planted: noise from one half plane's residuals, its prior scale untouched."""
    halved = statistics._replace(residual_power=0.5 * statistics.residual_power)
    return draw_nuisance(rng, nuisance, halved, counts, prior)


def run_hotter(block: Block) -> Block:
    """Planted: a block that takes the noise's variance for twice what it is."""

    def step(key: Array, state: ChainState, data: Data):
        noise = state.nuisance.noise_variance
        hot = state._replace(nuisance=state.nuisance._replace(noise_variance=2.0 * noise))
        moved, info = block.step(key, hot, data)
        return moved._replace(nuisance=state.nuisance), info

    return Block(block.name, step, block.refresh)


def plant(sweep: Sweep, posterior: Posterior, bug: str) -> Sweep:
    """The right sweep with one bug."""
    particles, molecule, nuisance = sweep
    if bug == "half-plane weight":
        nuisance = nuisance_block(posterior, (half_plane_weight_forgotten, draw_pose_widths))
    elif bug == "pose widths":
        nuisance = nuisance_block(posterior, (draw_nuisance, pose_widths_of_two_axes))
    elif bug == "molecule precision":
        molecule = run_hotter(molecule)
    else:
        particles = Block("particles", particles.step, reads_no_cache)
    return particles, molecule, nuisance


def pose_widths_of_two_axes(rng, nuisance, statistics, counts, prior):
    """Planted: rotations counted as if they had two components."""
    fewer = counts._replace(particles=counts.particles * 2.0 / 3.0)
    drawn = draw_pose_widths(rng, nuisance, statistics, fewer, prior)
    right = draw_pose_widths(rng, nuisance, statistics, counts, prior)
    return right._replace(pose_sd_rad=drawn.pose_sd_rad)


@pytest.mark.parametrize(
    "bug",
    [
        "half-plane weight",
        "molecule precision",
        "stale cache",
        pytest.param("pose widths", marks=pytest.mark.slow),
    ],
)
def test_planted_bug_is_caught(joint: Joint, bug: str):
    sweep = plant(joint.sweep, joint.world.posterior, bug)
    assert_differs(z_scores(joint, successive(joint, sweep, 750, seed=3)))


@pytest.mark.slow
def test_wrong_contrast_prior_is_caught(joint: Joint, monkeypatch: pytest.MonkeyPatch):
    def about_zero(key, linear, gram, precision):
        total = gram + precision
        return linear / total + jax.random.normal(key, linear.shape) / jnp.sqrt(total)

    monkeypatch.setattr(ensemble, "draw_contrast", about_zero)
    sweep = right_sweep(joint.world.posterior)
    assert_differs(z_scores(joint, successive(joint, sweep, 1000, seed=4)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "state_basis", [Cosine(3), Fourier(3), Linear(), Constant()], ids=lambda b: type(b).__name__
)
def test_long_runs(state_basis: StateBasis):
    joint = make_joint(state_basis, draws=10000)
    assert_agrees(z_scores(joint, successive(joint, joint.sweep, 10000, seed=6)))
