"""theta is drawn from its Gaussian conditional by perturb-and-solve."""

import numpy as np
import pytest

from hypermol.fitting.blocks.theta_exact import TOLERANCE, theta_exact
from theta_draws import mean_z, small_world, whitened


@pytest.mark.parametrize("tolerance", [1e-3, TOLERANCE])
def test_theta_is_drawn_from_its_gaussian_conditional(tolerance: float):
    """Also at the tolerance of a fit, which adds 1 % to the variance."""
    world = small_world()
    white = whitened(world, theta_exact(world.posterior, tolerance), ())
    z = mean_z(white)
    assert np.abs(z).max() < 5.5
    assert np.mean(z**2) < 2.0
    variances = (white**2).mean(axis=0)
    np.testing.assert_allclose(variances, 1.0, atol=0.17)
    assert abs(variances.mean() - 1.0) < 0.025
