"""Classes: lattices, proposals, bins, and the clusters they start from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.space.discrete import Discrete
from hypermol.space.normal import Gaussian
from hypermol.space.state_space import Interval, Point

CLASSES = Discrete("fold", 5)


def test_lattice_of_classes_is_all_of_them_from_any():
    for start in np.asarray(CLASSES.nodes(1)):
        lattice = np.asarray(CLASSES.lattice(jnp.asarray(start), 2))
        assert lattice.shape == (5, 1)
        np.testing.assert_allclose(lattice[0], start, atol=1e-6)
        np.testing.assert_allclose(
            np.sort(np.asarray(lattice)[:, 0]), [0.1, 0.3, 0.5, 0.7, 0.9], atol=1e-6
        )


def test_classes_are_states_and_back():
    np.testing.assert_array_equal(CLASSES.index(CLASSES.state(jnp.arange(5))), np.arange(5))
    np.testing.assert_allclose(
        CLASSES.wrap(jnp.array([[0.05], [1.0], [-0.3], [0.5]]))[:, 0], [0.1, 0.9, 0.3, 0.5]
    )
    assert CLASSES.state_labels[0] == "1"
    assert Discrete("c", 2, ("open", "shut")).state_labels == ("open", "shut")
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
