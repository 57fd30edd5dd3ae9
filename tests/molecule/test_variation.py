"""State bases without their constant."""

import jax
import numpy as np
import pytest

from hypermol.molecule.state_basis import (
    Chebyshev,
    Constant,
    Cosine,
    Fourier,
    Haar,
    Hats,
    Linear,
    OneHot,
    ProductBasis,
    Variation,
)
from hypermol.space.discrete import Discrete
from hypermol.space.normal import Gaussian
from hypermol.space.state_space import Circle, Interval


@pytest.mark.parametrize(
    "whole",
    [
        Fourier(5),
        Cosine(4),
        Chebyshev(5),
        Haar(Discrete("class", 3)),
        Linear(Gaussian(2)),
        ProductBasis((Cosine(3, Interval("a")), Fourier(3, Circle("b"))), 2.0),
    ],
    ids=lambda basis: type(basis).__name__,
)
def test_variation_and_a_constant_span_the_whole_basis(whole):
    part = Variation(whole)
    states = part.space.sample_base(jax.random.key(1), (200,))
    both = np.column_stack([np.ones(200), np.asarray(part(states))])
    everything = np.asarray(whole(states))
    assert part.n_terms == len(part.frequencies) == whole.n_terms - 1
    assert np.linalg.matrix_rank(both) == whole.n_terms
    weights = np.linalg.lstsq(both, everything, rcond=None)[0]
    np.testing.assert_allclose(both @ weights, everything, atol=1e-5)
    assert not part.constant_weights.any()
    assert not part.from_mean(np.ones(3)).any()


def test_variation_follows_terms_that_two_bases_share():
    few, many = Variation(Fourier(3)), Variation(Fourier(7))
    states = few.space.sample_base(jax.random.key(2), (50,))
    maps = np.arange(1.0, 3.0)
    grown = many.coefficients_of(few) @ maps
    np.testing.assert_allclose(
        np.asarray(many(states)) @ grown, np.asarray(few(states)) @ maps, atol=1e-5
    )


def test_variation_keeps_the_mean_of_a_polynomial():
    part = Variation(Chebyshev(4))
    states = np.linspace(0.0, 1.0, 20001)[:, None]
    np.testing.assert_allclose(part.mean_weights, np.asarray(part(states)).mean(axis=0), atol=1e-3)


@pytest.mark.parametrize("whole", [Hats(3), OneHot(Discrete("class", 2))])
def test_variation_refuses_bases_without_a_constant_term(whole):
    with pytest.raises(ValueError, match=r"has no constant term to leave out.*take haar"):
        Variation(whole)


def test_variation_refuses_a_constant_alone():
    with pytest.raises(ValueError, match="no term left"):
        Variation(Constant())
