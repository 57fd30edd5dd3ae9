"""Posterior of the density along the state, on the model's own grid, in one pass over the samples.

`analysis.volumes` makes the maps that are written as files, at the images' box. A page needs small
pictures, and the differences from the average with their own standard deviations.
"""

from typing import NamedTuple

import numpy as np

from hypermol.analysis.chains import iterate_samples, state_gauges
from hypermol.analysis.run import Run
from hypermol.analysis.volumes import weights_in_gauge
from hypermol.space.fourier import voxel_radii


class Density(NamedTuple):
    """What the posterior says about the density; states are in the first chain's gauge.

    Attributes:
        states: [T, dim] states shown.
        mean: [T, n, n, n] posterior mean at the states.
        sd: [T, n, n, n] posterior standard deviation.
        change: [T, n, n, n] posterior mean of the difference from the average over particles.
        change_sd: [T, n, n, n] its posterior standard deviation.
        average: [n, n, n] posterior mean of the average over particles.
        terms: [chains, F, n, n, n] posterior mean of theta by chain (their gauges differ).
        voxel_size_angstrom: of these grids.
    """

    states: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    change: np.ndarray
    change_sd: np.ndarray
    average: np.ndarray
    terms: np.ndarray
    voxel_size_angstrom: float

    @property
    def radius_angstrom(self) -> np.ndarray:
        """[n, n, n] distance of every voxel from the origin."""
        return voxel_radii(self.average.shape[0], self.voxel_size_angstrom)


class _Moments:
    """Running mean and variance of arrays (Welford)."""

    mean: np.ndarray
    squares: np.ndarray

    def __init__(self) -> None:
        self.count = 0

    def add(self, value: np.ndarray) -> None:
        if self.count == 0:
            self.mean, self.squares = np.zeros_like(value), np.zeros_like(value)
        self.count += 1
        step = value - self.mean
        self.mean = self.mean + step / self.count
        self.squares = self.squares + step * (value - self.mean)

    @property
    def sd(self) -> np.ndarray:
        return np.sqrt(self.squares / max(self.count - 1, 1))


def summarise_density(run: Run, n_states: int) -> Density:
    """Read every sample once: moments of the density at `n_states` even states.

    Raises:
        InputError: the run holds no samples.
    """
    states = run.nodes(n_states)
    gauges = state_gauges(run)
    volume, change, average = _Moments(), _Moments(), _Moments()
    terms = {chain: _Moments() for chain in run.chains}
    for sample in iterate_samples(run, "maps", "state"):
        maps = sample.arrays["maps"]
        weights = weights_in_gauge(run, gauges[sample.chain], states).astype(np.float32)
        at_particles = run.weights(sample.arrays["state"]).mean(axis=0)
        volume.add(np.tensordot(weights, maps, axes=1))
        change.add(np.tensordot(weights - at_particles, maps, axes=1))
        average.add(np.tensordot(at_particles, maps, axes=1))
        terms[sample.chain].add(maps)
    n = average.mean.shape[-1]
    return Density(
        states,
        volume.mean,
        volume.sd,
        change.mean,
        change.sd,
        average.mean,
        np.stack([moments.mean for moments in terms.values()]),
        run.info["box"] * run.info["pixel_size_angstrom"] / n,
    )


def film(run: Run, density: Density, n_states: int) -> tuple[np.ndarray, np.ndarray]:
    """States [T, dim] and posterior mean volumes [T, n, n, n] of many more states."""
    states = run.nodes(n_states)
    gauges = state_gauges(run)
    counts = [len(run.directory.sample_names(chain)) for chain in run.chains]
    total = sum(
        count * np.tensordot(weights_in_gauge(run, gauges[chain], states), terms, axes=1)
        for chain, count, terms in zip(run.chains, counts, density.terms, strict=True)
    )
    return states, np.asarray(total) / sum(counts)
