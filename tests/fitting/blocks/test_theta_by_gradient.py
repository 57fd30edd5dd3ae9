"""MALA and HMC agree with theta's Gaussian conditional, and step sizes find their acceptance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.fitting.blocks.theta_by_gradient import ThetaTuning, theta_by_gradient
from hypermol.fitting.sweep import adapt_tunings, init_tunings, run_sweep
from hypermol.inference import langevin
from hypermol.inference.langevin import first_step_size
from theta_draws import drawn_chain, mean_z, small_world, whitened


@pytest.mark.parametrize(("method", "size"), [("mala", 0.7), ("hmc", 0.4)])
def test_theta_is_drawn_from_its_gaussian_conditional(method: str, size: float):
    world = small_world()
    block = theta_by_gradient(world.posterior, method)
    white = whitened(world, block, ThetaTuning(first_step_size(size), ()), sweeps=1100)
    z = mean_z(white)
    assert np.abs(z).max() < 5.5
    assert np.mean(z**2) < 2.0
    variances = (white**2).mean(axis=0)
    np.testing.assert_allclose(variances, 1.0, atol=0.35)
    assert abs(variances.mean() - 1.0) < 0.05


@pytest.mark.parametrize(("method", "wanted"), [("mala", 0.574), ("hmc", 0.75)])
def test_step_sizes_adapt_towards_the_wanted_acceptance(method: str, wanted: float):
    world = small_world()
    state, data = drawn_chain(world)
    sweep = (theta_by_gradient(world.posterior, method),)
    tunings, accepted = init_tunings(sweep, state, data), []
    for key in jax.random.split(jax.random.key(0), 150):
        state, infos = run_sweep(key, sweep, state, tunings, data)
        tunings = adapt_tunings(sweep, tunings, infos)
        accepted.append(float(infos["theta"]["acceptance"]))
    assert np.mean(accepted[50:]) == pytest.approx(wanted, abs=0.1)
    assert langevin.OPTIMAL_ACCEPTANCE == 0.574
    assert float(jnp.exp(tunings["theta"].step.log_size)) > 0.2
