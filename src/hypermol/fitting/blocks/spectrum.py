"""Empirical Bayes, in burn-in only: the prior's spectrum from the draws of theta.

A draw holds the posterior's variance as well as its mean, so that the estimate does not shrink
on itself (stochastic EM). The spectrum is of the running mean of the log power over a level's
sweeps: one draw's would be a draw of the spectrum as well.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from scipy.ndimage import gaussian_filter1d

from hypermol.fitting.sweep import Block, ChainState, Data, Info
from hypermol.posterior.posterior import Posterior
from hypermol.runtime import on_device

#: Prior power never falls below this share of a term's largest, so that it can come back.
_FLOOR = 1e-4
#: The mean forgets what lies more than about so many sweeps behind.
_MEMORY = 4.0


class SpectrumTuning(NamedTuple):
    """Mean log power per term and shell [T, n_shells + 1], and how many sweeps it is of."""

    log_power: Array
    sweeps: Array


def smooth_log_power(power: np.ndarray) -> np.ndarray:
    """Log of the power of one draw [T, n_shells + 1], floored and smoothed along the shells."""
    power = np.array(power, np.float64)
    power[:, -1] = power[:, -2]
    power = np.maximum(power, _FLOOR * power.max(axis=1, keepdims=True) + 1e-12)
    return gaussian_filter1d(np.log(power), 1.0, axis=1, mode="nearest")


def spectrum(posterior: Posterior) -> Block:
    """The spectrum at level 1 from theta's power; not a draw of it."""
    molecule: Any = posterior.molecule
    power = jax.jit(molecule.shell_power)

    def init(state: ChainState, data: Data) -> SpectrumTuning:
        return SpectrumTuning(on_device(np.zeros(state.mu.spectrum.shape)), on_device(0.0))

    def step(
        key: Array, state: ChainState, tuning: SpectrumTuning, data: Data
    ) -> tuple[ChainState, Info]:
        now = smooth_log_power(np.asarray(power(state.theta.maps)))
        sweeps = float(tuning.sweeps) + 1.0
        before = np.asarray(tuning.log_power, np.float64)
        mean = before + (now - before) / min(sweeps, _MEMORY)
        mu = state.mu._replace(
            spectrum=on_device(np.exp(-mean)), level=on_device(np.ones(len(mean)))
        )
        after = SpectrumTuning(on_device(mean), on_device(sweeps))
        return state._replace(mu=mu), {"after": after}

    return Block(
        "spectrum",
        step,
        init,
        lambda tuning, info: info["after"],
        carry=lambda before, fresh: fresh,
        is_exact=False,
    )
