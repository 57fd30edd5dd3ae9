"""Random linear functionals of the density: what is monitored in place of millions of voxels."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from hypermol.analysis.chains import iterate_samples, state_gauges
from hypermol.analysis.run import Run
from hypermol.analysis.volumes import weights_in_gauge

N_FUNCTIONALS = 50
_WIDEST_PX = 4.0


class Functionals(NamedTuple):
    """<phi_j, V(., tau_j)> over samples.

    Attributes:
        states: [J, dim] tau_j, drawn evenly.
        widths_px: [J] sd of the Gaussian that phi_j was smoothed with, in voxels of the model.
        values: [chains, draws, J] (draws cut to the shortest chain).
    """

    states: np.ndarray
    widths_px: np.ndarray
    values: np.ndarray


def random_fields(n: int, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """White fields smoothed at widths from 0 (every detail) to 4 voxels (the shape), unit norm.

    Returns:
        fields float32 [count, n, n, n] and widths [count] in voxels.
    """
    rng = np.random.default_rng(seed)
    widths = np.linspace(0.0, _WIDEST_PX, count)
    fields = np.empty((count, n, n, n), np.float32)
    for place, width in enumerate(widths):
        field = ndimage.gaussian_filter(rng.standard_normal((n, n, n)), width, mode="wrap")
        fields[place] = field / np.linalg.norm(field)
    return fields, widths


def density_functionals(run: Run, count: int = N_FUNCTIONALS, seed: int = 0) -> Functionals:
    """Evaluate random linear functionals of the density on every sample.

    phi_j is a random field of unit norm on the model's grid, tau_j a random state in the first
    chain's gauge; both follow from `seed`.
    """
    gauges = state_gauges(run)
    draws = np.random.default_rng(seed + 1).random((count, run.state_space.dim))
    states = np.asarray(run.state_space.wrap(jnp.asarray(draws)))
    weights = {chain: weights_in_gauge(run, gauge, states) for chain, gauge in gauges.items()}
    fields = widths = np.zeros(0)
    per_chain: dict[int, list[np.ndarray]] = {chain: [] for chain in run.chains}
    for sample in iterate_samples(run, "maps"):
        maps = sample.arrays["maps"]
        if fields.size == 0:
            fields, widths = random_fields(maps.shape[-1], count, seed)
        products = fields.reshape(count, -1) @ maps.reshape(len(maps), -1).T
        per_chain[sample.chain].append((products * weights[sample.chain]).sum(axis=1))
    shortest = min(len(draws) for draws in per_chain.values())
    values = np.stack([np.stack(draws[:shortest]) for draws in per_chain.values()])
    return Functionals(states, widths, values)
