"""Priors are normalised as claimed."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.spatial.transform import Rotation

from hypermol.posterior.pose_priors import APART, SomeMisplaced, log_pose
from hypermol.posterior.priors import InverseGamma, log_state
from hypermol.space.state_space import Circle, Interval, Point
from small_posterior import make_small, quaternions


@pytest.mark.parametrize("sd", [0.1, 0.4, 0.8])
def test_pose_prior_is_normalised_under_haar_measure(sd: float):
    """The integral over SO(3), volume 8 pi^2, of exp(log_pose) is (2 pi)^(3/2) whatever the sd.

    Rotations are drawn uniformly within an angle of 5 sd, where Haar's density of the angle is
    proportional to 1 - cos; the mass beyond is known (Maxwell's law), and that beyond pi is cut.
    """
    rng = np.random.default_rng(0)
    limit, n = min(5 * sd, np.pi), 100000
    grid = np.linspace(0.0, limit, 20001)
    angle = np.interp(rng.random(n), (grid - np.sin(grid)) / (limit - np.sin(limit)), grid)
    axis = rng.normal(size=(n, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    centre = Rotation.random(random_state=1)
    turned = Rotation.from_rotvec(angle[:, None] * axis) * centre
    value = log_pose(
        jnp.asarray(quaternions(turned), jnp.float32),
        jnp.asarray(quaternions(centre * Rotation.identity(1)), jnp.float32),
        sd,
    )
    volume = 8 * np.pi * (limit - np.sin(limit))
    total = volume * np.mean(np.exp(np.asarray(value, np.float64)))
    inside = stats.maxwell.cdf(limit / sd)
    assert total == pytest.approx((2 * np.pi) ** 1.5 * inside, rel=0.02)


def test_state_prior_is_normalised():
    tau = jnp.linspace(0.0, 1.0, 2401)[:-1, None] + 0.5 / 2400
    occupancy = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(24)), jnp.float32)
    for space in (Interval(), Circle()):
        density = np.exp(np.asarray(log_state(tau, occupancy, space), np.float64))
        assert density.mean() == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_array_equal(log_state(jnp.zeros((3, 0)), occupancy, Point()), 0.0)


def test_occupancy_bins():
    tau = jnp.array([[0.0], [0.249], [0.25], [0.999], [1.0]])
    for space in (Interval(), Circle()):
        np.testing.assert_array_equal(space.bin(tau, 4), [0, 0, 1, 3, 3])


def test_inverse_gamma_draws():
    rng, law = np.random.default_rng(0), InverseGamma(3.0, 2.0)
    prior = law.draw(rng, np.zeros(50000), np.zeros(50000))
    assert stats.kstest(prior, stats.invgamma(3.0, scale=2.0).cdf).pvalue > 1e-3
    given = law.draw(rng, np.full(50000, 10.0), np.full(50000, 7.0))
    assert given.dtype == np.float64
    assert stats.kstest(given, stats.invgamma(8.0, scale=5.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, np.inf), (0.4, np.inf), (0.0, 0.3), (0.25, 0.35), (0.9, np.inf)]
)
def test_a_bounded_variance_has_the_cut_density(low: float, high: float):
    """Against SciPy's inverse gamma distribution between the bounds."""
    prior, rng = InverseGamma(2.0, 3.0), np.random.default_rng(5)
    drawn = [prior.draw_between(rng, 20.0, 2.0, low, high) for _ in range(4000)]
    law = stats.invgamma(12.0, scale=4.0)
    ends = law.cdf([low, high]) if low < 0.5 else 1.0 - law.sf([low, high])
    assert min(drawn) >= low and max(drawn) <= high
    assert stats.kstest((law.cdf(drawn) - ends[0]) / (ends[1] - ends[0]), "uniform").pvalue > 1e-3


@pytest.mark.parametrize(("low", "high"), [(50.0, np.inf), (0.0, 0.001)])
def test_a_variance_bounded_far_from_its_density_is_near_the_bound(low: float, high: float):
    """Beyond what floats tell of the distribution: exponential, with the density's slope there."""
    prior, rng = InverseGamma(2.0, 3.0), np.random.default_rng(6)
    count, squares = 4000.0, 2000.0
    drawn = np.array([prior.draw_between(rng, count, squares, low, high) for _ in range(4000)])
    assert drawn.min() >= low and drawn.max() <= high
    end = low or high
    value = (3.0 + squares / 2) / end  # of 1 / variance, in units of its rate
    away = np.abs((3.0 + squares / 2) / drawn - value)
    slope = abs(1.0 - (1.0 + count / 2) / value)
    assert stats.kstest(away * slope, "expon").pvalue > 1e-3


def test_shifts_of_misplaced_poses_scatter_more_widely():
    small = make_small()
    prior = SomeMisplaced(InverseGamma(2.0, 5.0))
    mu = small.mu._replace(shift_sd_px=jnp.float32(1.0), misplaced=jnp.full(2, 0.2))
    widths = jnp.array([0.9, 1.1]) * APART
    found = [
        float(prior.log_mu(mu._replace(misplaced_shift_sd_px=wide), small.posterior.prior))
        for wide in widths
    ]
    assert found[0] == -np.inf and np.isfinite(found[1])
