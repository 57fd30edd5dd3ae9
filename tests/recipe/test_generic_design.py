"""The generic molecule of a recipe on every spatial basis, in the ball that a level gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.io.errors import InputError
from hypermol.molecule.spatial_basis.gaussians import GaussianGrid
from hypermol.molecule.spatial_basis.prolates import Prolates
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.recipe.design import Grid
from hypermol.recipe.options import FitOptions, make_design
from hypermol.recipe.toml import read_recipe, write_recipe
from hypermol.space.fourier import half_plane

BOX, PIXEL, KMAX, RADIUS = 20, 2.0, 6, 14.0
KINDS = {"voxels": Voxels, "prolates": Prolates, "gaussians": GaussianGrid}


@pytest.mark.parametrize("kind", KINDS)
def test_a_generic_molecule_is_sliced_as_its_transform_says(tmp_path, kind):
    text = f'[model]\nbasis = "fourier"\nn_terms = 3\nspatial_basis = "{kind}"\n'
    (tmp_path / "recipe.toml").write_text(text)
    options = read_recipe(tmp_path / "recipe.toml")
    write_recipe(tmp_path / "again.toml", options)
    assert read_recipe(tmp_path / "again.toml") == options
    design = make_design(options, BOX, PIXEL)
    assert (design.kind, design.n_terms, design.n_knobs) == ("fourier", 3, 1)
    molecule = design.molecule(Grid(BOX, PIXEL, KMAX, RADIUS), 3)
    basis = molecule.parts[0].basis
    assert isinstance(basis, KINDS[kind])
    assert basis.radius_angstrom == RADIUS and basis.centre_angstrom == (0.0, 0.0, 0.0)
    fall = jnp.tile(jnp.exp(-jnp.arange(KMAX + 2) / 3.0), (3, 1))
    theta = molecule.init(jax.random.key(0))
    theta = theta._replace(maps=molecule.precision_root(jax.random.key(1), fall))
    turns = Rotation.random(2, random_state=0).as_matrix().astype(np.float32)
    k = half_plane(BOX, KMAX).frequencies.astype(np.float32)
    tau = jnp.array([0.3])

    @jax.jit
    def sliced(theta):
        features = molecule.features(molecule.prepare(theta), turns, jnp.tile(tau, (2, 1)), k)
        return jnp.einsum("f,bfk->bk", molecule.weights(tau), features)

    points = jnp.asarray(k @ turns[:, :2] / (BOX * PIXEL))
    expected = np.stack([jax.jit(molecule.fourier)(theta, p, tau) for p in points])
    found = np.asarray(sliced(theta))
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 0.03
    linear = design.subspace(Grid(BOX, PIXEL, KMAX, RADIUS), 2)
    assert linear.state_space.is_subspace and isinstance(linear.parts[0].basis, KINDS[kind])


def test_an_unknown_spatial_basis_is_named():
    with pytest.raises(InputError, match="spatial_basis 'wavelets' is not known: use voxels"):
        make_design(FitOptions(spatial_basis="wavelets"), BOX, PIXEL)
