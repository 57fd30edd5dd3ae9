"""Products of spaces: lattices, nodes, joint bins, names, starts from a subspace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.space.discrete import Discrete
from hypermol.space.normal import Gaussian
from hypermol.space.product import Product
from hypermol.space.state_space import Circle, Interval, Point

ARMS = Product((Interval("arm_1"), Interval("arm_2")))
MIXED = Product((Interval("hinge"), Discrete("bound", 3), Circle("turn")))


def sorted_rows(rows) -> np.ndarray:
    """Rows in an order that rounding does not change; 0 and 1 are one point of a circle."""
    rounded = np.mod(np.round(np.asarray(rows, np.float64), 4), 1.0)
    return rounded[np.lexsort(rounded.T)]


@pytest.mark.parametrize(
    ("space", "state", "wanted", "size"),
    [
        (ARMS, [0.13, 0.58], 16, 16),
        (ARMS, [0.13, 0.58], 31, 25),
        (MIXED, [0.13, 0.5, 0.9], 32, 27),
        (Product((Interval(), Discrete("c", 2))), [0.7, 0.25], 32, 32),
        (Product((Gaussian(2), Discrete("c", 4))), [0.7, -2.0, 0.125], 9, 4),
    ],
)
def test_lattice_is_the_same_from_each_member(space: Product, state, wanted: int, size: int):
    members = np.asarray(space.lattice(jnp.array(state), wanted))
    assert members.shape == (size, space.dim)
    np.testing.assert_allclose(members[0], state, atol=1e-6)
    again = jax.jit(jax.vmap(lambda tau: space.lattice(tau, wanted)))(members)
    for other in again:
        np.testing.assert_allclose(sorted_rows(other), sorted_rows(members), atol=2e-4)


def test_wrap_goes_by_factor():
    moved = MIXED.wrap(jnp.array([-0.2, 1.1, 1.3]))
    np.testing.assert_allclose(moved, [0.2, 5 / 6, 0.3], atol=1e-6)


def test_a_walk_is_held_by_ends_and_by_nothing_else():
    space = Product((Interval("a"), Circle("b"), Point()))
    walked = jnp.array([[0.0, 1.4], [1.0, -0.2], [1.01, 0.5], [-0.01, 0.5]])
    np.testing.assert_array_equal(space.holds(walked), [True, True, False, False])
    np.testing.assert_array_equal(Interval().holds(walked[:, :1]), [True, True, False, False])
    assert bool(jnp.all(Circle().holds(walked[:, 1:])))


def test_nodes_are_the_grid_of_the_factors():
    np.testing.assert_allclose(
        ARMS.nodes(5), [[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]]
    )
    assert MIXED.nodes(12).shape == (12, 3)
    assert Product((Point(), Interval())).nodes(7).shape == (7, 1)


def test_knobs_keep_their_names():
    assert ARMS.names == ("arm_1", "arm_2")
    behind = Product((Gaussian(2), Interval("hinge")))
    assert behind.names == ("component_1", "component_2", "hinge")


def test_a_name_twice_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"'state' appears 2 times.*Interval\('state_1'\)"):
        Product((Interval(), Interval()))


def test_products_of_products_are_flat():
    nested = Product((Interval("a"), Product((Interval("b"), Discrete("c", 2)))))
    assert nested == Product((Interval("a"), Interval("b"), Discrete("c", 2)))


def test_joint_bins_are_an_array_shaped_by_factors():
    assert MIXED.n_bins(4) == 48 and MIXED.bin_shape(48) == (4, 3, 4)
    assert MIXED.n_bins(1) == 1 and MIXED.bin_shape(1) == (1, 1, 1)
    assert MIXED.has_occupancy and not Product((Gaussian(1), Point())).has_occupancy
    states = MIXED.sample_base(jax.random.key(0), (5000,))
    counts = np.bincount(MIXED.bin(states, 48), minlength=48).reshape(MIXED.bin_shape(48))
    expected = np.histogramdd(np.asarray(states), (4, 3, 4), [[0, 1]] * 3)[0]
    np.testing.assert_array_equal(counts, expected)
    with pytest.raises(ValueError, match="47 bins cannot be shared"):
        MIXED.bin_shape(47)


def test_proposals_move_one_factor_and_are_reversible():
    keys = jax.random.split(jax.random.key(0))
    states = MIXED.sample_base(keys[0], (200000,))
    moved = MIXED.propose(keys[1], states, 0.3)
    changed = np.abs(MIXED.difference(np.asarray(moved), np.asarray(states))) > 1e-6
    assert changed.sum(axis=1).max() == 1
    # a uniformly drawn class is another one two times in three
    np.testing.assert_allclose(changed.mean(axis=0), [1 / 3, 2 / 9, 1 / 3], atol=0.01)
    flow = np.zeros((18, 18))
    np.add.at(flow, (MIXED.bin(states, 12), MIXED.bin(moved, 12)), 1.0)
    assert np.abs(flow - flow.T).max() < 5 * np.sqrt(2 * flow.max())


def test_base_measure_is_the_factors():
    space = Product((Gaussian(2), Interval()))
    assert float(space.log_base(jnp.array([1.0, 2.0, 0.3]))) == pytest.approx(-2.5)
    draws = np.asarray(space.sample_base(jax.random.key(0), (4000,)))
    np.testing.assert_allclose(draws.std(axis=0), [1.0, 1.0, 12**-0.5], rtol=0.06)


def test_each_factor_starts_from_axes_of_its_own():
    coordinates = np.random.default_rng(0).normal(size=(50, 3))
    states = Product((Interval("a"), Circle("b"))).from_subspace(coordinates)
    np.testing.assert_array_equal(states[:, :1], Interval().from_subspace(coordinates))
    np.testing.assert_array_equal(states[:, 1:], Circle().from_subspace(coordinates[:, 1:]))
    with pytest.raises(ValueError, match=r"2 components .* need 3"):
        Product((Interval("a"), Circle("b"))).from_subspace(coordinates[:, :2])
