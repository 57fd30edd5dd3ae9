"""V(r, tau) = sum_q V_q(r) P_q(tau): one class for every expansion, its slices and its levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.molecule.expansion import Expansion
from hypermol.molecule.protocol import Coefficients, LinearMolecule
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import Constant, Cosine, Fourier, Linear
from hypermol.space.fourier import half_plane
from hypermol.space.normal import Gaussian

BOX, KMAX = 16, 5


@pytest.fixture(scope="module")
def basis() -> Voxels:
    return Voxels(BOX, 1.5, KMAX, 9.0)


@pytest.fixture(scope="module")
def molecule(basis) -> Expansion:
    return Expansion(basis, Cosine(3))


def random_theta(molecule: Expansion, seed: int = 0) -> Coefficients:
    shape = (molecule.n_terms, *molecule.basis.coefficient_shape)
    maps = np.random.default_rng(seed).normal(size=shape) * molecule.basis.support
    return Coefficients(jnp.asarray(maps, jnp.float32))


@pytest.mark.parametrize(
    "state_basis", [Constant(), Cosine(3), Fourier(5), Linear(Gaussian(2))], ids=str
)
def test_is_a_linear_molecule_that_starts_at_zero(basis, state_basis):
    molecule = Expansion(basis, state_basis)
    assert isinstance(molecule, LinearMolecule)
    theta = molecule.init(jax.random.key(0))
    assert theta.maps.shape == (state_basis.n_terms, *basis.coefficient_shape)
    assert not np.any(theta.maps)
    assert molecule.weights(molecule.state_space.nodes(4)).shape[-1] == molecule.n_terms


def test_slice_at_a_state_is_the_weighted_sum_of_features(molecule: Expansion):
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


def test_density_and_fourier_are_one_function(molecule: Expansion):
    """The transform of density(tau), summed over its voxels, is fourier(tau)."""
    theta, tau = random_theta(molecule), jnp.array([0.8])
    density = np.asarray(molecule.density(theta, tau), np.float64)
    n, basis = molecule.basis.n, molecule.basis
    axis = (np.arange(n) - n // 2) * basis.voxel_size_angstrom
    p = np.array([[0.03, -0.05, 0.11], [0.0, 0.0, 0.0]])
    waves = [np.exp(-2j * np.pi * p[:, d, None] * axis) for d in range(3)]
    expected = basis.scale * np.einsum("zyx,px,py,pz->p", density, *waves)
    found = molecule.fourier(theta, jnp.asarray(p, jnp.float32), tau)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_levels_keep_what_they_share(molecule: Expansion):
    """Blobs well inside the ball stay the same function when the grid and the terms grow."""
    finer = Expansion(Voxels(BOX, 1.5, 7, 9.0), Cosine(5))
    theta = Coefficients(jnp.asarray(blobs(molecule)))
    grown = finer.resize(theta, molecule)
    assert finer.basis.n > molecule.basis.n
    assert grown.maps.shape == (5, *finer.basis.coefficient_shape)
    assert not np.any(grown.maps[3:])
    p = jnp.asarray(np.array([[1, -2, 3], [0, 0, 1], [4, 2, -1]]) / (BOX * 1.5), jnp.float32)
    for tau in (0.0, 0.7):
        expected = molecule.fourier(theta, p, jnp.array([tau]))
        found = finer.fourier(grown, p, jnp.array([tau]))
        np.testing.assert_allclose(found, expected, atol=2e-3 * float(jnp.abs(expected).max()))
    back = molecule.resize(grown, finer).maps
    np.testing.assert_allclose(back, theta.maps, atol=5e-3)


def blobs(molecule: Expansion) -> np.ndarray:
    """One Gaussian a term, 2.2 Angstrom wide, [F, n, n, n]."""
    n = molecule.basis.n
    axis = (np.arange(n) - n // 2) * molecule.basis.voxel_size_angstrom
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    maps = [
        np.exp(-((x - shift) ** 2 + (y + shift) ** 2 + z**2) / (2 * 2.2**2))
        for shift in np.linspace(-1.0, 1.0, molecule.n_terms)
    ]
    return np.stack(maps).astype(np.float32)
