"""Volumes of a run: posterior mean and sd at states, per-image means, half-set FSC.

Samples are read one at a time; nothing here holds all of them at box size. All states are in the
first chain's gauge (`analysis.chains`), and volumes are in the gauge of the run's poses and in the
images' units.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from hypermol.analysis.chains import StateGauge, iterate_samples, state_gauges
from hypermol.analysis.fsc import fsc
from hypermol.analysis.gauge import Gauge, apply_to_volume
from hypermol.analysis.run import Run
from hypermol.io.errors import InputError

#: Largest number of voxels in one running mean (float64); more states are done in groups.
_MAX_VOXELS = 2**25

NOT_GOLD_STANDARD = (
    "half-set FSC is not gold-standard: poses and states were refined jointly on all images; "
    "only the maps were made from the halves apart"
)


class StateVolumes(NamedTuple):
    """Posterior volumes at states.

    Attributes:
        states: [T, dim].
        mean: float32 [T, box, box, box].
        sd: float32 [T, box, box, box], over samples (n - 1); zero with a single sample.
        n_samples: number of samples behind them.
    """

    states: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    n_samples: int


class HalfSetFsc(NamedTuple):
    """FSC between the two half sets' maps at states; NOT gold-standard (`NOT_GOLD_STANDARD`).

    Attributes:
        states: [T, dim].
        curves: [T, box // 2 + 1] at frequencies i / box in 1/px.
    """

    states: np.ndarray
    curves: np.ndarray


class ImageVolumes(NamedTuple):
    """Each image's own volume, on the grid of the model.

    Attributes:
        images: int [M].
        grid: float32 [M, n, n, n]; `volume` resamples one to the images' box.
        run: where they come from.
    """

    images: np.ndarray
    grid: np.ndarray
    run: Run

    def volume(self, image: int) -> np.ndarray:
        """[box, box, box] of an image (one of `images`)."""
        return self.run.to_box(self._on_grid(image))

    def moved(self, image: int, gauge: Gauge) -> np.ndarray:
        """The same in another gauge. Moved on the model's grid, which holds all of its detail."""
        return moved_to_box(self.run, self._on_grid(image), gauge)

    def _on_grid(self, image: int) -> np.ndarray:
        return self.grid[int(np.flatnonzero(self.images == image)[0])]


def moved_to_box(run: Run, grid: np.ndarray, gauge: Gauge) -> np.ndarray:
    """A volume [n, n, n] on the model's grid in another gauge, on the images', [box, box, box]."""
    size = run.info["pixel_size_angstrom"] * run.info["box"] / grid.shape[-1]
    return run.to_box(apply_to_volume(gauge, grid, size))


def weights_in_gauge(run: Run, gauge: StateGauge, states: np.ndarray) -> np.ndarray:
    """P_q of a chain, float32 [T, F], at the first chain's states [T, dim]."""
    return run.weights(gauge.inverse(states))


def _groups(run: Run, n_states: int) -> Iterator[slice]:
    step = max(_MAX_VOXELS // run.info["box"] ** 3, 1)
    for start in range(0, n_states, step):
        yield slice(start, min(start + step, n_states))


def state_volumes(run: Run, states: np.ndarray) -> StateVolumes:
    """Posterior mean and standard deviation of the density at states.

    Args:
        run: with samples.
        states: [T, dim], in the first chain's gauge.

    Returns:
        Volumes on the images' grid (the sd is taken there, voxel by voxel).
    """
    chosen = np.asarray(states, dtype=np.float64)
    box = run.info["box"]
    mean = np.empty((len(chosen), box, box, box), np.float32)
    sd = np.empty_like(mean)
    count = 0
    for group in _groups(run, len(chosen)):
        count, total, squares = _moments(run, chosen[group])
        mean[group] = total
        sd[group] = np.sqrt(squares / max(count - 1, 1))
    return StateVolumes(chosen, mean, sd, count)


def _moments(run: Run, states: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Number of samples, mean and sum of squared deviations [T, box, box, box] (Welford)."""
    gauges = state_gauges(run)
    box = run.info["box"]
    mean = np.zeros((len(states), box, box, box))
    squares = np.zeros_like(mean)
    count = 0
    for sample in iterate_samples(run, "maps"):
        count += 1
        terms = run.to_box(sample.arrays["maps"])
        weights = weights_in_gauge(run, gauges[sample.chain], states)
        for place, row in enumerate(weights):
            volume = np.tensordot(row, terms, axes=1)
            step = volume - mean[place]
            mean[place] += step / count
            squares[place] += step * (volume - mean[place])
    return count, mean, squares


def mean_state_volumes(run: Run, states: np.ndarray) -> np.ndarray:
    """Posterior mean volumes float32 [T, box, box, box] alone: one resampling a state."""
    return run.to_box(mean_state_grids(run, states))


def mean_state_grids(run: Run, states: np.ndarray) -> np.ndarray:
    """The same on the grid of the model, float32 [T, n, n, n]."""
    gauges = state_gauges(run)
    totals: dict[int, np.ndarray] = {}
    count = 0
    for sample in iterate_samples(run, "maps"):
        maps = sample.arrays["maps"]
        if sample.chain not in totals:
            totals[sample.chain] = np.zeros(maps.shape)
        totals[sample.chain] += maps
        count += 1
    chosen = np.asarray(states, np.float64)
    mean = sum(
        np.tensordot(weights_in_gauge(run, gauges[chain], chosen), total / count, axes=1)
        for chain, total in totals.items()
    )
    return np.asarray(mean, np.float32)


def sample_volumes(run: Run, states: np.ndarray, sample: int) -> np.ndarray:
    """Volumes [T, box, box, box] of one posterior sample (counted over chains in order, from 0).

    Raises:
        InputError: there is no such sample.
    """
    gauges = state_gauges(run)
    names = [(c, name) for c in run.chains for name in run.directory.sample_names(c)]
    if not 0 <= sample < len(names):
        raise InputError(
            f"sample {sample} does not exist: {run.directory.path} has {len(names)} samples, "
            f"0 to {len(names) - 1}"
        )
    chain, name = names[sample]
    maps = run.directory.read_arrays(name)["maps"]
    weights = weights_in_gauge(run, gauges[chain], np.asarray(states, np.float64))
    return run.to_box(np.tensordot(weights, maps, axes=1).astype(np.float32))


def per_image_mean(run: Run, images: np.ndarray) -> ImageVolumes:
    """The Bayes estimate of each image's own volume: mean over samples of V_s(., tau_is).

    Samples s enter with their own maps and their own state of the image, so uncertain states
    blur the estimate and no gauge between chains is needed.

    Args:
        run: with samples.
        images: int [M].
    """
    chosen = np.asarray(images, dtype=np.intp)
    total: np.ndarray | float = 0.0
    count = 0
    for sample in iterate_samples(run, "maps", "state"):
        weights = run.weights(sample.arrays["state"][chosen])
        total = total + np.tensordot(weights, sample.arrays["maps"], axes=1)
        count += 1
    return ImageVolumes(chosen, (np.asarray(total) / count).astype(np.float32), run)


def half_set_fsc(run: Run, states: np.ndarray) -> HalfSetFsc | None:
    """FSC between the half sets' maps at each state; None where the run has no halves.

    Poses and states were refined jointly on all images, and only the maps were made from the
    halves apart: this is NOT a gold-standard FSC and may be optimistic. Both halves are also zero
    outside the same ball.
    """
    if not run.directory.has("halves.npz"):
        return None
    halves = run.directory.read_arrays("halves.npz")
    weights = run.weights(np.asarray(states))
    curves = []
    for row in weights:
        first, second = (
            run.to_box(np.tensordot(row, halves[name], axes=1)) for name in ("half1", "half2")
        )
        curves.append(fsc(first, second))
    return HalfSetFsc(np.asarray(states), np.stack(curves))
