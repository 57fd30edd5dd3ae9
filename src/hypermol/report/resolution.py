"""Half-set Fourier shell correlation along the state, and spectra of signal and noise."""

from typing import NamedTuple

import numpy as np

from hypermol.analysis.fsc import fsc, resolution_at
from hypermol.analysis.run import Run
from hypermol.molecule.spatial_basis.voxels import Voxels

FSC_THRESHOLD = 0.143


class HalfSetFsc(NamedTuple):
    """FSC between half-set maps.

    Attributes:
        states: [T, dim].
        frequency: [kmax + 1] in 1/Angstrom.
        curves: [T, kmax + 1].
        resolution_angstrom: [T] where each falls below 0.143; the modelled limit if it does not.
        reaches_limit: bool [T] whether the curve stays above 0.143 to the modelled limit.
    """

    states: np.ndarray
    frequency: np.ndarray
    curves: np.ndarray
    resolution_angstrom: np.ndarray
    reaches_limit: np.ndarray


class Spectra(NamedTuple):
    """Power by shell.

    Attributes:
        frequency: [kmax] in 1/Angstrom, shells 1 to kmax.
        noise: [3, kmax] 5 %, 50 % and 95 % quantiles of sigma_k^2.
        signal: [F, kmax] posterior mean power of each term of theta.
        prior: [F, kmax] the prior's variance, posterior mean.
    """

    frequency: np.ndarray
    noise: np.ndarray
    signal: np.ndarray
    prior: np.ndarray


def frequencies(run: Run) -> np.ndarray:
    """[kmax + 1] frequency of each shell in 1/Angstrom."""
    box_angstrom = run.info["box"] * run.info["pixel_size_angstrom"]
    return np.arange(run.info["kmax"] + 1) / box_angstrom


def half_set_fsc(run: Run, states: np.ndarray) -> HalfSetFsc | None:
    """FSC at states [T, dim] of halves.npz; None where it was not written."""
    if not run.directory.has("halves.npz"):
        return None
    halves = run.directory.read_arrays("halves.npz")
    weights = run.weights(states)
    n_shells = run.info["kmax"] + 1
    first, second = (np.tensordot(weights, halves[name], axes=1) for name in ("half1", "half2"))
    n = first.shape[-1]
    voxel = run.info["box"] * run.info["pixel_size_angstrom"] / n
    limit = 1.0 / frequencies(run)[-1]
    curves, resolution, reaches = [], [], []
    for a, b in zip(first, second, strict=True):
        curve = fsc(a, b)
        above = bool(np.all(curve[1:n_shells] >= FSC_THRESHOLD))
        found = limit if above else resolution_at(curve, FSC_THRESHOLD, voxel)
        curves.append(curve[:n_shells])
        resolution.append(found)
        reaches.append(above)
    return HalfSetFsc(
        states, frequencies(run), np.stack(curves), np.array(resolution), np.array(reaches)
    )


def support_radius(run: Run) -> float:
    """Radius of the ball that holds the molecule, in Angstrom."""
    half_box = 0.5 * run.info["box"] * run.info["pixel_size_angstrom"]
    return float(run.info.get("radius_angstrom") or half_box)


def power_spectra(run: Run, terms: np.ndarray) -> Spectra:
    """Noise and signal by shell; `terms` is the posterior mean of theta [F, n, n, n]."""
    kmax = run.info["kmax"]
    basis = Voxels(run.info["box"], run.info["pixel_size_angstrom"], kmax, support_radius(run))
    noise = np.quantile(run.pooled("noise_variance")[:, 1 : kmax + 1], [0.05, 0.5, 0.95], axis=0)
    precision = run.pooled("level")[..., None] * run.pooled("spectrum")
    prior = (1.0 / precision).mean(axis=0)[:, 1 : kmax + 1]
    signal = np.asarray(basis.shell_power(terms))[:, 1 : kmax + 1]
    return Spectra(frequencies(run)[1:], noise, signal, prior)
