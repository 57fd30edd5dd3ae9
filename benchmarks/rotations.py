"""How fast rotations decorrelate: steps that leave the prior as it is against plain ones.

    python benchmarks/rotations.py > benchmarks/results/rotations.md

A particle's rotation vector has a Gaussian prior and a Gaussian likelihood, as adk's images make
them (prior 1.95 degrees a component; likelihood 2.1) and as sharper images would. Every chain draws
from five candidates, as `hypermol fit` does. Integrated autocorrelation times are in steps: a
chain of n steps is worth n / time independent draws.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.inference.rotation_priors import AboutCentre
from hypermol.space.rotation import (
    quaternion_from_vector,
    quaternion_multiply,
    vector_from_quaternion,
)

PRIOR_DEG = 1.95
CHAINS, STEPS, BURN_IN, CANDIDATES = 400, 800, 50, 5
WIDTHS_DEG = (0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 1.6, 1.95)
LIKELIHOODS_DEG = ((2.1, 2.1, 2.1), (1.3, 2.1, 3.4), (1.0, 1.0, 1.0), (0.5, 1.0, 2.0))

Step = Callable[[Array, Array, float], tuple[Array, Array]]


def plain(key: Array, quaternion: Array, width: float) -> tuple[Array, Array]:
    """Candidates scattered evenly about a hidden pivot; the prior is part of their weight."""
    noise = width * jax.random.normal(key, (CHAINS, CANDIDATES, 3))
    pivot = quaternion_multiply(quaternion_from_vector(noise[:, 0]), quaternion)
    others = quaternion_multiply(quaternion_from_vector(noise[:, 1:]), pivot[:, None])
    found = jnp.concatenate([quaternion[:, None], others], axis=1)
    vector = vector_from_quaternion(found)
    return found, -0.5 * jnp.sum(vector**2, axis=-1) / np.radians(PRIOR_DEG) ** 2


def preserving(key: Array, quaternion: Array, width: float) -> tuple[Array, Array]:
    """Those of the package; the images alone weigh them."""
    centre = jnp.tile(jnp.array([1.0, 0.0, 0.0, 0.0]), (CHAINS, 1))
    prior = AboutCentre(centre, jnp.asarray(np.radians(PRIOR_DEG)))
    widths = jnp.full(CHAINS, width)
    found, _ = prior.candidates(key, quaternion, widths, CANDIDATES)
    return found, jnp.zeros(found.shape[:2])


def chain(step: Step, width_deg: float, likelihood_deg: tuple[float, ...]) -> tuple[float, float]:
    """Share of steps that moved, and the mean integrated autocorrelation time."""
    sd = jnp.radians(jnp.asarray(likelihood_deg))

    def one(quaternion: Array, key: Array) -> tuple[Array, tuple[Array, Array]]:
        keys = jax.random.split(key)
        found, log_prior = step(keys[0], quaternion, float(np.radians(width_deg)))
        score = log_prior - 0.5 * jnp.sum((vector_from_quaternion(found) / sd) ** 2, axis=-1)
        chosen = jax.random.categorical(keys[1], score)
        new = found[jnp.arange(CHAINS), chosen]
        return new, (vector_from_quaternion(new), chosen > 0)

    start = jnp.tile(jnp.array([1.0, 0.0, 0.0, 0.0]), (CHAINS, 1))
    keys = jax.random.split(jax.random.key(0), STEPS)
    vectors, moved = jax.jit(lambda q: jax.lax.scan(one, q, keys)[1])(start)
    return float(moved.mean()), autocorrelation_time(np.asarray(vectors)[BURN_IN:])


def autocorrelation_time(values: np.ndarray) -> float:
    """1 + 2 sum of autocorrelations of [T, chains, 3], up to the first below 0.01.

    Summed over chains and components with the mean known to be zero, so that short chains bias
    nothing.
    """
    flat = values.reshape(len(values), -1)
    power = np.abs(np.fft.rfft(flat, 2 * len(flat), axis=0)) ** 2
    covariance = np.fft.irfft(power, axis=0)[: len(flat)].sum(axis=1)
    correlation = covariance / np.arange(len(flat), 0, -1)
    correlation /= correlation[0]
    end = int(np.argmax(correlation < 0.01))
    return float(1.0 + 2.0 * correlation[1:end].sum())


def main() -> None:
    """The table."""
    print("# How fast rotations decorrelate\n")
    print(f"`python benchmarks/rotations.py`, on {jax.devices()[0].platform}. Gaussian prior of")
    print(f"{PRIOR_DEG} degrees a component, {CANDIDATES} candidates a step; times in steps.\n")
    print("| likelihood (deg) | width (deg) | plain: moved | time | prior kept: moved | time |")
    print("|---|---:|---:|---:|---:|---:|")
    for likelihood in LIKELIHOODS_DEG:
        for width in WIDTHS_DEG:
            first, second = (chain(step, width, likelihood) for step in (plain, preserving))
            shown = " / ".join(f"{value:g}" for value in likelihood)
            print(
                f"| {shown} | {width:g} | {first[0]:.2f} | {first[1]:.1f} "
                f"| {second[0]:.2f} | {second[1]:.1f} |"
            )


if __name__ == "__main__":
    main()
