"""Hats, classes, trees of classes, products: sums to one, orthonormality, changes of basis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.molecule.state_basis import (
    BASES,
    BASIS_OF,
    STATES_OF,
    Chebyshev,
    Constant,
    Cosine,
    Fourier,
    Haar,
    Hats,
    Linear,
    OneHot,
    ProductBasis,
    StateBasis,
    named_state_basis,
)
from hypermol.space.discrete import Discrete
from hypermol.space.normal import Gaussian
from hypermol.space.state_space import Circle, Interval


def classes(n: int) -> Discrete:
    return Discrete("class", n)


ALL = [
    Constant(),
    Cosine(4),
    Chebyshev(6),
    Fourier(5),
    Hats(5),
    Hats(4, Circle()),
    OneHot(classes(3)),
    Haar(classes(5)),
    ProductBasis((Hats(3), Haar(classes(3)), Fourier(3))),
    ProductBasis((Cosine(4, Interval("a")), Cosine(4, Interval("b"))), 3.0),
]


def at_nodes(basis: StateBasis, n: int = 4096) -> np.ndarray:
    """float64 [n, n_terms]."""
    return np.asarray(basis(basis.space.nodes(n)), np.float64)


@pytest.mark.parametrize("basis", ALL)
def test_constants_and_means_are_what_a_basis_says(basis: StateBasis):
    """The midpoint rule over nodes is exact for all but Chebyshev, where it is to 1e-6."""
    values = at_nodes(basis)
    assert values.shape[-1] == basis.n_terms == len(basis.frequencies)
    np.testing.assert_allclose(values @ basis.constant_weights, 1.0, atol=1e-5)
    np.testing.assert_allclose(values.mean(axis=0), basis.mean_weights, atol=1e-5)
    mean = np.random.default_rng(0).normal(size=(2, 3))
    np.testing.assert_allclose(basis.mean_of(basis.from_mean(mean)), mean, atol=1e-9)


@pytest.mark.parametrize("space", [Interval(), Circle()])
@pytest.mark.parametrize("n", [2, 3, 7])
def test_hats_interpolate_linearly(space, n: int):
    hats = Hats(n, space)
    np.testing.assert_allclose(hats(jnp.asarray(hats.nodes, jnp.float32)), np.eye(n), atol=1e-6)
    tau = np.linspace(0.0, 1.0, 41)
    maps = np.random.default_rng(0).normal(size=n)
    nodes = hats.nodes[:, 0]
    if isinstance(space, Circle):
        expected = np.interp(tau, np.append(nodes, 1.0), np.append(maps, maps[0]))
    else:
        expected = np.interp(tau, nodes, maps)
    found = np.asarray(hats(jnp.asarray(tau[:, None], jnp.float32))) @ maps
    np.testing.assert_allclose(found, expected, atol=1e-5)
    slopes = jax.vmap(jax.jacfwd(hats))(jnp.array([[0.0], [0.3], [1.0]]))
    assert np.all(np.isfinite(slopes))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 8, 13])
def test_haar_is_one_hot_by_an_orthogonal_matrix(n: int):
    haar, onehot = Haar(classes(n)), OneHot(classes(n))
    change = haar.table / np.sqrt(n)
    np.testing.assert_allclose(change.T @ change, np.eye(n), atol=1e-12)
    np.testing.assert_allclose(at_nodes(haar), at_nodes(onehot) @ haar.table, atol=1e-6)
    np.testing.assert_array_equal(at_nodes(haar)[:, 0], 1.0)
    there, back = haar.coefficients_of(onehot), onehot.coefficients_of(haar)
    np.testing.assert_allclose(back @ there, np.eye(n), atol=1e-6)
    assert np.all(np.diff(haar.frequencies) >= 0.0)


def test_product_is_the_outer_product():
    first, second = Cosine(3, Interval("a")), Fourier(5, Circle("b"))
    basis = ProductBasis((first, second))
    tau = jnp.asarray(np.random.default_rng(0).random((20, 2)), jnp.float32)
    outer = first(tau[:, :1])[:, :, None] * second(tau[:, 1:])[:, None, :]
    q, r = basis.terms.T
    np.testing.assert_allclose(basis(tau), np.asarray(outer)[:, q, r], atol=1e-6)
    assert basis.n_terms == 15 and len(np.unique(basis.terms, axis=0)) == 15
    np.testing.assert_array_equal(basis.frequencies, first.frequencies[q] + second.frequencies[r])
    assert np.all(np.diff(basis.frequencies) >= 0.0) and tuple(basis.terms[0]) == (0, 0)
    gram = at_nodes(basis).T @ at_nodes(basis) / len(at_nodes(basis))
    np.testing.assert_allclose(gram, np.eye(15), atol=1e-5)
    assert basis.space.names == ("a", "b")


def test_truncated_products_keep_low_total_frequency():
    arms = (Cosine(4, Interval("a")), Cosine(4, Interval("b")))
    basis = ProductBasis(arms, 2.0)
    assert basis.n_terms == 6 and basis.frequencies.max() == 2.0
    whole = ProductBasis(arms)
    into = whole.coefficients_of(basis)
    tau = jnp.asarray(np.random.default_rng(0).random((9, 2)), jnp.float32)
    np.testing.assert_allclose(np.asarray(whole(tau)) @ into, basis(tau), atol=1e-5)
    np.testing.assert_allclose(basis.coefficients_of(whole) @ into, np.eye(6), atol=1e-9)
    with pytest.raises(ValueError, match="keeps no term"):
        _ = ProductBasis(arms, -1.0).n_terms


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (Cosine(3), Cosine(5)),
        (Hats(3), Hats(5)),
        (Hats(2, Circle()), Hats(6, Circle())),
        (Chebyshev(2), Hats(2)),
        (Chebyshev(3), Chebyshev(4)),
        (ProductBasis((Hats(3), Haar(classes(2)))), ProductBasis((Hats(5), OneHot(classes(2))))),
    ],
)
def test_functions_are_kept_in_a_basis_that_holds_them(source: StateBasis, target: StateBasis):
    matrix = target.coefficients_of(source)
    np.testing.assert_allclose(at_nodes(target, 100) @ matrix, at_nodes(source, 100), atol=1e-4)


def test_any_other_pair_is_matched_by_least_squares():
    matrix = Cosine(8).coefficients_of(Hats(2))
    tau = jnp.linspace(0.0, 1.0, 50)[:, None]
    np.testing.assert_allclose(np.asarray(Cosine(8)(tau)) @ matrix, Hats(2)(tau), atol=0.05)


def test_bases_by_name():
    assert named_state_basis("hats", 6, "hinge") == Hats(6, Interval("hinge"))
    assert named_state_basis("onehot", 3, "fold") == OneHot(Discrete("fold", 3))
    assert named_state_basis("haar", 3, "fold") == Haar(Discrete("fold", 3))
    for kind, what in (("hats", "nodes"), ("haar", "classes")):
        with pytest.raises(ValueError, match=f"n_terms is 1 for a {kind} basis.*{what}"):
            named_state_basis(kind, 1, "s")
    with pytest.raises(ValueError, match=r"not known: use cosine, .*haar"):
        named_state_basis("wavelet", 3, "s")


def test_linear_bases_say_their_means():
    basis = Linear(Gaussian(2))
    np.testing.assert_array_equal(basis.mean_weights, [1.0, 0.0, 0.0])
    np.testing.assert_array_equal(basis.constant_weights, [1.0, 0.0, 0.0])


def test_the_registry_says_of_each_basis_what_it_is():
    """Each entry against the basis that it makes, at its own number of terms and at others."""
    assert {BASES[name].states: name for name in BASIS_OF.values()} == BASIS_OF
    for name, known in BASES.items():
        basis = named_state_basis(name, known.n_terms, "knob")
        assert basis.n_terms == known.n_terms
        assert STATES_OF[type(basis.space)] == known.states
        whole = np.count_nonzero(basis.constant_weights)
        local = not np.any(basis.frequencies) and known.states != "rigid" and whole > 1
        assert known.is_local == (local or name == "haar")  # a tree of classes: all or none
        refused = [n for n in range(7) if known.fault(n) is not None]
        expected = {"rigid": [0, 2, 3, 4, 5, 6], "circle": [0, 2, 4, 6]}
        assert refused == expected.get(known.states, [0, 1] if known.is_local else [0])
        for most in range(1, 8):
            capped = known.capped(known.n_terms, most)
            assert known.fault(capped) is None and capped <= known.n_terms
            assert capped == known.n_terms if known.is_local else capped <= max(most, 3)
        for wrong in (2.0, "3", True):
            assert known.fault(wrong) == "give a whole number"
