"""State spaces: wrapping, lattices that do not depend on the member they start from, nodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.space.discrete import Discrete
from hypermol.space.normal import Gaussian, Normal
from hypermol.space.state_space import Circle, Interval, Point

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


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (Interval("hinge"), Interval("arm")),
        (Circle("turn"), Circle("arm")),
        (Discrete("bound", 3, ("a", "b", "c")), Discrete("arm", 3, ("a", "b", "c"))),
        (Normal(("x",)), Normal(("arm",))),
    ],
)
def test_renaming_changes_the_name_alone(space, expected):
    assert space.renamed(("arm",)) == expected


def test_fixed_names_stay():
    assert Point().renamed(()) == Point()
    assert Gaussian(2).renamed(("component_1", "component_2")) == Gaussian(2)
    with pytest.raises(ValueError, match="component_1"):
        Gaussian(1).renamed(("arm",))
