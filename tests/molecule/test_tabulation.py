"""Black boxes as maps: against the density that their own formula gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.io.errors import InputError
from hypermol.molecule.gallery import cat, pretzel
from hypermol.molecule.tabulation import grid_density, shown_states, tabulate
from hypermol.recipe.design import Grid
from hypermol.recipe.part_tables import read_parts
from hypermol.space.discrete import Discrete
from hypermol.space.normal import Normal
from hypermol.space.product import Product
from hypermol.space.state_space import Circle, Interval

BOX, PIXEL = 24, 16.0


def exact_density(molecule, theta, tau, n, voxel):
    """V(., tau) at the voxels' centres, in the units of an orthonormal slice."""
    axis = (np.arange(n) - n // 2) * voxel
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    points = jnp.asarray(np.stack([x, y, z], axis=-1), jnp.float32)
    return np.asarray(molecule.density(theta, tau, points)) * voxel**3


def test_grid_density_is_the_density():
    molecule = cat(100.0)
    theta = molecule.init(jax.random.key(0))
    # wide blobs, so that the sphere of frequencies cuts nothing off
    theta = theta | {"width": theta["width"] * 0.0 + 22.0}
    tau = jnp.array([0.7])
    found = np.asarray(grid_density(molecule, theta, tau, BOX, PIXEL))
    exact = exact_density(molecule, theta, tau, BOX, PIXEL)
    assert np.abs(found - exact).max() < 2e-3 * exact.max()


@pytest.mark.parametrize("molecule", [cat(100.0), cat(100.0, circle=True), pretzel(100.0)])
def test_tabulated_densities_are_the_molecules(molecule):
    """At states between the nodes, through the design that a run is read with."""
    table = {"name": "whole", "region": {"radius_angstrom": 180.0}}
    design = read_parts((table | shown_states(molecule.state_space),), BOX, PIXEL)
    grid = Grid(BOX, PIXEL, 8, 180.0)
    form = design.molecule(grid, design.n_terms)
    assert form.state_space == molecule.state_space
    theta = molecule.init(jax.random.key(0))
    maps = jax.jit(lambda given: tabulate(molecule, given, form, grid.voxels))(theta)
    assert len(maps) == form.shown_weights(form.state_space.nodes(1)[0]).shape[-1]
    voxels = grid.voxels
    for place in (0.11, 0.47, 0.83):
        tau = jnp.full(form.state_space.dim, place).at[0].set(1.0 - place)
        found = np.tensordot(np.asarray(form.shown_weights(tau)), np.asarray(maps), axes=1)
        size = voxels.voxel_size_angstrom
        exact = np.asarray(grid_density(molecule, theta, tau, voxels.n, size)) / voxels.scale
        correlation = np.corrcoef(found.ravel(), exact.ravel())[0, 1]
        assert correlation > 0.995
        assert np.abs(found - exact).max() < 0.1 * np.abs(exact).max()


def test_bases_follow_the_kind_of_every_knob():
    space = Product((Interval("bend"), Circle("turn"), Discrete("kind", 3)))
    assert shown_states(space) == {
        "state_basis": ["cosine", "fourier", "haar"],
        "n_terms": [5, 5, 3],
        "state_name": ["bend", "turn", "kind"],
    }
    assert shown_states(Circle("turn"))["n_terms"] == 17


def test_a_space_without_a_basis_is_refused():
    with pytest.raises(InputError, match="Normal: use Interval"):
        shown_states(Normal(("a", "b")))
