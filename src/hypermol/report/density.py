"""Posterior of the density along the state, in one pass over the samples."""

from typing import NamedTuple

import numpy as np

from hypermol.analysis.run import Run
from hypermol.io.errors import InputError

_FUNCTIONALS = 32


class Density(NamedTuple):
    """What the posterior says about the density.

    Attributes:
        states: [T, dim] states shown.
        mean: float32 [T, n, n, n] posterior mean at the states.
        sd: [T, n, n, n] posterior standard deviation.
        change: [T, n, n, n] posterior mean of the difference from the average over particles.
        change_sd: [T, n, n, n] its posterior standard deviation.
        terms: [F, n, n, n] posterior mean of theta, which gives the mean at any state.
        average: [n, n, n] posterior mean of the average over particles.
        voxel_size_angstrom: of these grids.
        functionals: [chains, draws, m] random linear functionals of theta, for diagnostics.
    """

    states: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    change: np.ndarray
    change_sd: np.ndarray
    terms: np.ndarray
    average: np.ndarray
    voxel_size_angstrom: float
    functionals: np.ndarray

    @property
    def radius_angstrom(self) -> np.ndarray:
        """[n, n, n] distance of every voxel from the origin."""
        n = self.average.shape[0]
        axis = (np.arange(n) - n // 2) * self.voxel_size_angstrom
        return np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)


class _Moments:
    """Running mean and variance of arrays (Welford), in float32."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = np.zeros(())
        self.squares = np.zeros(())

    def add(self, value: np.ndarray) -> None:
        self.count += 1
        step = value - self.mean
        self.mean = self.mean + step / self.count
        self.squares = self.squares + step * (value - self.mean)

    @property
    def sd(self) -> np.ndarray:
        return np.sqrt(self.squares / max(self.count - 1, 1))


def summarise_density(run: Run, n_states: int = 7, seed: int = 0) -> Density:
    """Read every sample's maps once: moments at `n_states` states, and random functionals.

    Raises:
        InputError: the run holds no samples.
    """
    names = [run.directory.sample_names(chain) for chain in run.chains]
    if not names:
        raise InputError(
            f"{run.directory.path} holds no posterior samples yet: let `hypermol fit` reach its "
            "sampling stage (--resume goes on)"
        )
    states = run.nodes(n_states)
    weights = run.weights(states)
    at = run.pooled("state") if run.state_basis.space.dim else states[None]
    average = run.weights(at).mean(axis=(0, 1))
    probes: np.ndarray | None = None
    volume, change, terms = _Moments(), _Moments(), _Moments()
    functionals: list[np.ndarray] = []
    shortest = min(len(chain) for chain in names)
    for chain in names:
        rows = []
        for name in chain[:shortest]:
            maps = run.directory.read_arrays(name)["maps"]
            if probes is None:
                probes = _probes(maps.shape, seed)
            volume.add(np.tensordot(weights, maps, axes=1))
            change.add(np.tensordot(weights - average, maps, axes=1))
            terms.add(maps)
            rows.append(np.einsum("mfv,fv->m", probes, maps.reshape(len(maps), -1)))
        functionals.append(np.stack(rows))
    n = terms.mean.shape[-1]
    return Density(
        states,
        volume.mean,
        volume.sd,
        change.mean,
        change.sd,
        terms.mean,
        np.tensordot(average, terms.mean, axes=1),
        run.info["box"] * run.info["pixel_size_angstrom"] / n,
        np.stack(functionals),
    )


def _probes(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """[m, F, voxels] smooth random directions: each a random wave of up to five periods a box."""
    rng = np.random.default_rng(seed)
    n_terms, n = shape[0], shape[-1]
    axis = (np.arange(n) - n // 2) / n
    rows = []
    for _ in range(_FUNCTIONALS):
        direction = rng.normal(size=3)
        kz, ky, kx = rng.uniform(0.5, 5.0) * direction / np.linalg.norm(direction)
        phase = kz * axis[:, None, None] + ky * axis[:, None] + kx * axis
        wave = np.cos(2 * np.pi * (phase + rng.uniform()))
        rows.append(rng.normal(size=n_terms)[:, None] * wave.ravel())
    return np.asarray(rows, np.float32)
