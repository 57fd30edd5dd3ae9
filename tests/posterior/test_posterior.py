"""The four terms of eq. 29 against NumPy in float64 over the full plane."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.posterior.hyper_draws import image_summer, residual_power
from small_posterior import (
    N,
    flat,
    make_small,
    reference_images,
    reference_likelihood,
    reference_mu_prior,
    reference_particle_prior,
    reference_theta_prior,
)


@pytest.fixture(scope="module")
def small():
    return make_small()


@pytest.fixture(scope="module")
def grid(small):
    return np.asarray(jax.jit(small.posterior.molecule.prepare)(small.theta)[0][""])


@pytest.fixture(scope="module")
def evaluate(small):
    return jax.jit(small.posterior.terms)


@pytest.fixture(scope="module")
def terms(small, evaluate):
    return evaluate(*small[1:])


def test_likelihood(small, grid, terms):
    expected = reference_likelihood(small, grid)
    assert expected.std() > 1.0
    np.testing.assert_allclose(flat(terms.likelihood), expected, rtol=1e-5, atol=1e-4)


def test_particle_prior(small, terms):
    expected = reference_particle_prior(small)
    np.testing.assert_allclose(flat(terms.particle_prior), expected, rtol=1e-4, atol=1e-4)


def test_theta_prior(small, terms):
    assert float(terms.theta_prior) == pytest.approx(reference_theta_prior(small), rel=1e-5)


def test_mu_prior(small, terms):
    assert float(terms.mu_prior) == pytest.approx(reference_mu_prior(small), rel=1e-5)


def test_absent_particles_count_for_nothing(small, evaluate, terms):
    assert flat(terms.likelihood)[-1] == 0.0 == flat(terms.particle_prior)[-1]
    pixels = small.images.pixels.at[-1, -1].add(100.0)
    other = evaluate(*small[1:-1], small.images._replace(pixels=pixels))
    np.testing.assert_array_equal(other.likelihood, terms.likelihood)


def test_residual_power_per_shell(small, grid):
    sums = image_summer(small.posterior)
    sums = sums(small.theta, small.latents, small.images)
    present = np.asarray(small.images.present)
    found = residual_power(sums, small.latents.contrast, present)
    residual = flat(small.images.pixels) - reference_images(small, grid)
    power = np.sum(np.abs(residual[: N - 1]) ** 2, axis=0)
    plane = small.posterior.plane
    np.testing.assert_allclose(found, np.bincount(plane.shells, power), rtol=1e-4)


def test_occupancy_moves_only_its_own_terms(small, evaluate, terms):
    mu = small.mu._replace(occupancy=jnp.asarray([0.25, 0.75]))
    other = evaluate(small.theta, mu, *small[3:])
    np.testing.assert_array_equal(other.likelihood, terms.likelihood)
    assert float(other.theta_prior) == float(terms.theta_prior)
    bins = (flat(small.latents.state)[:, 0] >= 0.5).astype(int)
    change = np.log(np.array([0.25, 0.75]) / np.asarray(small.mu.occupancy))[bins]
    found = flat(other.particle_prior) - flat(terms.particle_prior)
    np.testing.assert_allclose(found[:-1], change[:-1], atol=1e-5)
