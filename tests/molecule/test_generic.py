"""V(r, tau) = sum_q V_q(r) P_q(tau): the composite of one part, its slices and its levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.molecule.composite import Composite, composite, expansion
from hypermol.molecule.parts import Part
from hypermol.molecule.protocol import Coefficients, LinearMolecule
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import (
    Chebyshev,
    Constant,
    Cosine,
    Fourier,
    Linear,
    Variation,
    principal_coordinates,
)
from hypermol.molecule.trajectory import Translation
from hypermol.space.fourier import half_plane
from hypermol.space.normal import Gaussian
from hypermol.space.state_space import Interval
from one_part import one_part

BOX, KMAX = 16, 5


@pytest.fixture(scope="module")
def basis() -> Voxels:
    return Voxels(BOX, 1.5, KMAX, 9.0)


@pytest.fixture(scope="module")
def molecule(basis) -> Composite:
    return expansion(basis, Cosine(3))


def random_theta(molecule: Composite, seed: int = 0) -> Coefficients:
    basis = molecule.parts[0].basis
    shape = (len(molecule.term_labels), *basis.coefficient_shape)
    return one_part(np.random.default_rng(seed).normal(size=shape) * basis.support)


@pytest.mark.parametrize(
    "state_basis", [Constant(), Cosine(3), Fourier(5), Linear(Gaussian(2))], ids=str
)
def test_is_a_linear_molecule_that_starts_at_zero(basis, state_basis):
    molecule = expansion(basis, state_basis)
    assert isinstance(molecule, LinearMolecule)
    theta = molecule.init(jax.random.key(0))
    assert theta.maps[""].shape == (state_basis.n_terms, *basis.coefficient_shape)
    assert not np.any(theta.maps[""])
    assert molecule.weights(molecule.state_space.nodes(4)).shape[-1] == state_basis.n_terms


def test_slice_at_a_state_is_the_weighted_sum_of_features(molecule: Composite):
    theta, tau = random_theta(molecule), jnp.array([0.3])
    turns = Rotation.random(2, random_state=0).as_matrix().astype(np.float32)
    k = half_plane(BOX, KMAX).frequencies
    features = molecule.features(
        molecule.prepare(theta), turns, jnp.zeros((2, 1)), jnp.asarray(k, jnp.float32)
    )
    assert features.shape == (2, 3, len(k))
    slices = np.einsum("f,bfk->bk", molecule.weights(tau), features)
    points = (k @ turns[:, :2] / (BOX * 1.5)).astype(np.float32)
    direct = np.stack([np.asarray(molecule.fourier(theta, p, tau)) for p in points])
    assert np.linalg.norm(slices - direct) / np.linalg.norm(direct) < 0.03


def test_density_and_fourier_are_one_function(molecule: Composite):
    """The transform of density(tau), summed over its voxels, is fourier(tau)."""
    theta, tau = random_theta(molecule), jnp.array([0.8])
    density = np.asarray(molecule.density(theta, tau), np.float64)
    basis = molecule.parts[0].basis
    n = basis.n
    axis = (np.arange(n) - n // 2) * basis.voxel_size_angstrom
    p = np.array([[0.03, -0.05, 0.11], [0.0, 0.0, 0.0]])
    waves = [np.exp(-2j * np.pi * p[:, d, None] * axis) for d in range(3)]
    expected = basis.scale * np.einsum("zyx,px,py,pz->p", density, *waves)
    found = molecule.fourier(theta, jnp.asarray(p, jnp.float32), tau)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_levels_keep_what_they_share(molecule: Composite):
    """Blobs well inside the ball stay the same function when the grid and the terms grow."""
    basis = Voxels(BOX, 1.5, 7, 9.0)
    finer = expansion(basis, Cosine(5))
    theta = one_part(blobs(molecule))
    grown = finer.resize(theta, molecule)
    assert basis.n > molecule.parts[0].basis.n
    assert grown.maps[""].shape == (5, *basis.coefficient_shape)
    assert not np.any(grown.maps[""][3:])
    p = jnp.asarray(np.array([[1, -2, 3], [0, 0, 1], [4, 2, -1]]) / (BOX * 1.5), jnp.float32)
    for tau in (0.0, 0.7):
        expected = molecule.fourier(theta, p, jnp.array([tau]))
        found = finer.fourier(grown, p, jnp.array([tau]))
        np.testing.assert_allclose(found, expected, atol=2e-3 * float(jnp.abs(expected).max()))
    back = molecule.resize(grown, finer).maps[""]
    np.testing.assert_allclose(back, theta.maps[""], atol=5e-3)


def test_the_mean_is_exact():
    """Over a fine grid of states, of a basis whose mean is not its first term."""
    basis = Voxels(BOX, 1.5, KMAX, 9.0)
    molecule = expansion(basis, Chebyshev(4))
    theta = random_theta(molecule)
    states = molecule.state_space.nodes(2000)
    weights = np.asarray(molecule.weights(states), np.float64).mean(axis=0)
    expected = np.tensordot(weights, np.asarray(theta.maps[""]), axes=1)
    np.testing.assert_allclose(molecule.mean(theta), expected, atol=1e-4)


@pytest.mark.parametrize("state_basis", [Cosine(3), Fourier(3)], ids=["interval", "circle"])
def test_states_start_from_the_linear_subspace_by_the_spaces_own_rule(basis, state_basis):
    molecule = expansion(basis, state_basis)
    linear = molecule.subspace(2)
    assert linear is not None and linear.state_space == Gaussian(2)
    theta = random_theta(linear)
    scores = np.random.default_rng(1).normal(size=(50, 2)).astype(np.float32)
    coordinates = principal_coordinates(np.asarray(theta.maps[""][1:]), scores)
    found = molecule.first_states(jax.random.key(0), theta, scores, linear)
    expected = molecule.state_space.from_subspace(coordinates)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_frame_is_free_where_one_part_takes_every_form(basis):
    """Not where it has one form, lacks a density at rest, or is moved already."""
    assert expansion(basis, Cosine(2)).frame_is_free
    assert not expansion(basis, Constant()).frame_is_free
    assert not expansion(basis, Variation(Cosine(3))).frame_is_free
    moving = Part("", basis, Cosine(2), Translation(Chebyshev(2, Interval("path"))))
    assert not composite((moving,)).frame_is_free


def blobs(molecule: Composite) -> np.ndarray:
    """One Gaussian a term, 2.2 Angstrom wide, [F, n, n, n]."""
    basis = molecule.parts[0].basis
    n = basis.n
    axis = (np.arange(n) - n // 2) * basis.voxel_size_angstrom
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    maps = [
        np.exp(-((x - shift) ** 2 + (y + shift) ** 2 + z**2) / (2 * 2.2**2))
        for shift in np.linspace(-1.0, 1.0, len(molecule.term_labels))
    ]
    return np.stack(maps).astype(np.float32)
