"""Prolate functions: quadrature of their integral equation, counts, another eigensolver."""

import numpy as np
import pytest
from scipy.special import sph_harm_y, spherical_jn

from hypermol.molecule.spatial_basis.prolate_functions import (
    ProlateFunctions,
    concentration,
    prolate_functions,
    radial_functions,
    zernike,
)
from hypermol.molecule.spatial_basis.spherical_harmonics import real_harmonics

C = 25.0


@pytest.fixture(scope="module")
def functions() -> ProlateFunctions:
    return prolate_functions(C)


def quadrature(n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Radii and weights for int_0^1 f(r) r^2 dr."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    radius = 0.5 * (nodes + 1.0)
    return radius, 0.5 * weights * radius**2


def test_polynomials_are_orthonormal():
    r, w = quadrature()
    for degree in (0, 3, 20):
        values = zernike(degree, 30, r)
        np.testing.assert_allclose((values * w) @ values.T, np.eye(30), atol=1e-12)


def test_integral_equation(functions):
    """int_0^1 j_l(c r t) Phi(t) t^2 dt = gamma Phi(r) at every node; measured 2.3e-13."""
    r, w = quadrature()
    worst = 0.0
    for degree, gamma in enumerate(functions.eigenvalues):
        values = functions.radial(degree, r)
        left = (values * w) @ spherical_jn(degree, C * np.outer(r, r))
        worst = max(worst, np.abs(left - gamma[:, None] * values).max())
    assert worst / abs(functions.eigenvalues[0]).max() < 2e-12


def test_orthonormality(functions):
    r, w = quadrature()
    for degree in range(len(functions.counts)):
        values = functions.radial(degree, r)
        np.testing.assert_allclose((values * w) @ values.T, np.eye(len(values)), atol=1e-12)


def test_series_continues_the_polynomials(functions):
    """Beyond r = 1 by quadrature of the integral, measured 1e-13; inside both ways agree."""
    r, w = quadrature()
    outside = np.array([0.2, 0.99, 1.01, 1.3, 1.5])
    for degree in (0, 1, 12):
        kernel = spherical_jn(degree, C * np.outer(r, outside))
        expected = (functions.radial(degree, r) * w) @ kernel
        np.testing.assert_allclose(functions.transformed(degree, outside), expected, atol=1e-13)


@pytest.mark.parametrize("degree", [0, 7])
def test_eigenvalues_against_a_dense_eigensolver(degree):
    """Of the discretised kernel, which resolves 1e-14 of the largest."""
    c = 10.0
    gamma, _ = radial_functions(c, degree, 12)
    r, w = quadrature(100)
    root = np.sqrt(w)
    dense = np.linalg.eigvalsh(spherical_jn(degree, c * np.outer(r, r)) * np.outer(root, root))
    dense = dense[np.argsort(-np.abs(dense))][:12]
    np.testing.assert_allclose(gamma, dense, atol=1e-14)


@pytest.mark.parametrize(("degree", "order"), [(0, 9), (3, 12)])
def test_small_eigenvalues_keep_relative_accuracy(degree, order):
    """c dgamma/dc = gamma (Phi(1)^2 - 3) / 2 (perturbation of the kernel), integrated from a
    bandlimit where gamma is large to one where its concentration is below 1e-20; measured 5e-10.
    """
    low, high = 8.0, 60.0
    nodes, weights = np.polynomial.legendre.leggauss(80)
    half = 0.5 * np.log(high / low)
    slopes = []
    for c in np.exp(np.log(low) + half * (nodes + 1.0)):
        expansion = radial_functions(c, degree, order + 1)[1][order]
        edge = (expansion @ zernike(degree, len(expansion), np.ones(1)))[0]
        slopes.append(0.5 * (edge**2 - 3.0))
    small, large = (radial_functions(c, degree, order + 1)[0][order] for c in (low, high))
    assert concentration(low, small) < 1e-20 and concentration(high, large) > 0.9
    assert np.log(large / small) == pytest.approx(half * np.dot(weights, slopes), abs=1e-8)


def test_the_trace_counts_the_degrees_of_freedom():
    """sum over all functions of the concentration is 2 c^3 / (9 pi) exactly."""
    c = 10.0
    total = sum(
        (2 * degree + 1) * concentration(c, radial_functions(c, degree, 25)[0]).sum()
        for degree in range(45)
    )
    assert total == pytest.approx(2 * c**3 / (9 * np.pi), rel=1e-12)


@pytest.mark.parametrize(("c", "number"), [(5.0, 9), (25.0, 1098), (50.0, 8780)])
def test_counts(c, number):
    """Near (4 pi / 3)^2 (R k_max)^3: 9 / 8.8, 1098 / 1105, 8780 / 8842."""
    found = prolate_functions(c).n_functions
    assert found == number
    radius_times_kmax = c / (2 * np.pi)
    assert found == pytest.approx((4 * np.pi / 3) ** 2 * radius_times_kmax**3, rel=0.02)


def test_a_ball_below_resolution_is_refused():
    with pytest.raises(ValueError, match="no function"):
        prolate_functions(0.5)


def test_energies_of_shells_sum_to_one(functions):
    energies = np.concatenate(functions.band_energies(np.linspace(0.0, 1.0, 9)))
    np.testing.assert_allclose(energies.sum(axis=1), 1.0, atol=1e-10)
    mean = np.concatenate(functions.mean_frequencies())
    r, w = quadrature()
    expected = [functions.radial(d, r) ** 2 @ (w * r) for d in range(len(functions.counts))]
    np.testing.assert_allclose(mean, np.concatenate(expected), atol=1e-3)


def test_harmonics_against_scipy():
    """Measured 4e-14 at degree 59, with both poles among the directions."""
    directions = np.random.default_rng(0).normal(size=(40, 3))
    directions[:2] = [[0, 0, 1], [0, 0, -1]]
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    polar, azimuth = np.arccos(directions[:, 2]), np.arctan2(directions[:, 1], directions[:, 0])
    for degree, values in enumerate(real_harmonics(directions, 60)):
        m = np.arange(degree + 1)
        expected = sph_harm_y(degree, m, polar[:, None], azimuth[:, None])
        expected = expected * np.where(m, np.sqrt(2.0) * (-1.0) ** m, 1.0)
        np.testing.assert_allclose(values[:, degree:], expected.real, atol=2e-13)
        np.testing.assert_allclose(values[:, :degree][:, ::-1], expected.imag[:, 1:], atol=2e-13)
