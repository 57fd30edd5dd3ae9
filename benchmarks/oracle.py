"""How well can states and poses be known at all? The oracle: the TRUE maps are given.

The truth maps are projected on Cosine(12) at kmax 26 and held fixed; states are marginalised on
the grid of the maps with the contrast integrated out, (a) at the true poses, (b) with poses
sampled from the perturbed ones by the same kernel that a fit uses. Besides, without any sampler:
the pose error of Gaussian posteriors as sharp as the images' Fisher information and the priors.

    python benchmarks/oracle.py ../shared/data/adk --out benchmarks/results/oracle.md
"""

import argparse
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from hypermol.analysis.particle_summary import rotation_matrices
from hypermol.analysis.states import rank_correlation
from hypermol.analysis.truth import Truth, load_truth, match_particles
from hypermol.data.latents import ImageBlocks, Latents
from hypermol.data.particles import ParticleSet
from hypermol.data.source import load_particles
from hypermol.fitting.blocks.hyperparameters import hyperparameters
from hypermol.fitting.blocks.particles_by_candidates import particles_by_candidates
from hypermol.fitting.found import Found
from hypermol.fitting.level import Level, Levels
from hypermol.fitting.march import first_state
from hypermol.fitting.stages import Stage
from hypermol.fitting.sweep import ChainState, adapt_tunings, init_tunings, run_sweep
from hypermol.imaging.blocks import from_blocks
from hypermol.inference.ensemble import CandidateCounts, contrast_marginal
from hypermol.molecule.protocol import Coefficients
from hypermol.posterior.particle_conditional import particles_separable
from hypermol.recipe.options import FitOptions, make_design
from hypermol.space.fourier import crop_or_pad_volume
from hypermol.space.rotation import (
    angle_between,
    matrix_from_quaternion,
    quaternion_from_vector,
    quaternion_multiply,
)

N_TERMS, KMAX = 12, 26
STATES = 98
BURN_IN, KEPT = 25, 25


def level_of(particles: ParticleSet) -> Level:
    """The posterior of a generic molecule in a ball of 0.45 boxes, with all images."""
    pixel = particles.pixel_size_angstrom
    radius = 0.45 * particles.box * pixel
    options = FitOptions(basis="cosine", n_terms=N_TERMS, radius_angstrom=radius)
    design = make_design(options, particles.box, pixel)
    stage = Stage("oracle", "whole", KMAX, N_TERMS, 0)
    return Levels(particles, options, design, KMAX).level(stage, Found())


def true_theta(truth: Truth, level: Level) -> tuple[Coefficients, float]:
    """Least-squares coefficients of the truth maps, in image units, and the share left out."""
    grid = level.grid
    n = grid.n
    maps = np.stack([crop_or_pad_volume(m.astype(np.float32), n) for m in truth.maps])
    weights = np.asarray(level.molecule.weights(jnp.asarray(truth.map_states, jnp.float32)))
    flat = maps.reshape(len(maps), -1)
    coefficients = np.linalg.lstsq(weights, flat, rcond=None)[0]
    moving = flat - flat.mean(axis=0)
    lost = np.sum((flat - weights @ coefficients) ** 2) / np.sum(moving**2)
    latents = np.load(truth.folder / "truth.npz")
    intensity = float(np.mean(latents["contrast"] * latents["scale"]))
    theta = (intensity * coefficients).reshape(-1, n, n, n) * grid.support
    return Coefficients({"": jnp.asarray(theta, jnp.float32)}, {"": ()}), float(lost)


def grid_states(level: Level):
    """Jitted: posterior mean state [n_blocks, B] on the maps' grid at the current poses."""
    tau = jnp.asarray((np.arange(STATES) + 0.5) / STATES, jnp.float32)
    posterior = level.posterior

    def block(prepared, mu, item):
        latents, images, consensus = item
        target = particles_separable(posterior, prepared, mu, consensus, images)
        rotations = matrix_from_quaternion(latents.quaternion)[:, None]
        places = latents.state[:, None]
        gram, linear = target.evidence(rotations, places, latents.shift_px[:, None])
        weights = target.weights(tau[:, None])
        along = jnp.einsum("bf,tf->bt", linear[:, 0, 0], weights)
        power = jnp.einsum("tf,bfg,tg->bt", weights, gram[:, 0], weights)
        score = contrast_marginal(along, power, target.contrast_precision)
        score = score + target.log_state(tau[:, None])
        return jax.nn.softmax(score, axis=-1) @ tau

    @jax.jit
    def evaluate(state: ChainState):
        data, prepared = level.data, posterior.molecule.prepare(state.theta)
        return jax.lax.map(
            lambda item: block(prepared, state.mu, item),
            (state.latents, data.images, data.consensus),
        )

    return evaluate


def pose_information(level: Level, state: ChainState, n: int) -> np.ndarray:
    """Fisher information of each image, [N, 7, 7], by central differences.

    Unknowns: rotation vector (rad, 3), shift (px, 2), contrast, state. An image tells
    sum_k 2 Re(conj(dI_a) dI_b) / sigma_k^2 of them (eq. 10).
    """
    posterior, steps = level.posterior, np.array([2e-3] * 3 + [2e-2] * 2 + [1e-2, 2e-3], np.float32)
    weight = posterior.pixel_precision(state.mu)
    prepared = posterior.molecule.prepare(state.theta)

    def moved(latents: Latents, x: jax.Array) -> Latents:
        quaternion = quaternion_multiply(quaternion_from_vector(x[:, :3]), latents.quaternion)
        return Latents(
            quaternion,
            latents.shift_px + x[:, 3:5],
            latents.contrast + x[:, 5],
            latents.state + x[:, 6:],
        )

    def block(item: tuple[Latents, ImageBlocks]) -> jax.Array:
        latents, images = item

        def image(axis: int, sign: float) -> jax.Array:
            x = jnp.zeros((len(latents.contrast), 7)).at[:, axis].set(sign * steps[axis])
            return posterior.predict(prepared, moved(latents, x), images.ctf)

        slopes = jnp.stack(
            [(image(a, 1.0) - image(a, -1.0)) / (2.0 * steps[a]) for a in range(7)], axis=1
        )
        return jnp.einsum("bak,bck,k->bac", slopes.conj(), slopes, weight).real

    return from_blocks(jax.lax.map(block, (state.latents, level.data.images)), n)


def information_error(level: Level, state: ChainState, n: int, input_error_deg: float) -> float:
    """Median error in degrees of poses with covariance (information + prior precision)^-1.

    Van Trees' inequality bounds mean squares by such a covariance where densities are smooth; the
    median of an image by image estimate is not bounded by it, only hard to beat. The prior's width
    is what gives the input's median error.
    """
    information = pose_information(level, state, n).astype(np.float64)
    pose_sd = np.radians(input_error_deg / np.sqrt(stats.chi2(3).median()))
    mu = state.mu
    precision = [pose_sd**-2] * 3 + [float(mu.shift_sd_px) ** -2] * 2
    precision += [float(mu.contrast_sd) ** -2, 12.0]  # a uniform state has variance 1 / 12
    cover = np.linalg.inv(information + np.diag(precision))[:, :3, :3]
    white = np.random.default_rng(0).standard_normal((len(cover), 200, 3))
    errors = np.linalg.norm(np.einsum("nij,nsj->nsi", np.linalg.cholesky(cover), white), axis=-1)
    return float(np.degrees(np.median(errors)))


def run_oracle(
    particles: ParticleSet, truth: Truth, input_error_deg: float, move: bool
) -> dict[str, float]:
    """Sweep poses, states and mu at the true maps; scores of the mean over kept sweeps."""
    began = time.process_time()
    level = level_of(particles)
    theta, lost = true_theta(truth, level)
    state = first_state(level)._replace(theta=theta)
    counts = CandidateCounts(5, 3, 32) if move else CandidateCounts(1, 1, 32)
    sweep = (
        particles_by_candidates(level.posterior, counts),
        hyperparameters(level.posterior, learns_widths=move),
    )
    tunings = init_tunings(sweep, state, level.data)
    evaluate = grid_states(level)
    states, scatter, contrast, kept = 0.0, 0.0, 0.0, 0
    burn_in = BURN_IN if move else 3
    for index in range(burn_in + (KEPT if move else 3)):
        print(
            f"sweep {index}, {time.process_time() - began:.0f} CPU s", file=sys.stderr, flush=True
        )
        key = jax.random.fold_in(jax.random.key(1), index)
        state, infos = run_sweep(key, sweep, state, tunings, level.data)
        if index < burn_in:
            tunings = adapt_tunings(sweep, tunings, infos)
            continue
        kept += 1
        q = from_blocks(state.latents.quaternion, particles.n).astype(np.float64)
        scatter = scatter + q[:, :, None] * q[:, None, :]
        states = states + from_blocks(evaluate(state), particles.n)
        contrast += float(np.mean(from_blocks(state.latents.contrast, particles.n)))
    rotations = rotation_matrices(np.linalg.eigh(scatter)[1][..., -1])
    return {
        "state rank correlation": rank_correlation(states / kept, truth.states[:, 0]),
        "median pose error (degrees)": float(np.median(angle_between(rotations, truth.rotations))),
        "pose error of the input (degrees)": input_error_deg,
        "the error that information allows, without a sampler": information_error(
            level, state, particles.n, input_error_deg
        ),
        "mean contrast (1 if units agree)": contrast / kept,
        "sampled pose sd (degrees)": float(np.degrees(state.mu.pose_sd_rad)),
        "share of the motion the basis leaves out": lost,
        "CPU seconds": time.process_time() - began,
    }


def report(folder: Path, n: int, results: dict[str, dict[str, float]]) -> str:
    """A Markdown table of the results."""
    names = list(next(iter(results.values())))
    lines = [
        f"# Oracle on `{folder}`",
        "",
        f"{n} particles. True maps on Cosine({N_TERMS}), kmax {KMAX}, held fixed; states "
        f"marginalised on {STATES} grid points, averaged over {KEPT} sweeps after {BURN_IN} "
        "where poses move. "
        f"Command: `python benchmarks/oracle.py {folder} --n {n}`.",
        "",
        "| | " + " | ".join(results) + " |",
        "|---|" + "---|" * len(results),
    ]
    for name in names:
        values = [f"{result[name]:.4g}" for result in results.values()]
        lines.append(f"| {name} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="particles.star with its truth beside it")
    parser.add_argument(
        "--n",
        type=int,
        help="only so many particles, evenly spread: given the maps they are "
        "independent, so a part estimates the whole",
    )
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    particles = load_particles(options.folder / "particles.star")
    if options.n is not None:
        rows = np.unique(np.linspace(0, particles.n - 1, options.n).astype(int))
        particles = particles.select(rows)
    truth = match_particles(load_truth(options.folder), particles.metadata)
    exact = ParticleSet(truth.metadata)
    error = float(np.median(angle_between(particles.rotations, truth.rotations)))
    results = {
        "true poses": run_oracle(exact, truth, error, move=False),
        "perturbed poses, sampled": run_oracle(particles, truth, error, move=True),
    }
    text = report(options.folder, particles.n, results)
    print(text)
    if options.out is not None:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
