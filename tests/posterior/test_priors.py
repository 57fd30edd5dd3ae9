"""Priors are normalised as claimed; conjugate draws of mu follow the joint posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypermol.posterior.conditional import residual_power, shell_counts
from scipy import stats
from scipy.spatial.transform import Rotation

from hypermol.posterior.priors import (
    Counts,
    HyperPrior,
    InverseGamma,
    Statistics,
    draw_nuisance,
    draw_pose_widths,
    latent_statistics,
    log_pose,
    log_state,
)
from hypermol.space.state_space import Circle, Interval, Point
from small_posterior import N, make_small, quaternions

DRAWS = 2000


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


@pytest.fixture(scope="module")
def small():
    return make_small()


@pytest.fixture(scope="module")
def given(small):
    """Statistics and counts of the small posterior at its theta and latents."""

    @jax.jit
    def statistics():
        posterior, theta, nuisance, latents, consensus, images = small
        return Statistics(
            residual_power(posterior, theta, latents, images),
            posterior.prior_energy(theta, nuisance.spectrum),
            *latent_statistics(
                latents,
                consensus,
                images.present,
                posterior.molecule.state_space,
                posterior.n_bins,
            ),
        )

    sizes = small.posterior.molecule.term_sizes
    return statistics(), Counts(N - 1, shell_counts(small.posterior), sizes, True)


@pytest.fixture(scope="module")
def draws(small, given):
    """Both conjugate draws, many times: a dictionary of arrays [DRAWS, ...]."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(DRAWS):
        first = draw_nuisance(rng, small.nuisance, *given, small.posterior.prior)
        found.append(draw_pose_widths(rng, first, *given, small.posterior.prior))
    return {
        name: np.stack([np.asarray(getattr(draw, name)) for draw in found])
        for name in small.nuisance._fields
    }


@pytest.fixture(scope="module")
def log_joint(small):
    """The whole log posterior at stacked mu's, the rest as it is: [n]."""

    def one(nuisance):
        terms = small.posterior.terms(
            small.theta, nuisance, small.latents, small.consensus, small.images
        )
        return sum(jnp.sum(term) for term in terms)

    return jax.jit(lambda stacked: jax.lax.map(one, stacked))


POINTS = 400


@pytest.mark.parametrize(
    ("name", "index", "power"),
    [
        ("noise_variance", 1, 1),
        ("noise_variance", 4, 1),
        ("level", 0, 1),
        ("level", 1, 1),
        ("contrast_sd", None, 2),
        ("pose_sd_rad", None, 2),
        ("shift_sd_px", None, 2),
        ("occupancy", 0, 1),
    ],
)
def test_conjugate_draws_follow_the_joint_posterior(small, draws, log_joint, name, index, power):
    """Against eq. 29 itself on a grid of one unknown; priors of widths are densities of their
    squares. The other unknowns of mu do not matter, being independent given the rest.
    """
    sample = draws[name] if index is None else draws[name][:, index]
    sample = sample.astype(np.float64) ** power
    low, high = sample.min(), sample.max()
    grid = np.geomspace(
        0.5 * low, min(2.0 * high, 0.999 if name == "occupancy" else np.inf), POINTS
    )
    values = np.repeat(np.asarray(getattr(small.nuisance, name))[None], POINTS, axis=0)
    if index is None:
        values = grid ** (1 / power)
    else:
        values[:, index] = grid
        if name == "occupancy":
            values[:, 1] = 1.0 - grid
    stacked = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (POINTS, *x.shape)), small.nuisance
    )._replace(**{name: jnp.asarray(values, jnp.float32)})
    log_density = np.asarray(log_joint(stacked), np.float64)
    density = np.exp(log_density - log_density.max())
    cdf = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))])
    result = stats.kstest(sample, lambda x: np.interp(x, grid, cdf / cdf[-1]))
    assert result.pvalue > 1e-3, result


def test_occupancy_draws_have_dirichlet_moments(small, draws, given):
    occupied = np.asarray(given[0].occupancy).sum(axis=0)
    assert occupied.sum() == N - 1
    alpha = small.posterior.prior.occupancy + occupied
    law = stats.dirichlet(alpha)
    np.testing.assert_allclose(draws["occupancy"].sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(draws["occupancy"].mean(axis=0), law.mean(), atol=0.02)
    np.testing.assert_allclose(draws["occupancy"].var(axis=0), law.var(), rtol=0.15)


def test_a_space_without_occupancy_keeps_it(small, given):
    rng = np.random.default_rng(0)
    counts = given[1]._replace(has_occupancy=False)
    drawn = draw_nuisance(rng, small.nuisance, given[0], counts, HyperPrior(n_bins=2))
    np.testing.assert_array_equal(drawn.occupancy, small.nuisance.occupancy)
