"""State spaces: wrapping, lattices that do not depend on the member they start from, nodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.space.state_space import Circle, Discrete, Gaussian, Interval, Point

BOUNDED = [Interval(), Circle()]


def as_set(lattice) -> np.ndarray:
    """Members of a lattice on [0, 1], sorted; 1 and 0 are one point of a circle."""
    return np.sort(np.asarray(lattice, np.float64)[:, 0])


@pytest.mark.parametrize("space", BOUNDED)
def test_wrap_stays_inside_and_leaves_states_alone(space):
    tau = np.linspace(-3.0, 3.0, 601, dtype=np.float32)[:, None]
    wrapped = np.asarray(space.wrap(tau))
    assert np.all((wrapped >= 0.0) & (wrapped <= 1.0))
    inside = np.asarray(tau)[(tau > 0.001) & (tau < 0.999)][:, None]
    np.testing.assert_allclose(space.wrap(inside), inside, atol=1e-6)


def test_wrap_reflects_or_turns():
    tau = jnp.array([[-0.2], [1.3], [2.4]])
    np.testing.assert_allclose(Interval().wrap(tau)[:, 0], [0.2, 0.7, 0.4], atol=1e-6)
    np.testing.assert_allclose(Circle().wrap(tau)[:, 0], [0.8, 0.3, 0.4], atol=1e-6)


@pytest.mark.parametrize("space", BOUNDED)
@pytest.mark.parametrize("n", [2, 7, 16])
def test_lattice_is_the_same_from_each_of_its_members(space, n: int):
    lattices = jax.jit(jax.vmap(lambda tau: space.lattice(tau, n)))
    for start in (0.03, 0.31, 0.5, 0.97):
        first = np.asarray(space.lattice(jnp.array([start]), n))
        assert first.shape == (n, 1)
        assert first[0, 0] == pytest.approx(start, abs=1e-6)
        for other in lattices(first):
            np.testing.assert_allclose(as_set(other), as_set(first), atol=1e-5)


@pytest.mark.parametrize("space", BOUNDED)
def test_uniform_states_make_lattices_that_cover_evenly(space):
    """Over uniform states, a uniformly chosen member is uniform: the Gibbs step keeps the prior."""
    rng = np.random.default_rng(0)
    tau = rng.random((20000, 1), dtype=np.float32)
    lattices = np.asarray(jax.jit(jax.vmap(lambda t: space.lattice(t, 5)))(tau))
    chosen = lattices[np.arange(20000), rng.integers(0, 5, 20000), 0]
    counts = np.histogram(chosen, bins=10, range=(0, 1))[0]
    assert np.sum((counts - 2000) ** 2 / 2000) < 30


def test_uniform_interval_proposals_are_reversible():
    """The folded proposal's density is symmetric: pairs (from, to) fall evenly on both sides."""
    rng = np.random.default_rng(0)
    tau = rng.random((200000, 1), dtype=np.float32)
    step = rng.uniform(-0.4, 0.4, tau.shape).astype(np.float32)
    moved = np.asarray(Interval().wrap(jnp.asarray(tau + step)))
    flow = np.histogram2d(tau[:, 0], moved[:, 0], bins=4, range=[[0, 1]] * 2)[0]
    assert np.abs(flow - flow.T).max() < 5 * np.sqrt(flow.max())


@pytest.mark.parametrize("space", BOUNDED)
def test_nodes_are_bin_centres(space):
    np.testing.assert_allclose(space.nodes(4)[:, 0], [0.125, 0.375, 0.625, 0.875], atol=1e-6)
    assert space.has_occupancy
    assert np.all(space.log_base(space.nodes(4)) == 0.0)


def test_point():
    space = Point()
    tau = jnp.zeros((0,))
    assert space.dim == 0 and space.names == ()
    assert space.lattice(tau, 9).shape == (1, 0)
    assert space.nodes(5).shape == (1, 0)
    assert space.wrap(tau).shape == (0,)
    assert space.sample_base(jax.random.key(0), (3,)).shape == (3, 0)
    assert not space.has_occupancy


def test_gaussian():
    space = Gaussian(3)
    assert space.dim == 3 and len(space.names) == 3 and not space.has_occupancy
    tau = jnp.array([0.5, -1.0, 2.0])
    assert float(space.log_base(tau)) == pytest.approx(-0.5 * 5.25)
    assert space.lattice(tau, 9).shape == (1, 3)
    nodes = np.asarray(space.nodes(5))
    np.testing.assert_allclose(nodes[:, 0], [-2, -1, 0, 1, 2], atol=1e-6)
    assert np.all(nodes[:, 1:] == 0)
    draws = np.asarray(space.sample_base(jax.random.key(0), (20000,)))
    assert np.abs(np.cov(draws.T) - np.eye(3)).max() < 0.04


def test_knobs_are_named():
    assert Interval("hinge").names == ("hinge",)
    assert Circle("arm").names == ("arm",)


CLASSES = Discrete("fold", 5)


def test_lattice_of_classes_is_all_of_them_from_any():
    for start in np.asarray(CLASSES.nodes(1)):
        lattice = np.asarray(CLASSES.lattice(jnp.asarray(start), 2))
        assert lattice.shape == (5, 1)
        np.testing.assert_allclose(lattice[0], start, atol=1e-6)
        np.testing.assert_allclose(as_set(lattice), [0.1, 0.3, 0.5, 0.7, 0.9], atol=1e-6)


def test_classes_are_states_and_back():
    np.testing.assert_array_equal(CLASSES.index(CLASSES.state(jnp.arange(5))), np.arange(5))
    np.testing.assert_allclose(
        CLASSES.wrap(jnp.array([[0.05], [1.0], [-0.3], [0.5]]))[:, 0], [0.1, 0.9, 0.3, 0.5]
    )
    assert (CLASSES.label(0), Discrete("c", 2, ("open", "shut")).label(1)) == ("1", "shut")
    with pytest.raises(ValueError, match="2 states and 1 labels"):
        Discrete("c", 2, ("open",))
    with pytest.raises(ValueError, match="at least 1"):
        Discrete("c", 0)


def test_proposed_classes_are_symmetric():
    keys = jax.random.split(jax.random.key(0))
    states = CLASSES.sample_base(keys[0], (100000,))
    moved = CLASSES.propose(keys[1], states, 0.1)
    flow = np.zeros((5, 5))
    np.add.at(flow, (CLASSES.index(states), CLASSES.index(moved)), 1.0)
    assert np.abs(flow - 4000).max() < 5 * np.sqrt(4000)


def test_bins_of_classes():
    assert (CLASSES.n_bins(24), CLASSES.n_bins(1), Interval().n_bins(24)) == (5, 1, 24)
    assert (Point().n_bins(24), Gaussian(2).n_bins(24)) == (1, 1)
    np.testing.assert_array_equal(CLASSES.bin(CLASSES.nodes(5), 5), np.arange(5))
    np.testing.assert_array_equal(CLASSES.bin(CLASSES.nodes(5), 1), 0)
    assert CLASSES.has_occupancy


def test_classes_start_as_clusters():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 300)
    centres = np.array([[-4.0, 0.0], [0.0, 5.0], [4.0, 0.0]])
    noisy = np.concatenate(
        [centres[truth] + rng.normal(size=(300, 2)), 30.0 * rng.normal(size=(300, 1))], axis=1
    )
    space = Discrete("c", 3)
    found = np.asarray(space.index(jnp.asarray(space.from_subspace(noisy))))
    assert np.mean(found == truth) > 0.95
    few = space.from_subspace(noisy[:2])
    assert few.shape == (2, 1) and len(np.unique(few)) == 2
