"""State bases: orthonormality, NumPy's Chebyshev polynomials, gradients up to the ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.molecule.state_basis import Chebyshev, Constant, Cosine, Fourier, Linear
from hypermol.space.normal import Gaussian
from hypermol.space.state_space import Interval


@pytest.mark.parametrize("basis", [Cosine(6), Fourier(7), Fourier(6), Constant()])
def test_orthonormal_under_uniform_states(basis):
    """The midpoint rule is exact for products of these terms."""
    values = np.asarray(basis(basis.space.nodes(64)), np.float64)
    assert values.shape[-1] == basis.n_terms == len(basis.frequencies)
    np.testing.assert_allclose(values.T @ values / len(values), np.eye(basis.n_terms), atol=2e-6)


def test_linear_terms_are_orthonormal_under_normal_states():
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    grid = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    product = np.outer(weights, weights).reshape(-1) / (2 * np.pi)
    values = np.asarray(Linear(Gaussian(2))(jnp.asarray(grid)), np.float64)
    np.testing.assert_allclose(values.T * product @ values, np.eye(3), atol=1e-5)


@pytest.mark.parametrize("n_terms", [1, 2, 9])
def test_chebyshev_is_numpys(n_terms: int):
    tau = np.linspace(0.0, 1.0, 101, dtype=np.float32)[:, None]
    expected = np.polynomial.chebyshev.chebvander(2.0 * tau[:, 0].astype(float) - 1.0, n_terms - 1)
    np.testing.assert_allclose(Chebyshev(n_terms)(tau), expected, atol=1e-5)


def test_cosines_and_fourier_terms_are_their_formulas():
    tau = np.linspace(0.0, 1.0, 41, dtype=np.float32)[:, None]
    t, root = tau[:, 0].astype(float), np.sqrt(2.0)
    cosines = np.stack([np.ones_like(t)] + [root * np.cos(np.pi * q * t) for q in (1, 2, 3)], -1)
    np.testing.assert_allclose(Cosine(4)(tau), cosines, atol=3e-6)
    turns = [root * f(2 * np.pi * q * t) for q in (1, 2) for f in (np.cos, np.sin)]
    np.testing.assert_allclose(Fourier(5)(tau), np.stack([np.ones_like(t), *turns], -1), atol=3e-6)
    np.testing.assert_array_equal(Fourier(6).frequencies, [0, 1, 1, 2, 2, 3])


@pytest.mark.parametrize("basis", [Cosine(5), Chebyshev(5), Fourier(5), Linear(Gaussian(1))])
def test_gradients_up_to_the_ends(basis):
    slopes = jax.jit(jax.vmap(jax.jacfwd(basis)))(jnp.array([[0.0], [0.3], [1.0]]))[..., 0]
    assert np.all(np.isfinite(slopes))
    if isinstance(basis, Chebyshev):  # T_q'(+-1) = (+-1)^(q + 1) q^2, twice that in tau
        np.testing.assert_allclose(slopes[2], [2.0 * q**2 for q in range(5)], rtol=1e-5)
        np.testing.assert_allclose(
            slopes[0], [2.0 * (-1.0) ** (q + 1) * q**2 for q in range(5)], rtol=1e-5
        )


def test_spaces_and_names_go_through():
    assert Cosine(3, Interval("hinge")).space.names == ("hinge",)
    assert Constant()(jnp.zeros((4, 0))).shape == (4, 1)
    assert Linear(Gaussian(3)).n_terms == 4
