"""Half-set Fourier shell correlation along the state, and spectra of signal and noise."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from hypermol.analysis.fsc import fsc_problem, resolution_at
from hypermol.analysis.run import Run
from hypermol.analysis.summary import FSC_THRESHOLD
from hypermol.analysis.volumes import half_set_fsc
from hypermol.molecule.spatial_basis.voxels import Voxels


class HalfSetCurves(NamedTuple):
    """FSC between half-set maps.

    Attributes:
        states: [T, dim].
        frequency: [kmax + 1] in 1/Angstrom.
        curves: [T, kmax + 1].
        resolution_angstrom: [T] where each falls below 0.143; the modelled limit if it does not.
        reaches_limit: bool [T] whether the curve stays above 0.143 to the modelled limit.
        problems: why some curves tell no resolution, each reason once; none where all do.
    """

    states: np.ndarray
    frequency: np.ndarray
    curves: np.ndarray
    resolution_angstrom: np.ndarray
    reaches_limit: np.ndarray
    problems: tuple[str, ...] = ()


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


def half_set_curves(run: Run, states: np.ndarray) -> HalfSetCurves | None:
    """FSC at states [T, dim] up to the modelled limit; None where there are no half maps."""
    found = half_set_fsc(run, states)
    if found is None:
        return None
    frequency = frequencies(run)
    curves = found.curves[:, : len(frequency)]
    reaches = np.all(curves[:, 1:] >= FSC_THRESHOLD, axis=1)
    pixel_size = run.info["pixel_size_angstrom"]
    crossing = [resolution_at(curve, FSC_THRESHOLD, pixel_size) for curve in found.curves]
    resolution = np.where(reaches, 1.0 / frequency[-1], crossing)
    told = [fsc_problem(curve, FSC_THRESHOLD) for curve in curves]
    problems = tuple(dict.fromkeys(problem for problem in told if problem is not None))
    return HalfSetCurves(found.states, frequency, curves, resolution, reaches, problems)


def support_radius(run: Run) -> float:
    """Radius of the ball that holds the molecule, in Angstrom."""
    half_box = 0.5 * run.info["box"] * run.info["pixel_size_angstrom"]
    return float(run.info.get("radius_angstrom") or half_box)


def power_spectra(run: Run, terms: np.ndarray) -> Spectra:
    """Noise and signal by shell; `terms` is each chain's mean theta [chains, F, n, n, n]."""
    kmax = run.info["kmax"]
    basis = Voxels(run.info["box"], run.info["pixel_size_angstrom"], kmax, support_radius(run))
    noise = np.quantile(run.pooled("noise_variance")[:, 1 : kmax + 1], [0.05, 0.5, 0.95], axis=0)
    precision = run.pooled("level")[..., None] * run.pooled("spectrum")
    prior = (1.0 / precision).mean(axis=0)[:, 1 : kmax + 1]
    powers = [np.asarray(basis.shell_power(jnp.asarray(mean, jnp.float32))) for mean in terms]
    signal = np.mean(powers, axis=0)[:, 1 : kmax + 1]
    if not len(prior):  # a molecule of the user's own has a prior of its own
        prior = np.full_like(signal, np.nan)
    if len(signal) != len(prior):  # terms that are shown at several places, or on their paths
        signal = prior
    return Spectra(frequencies(run)[1:], noise, signal, prior)
