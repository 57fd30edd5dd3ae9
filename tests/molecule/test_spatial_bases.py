"""What every spatial basis owes its users: adjoints, slices, a symmetric prior, levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.molecule.composite import expansion
from hypermol.molecule.region import Ball, Mask
from hypermol.molecule.spatial_basis.base import SpatialBasis
from hypermol.molecule.spatial_basis.gaussians import GaussianGrid
from hypermol.molecule.spatial_basis.prolates import Prolates
from hypermol.molecule.spatial_basis.voxels import Voxels, voxels_in
from hypermol.molecule.state_basis import Cosine
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import HyperPrior
from hypermol.space.fourier import half_plane
from one_part import one_part

BOX, PIXEL, KMAX, RADIUS, CENTRE = 16, 2.0, 6, 7.0, (5.0, -4.0, 3.0)


def soft_mask() -> Mask:
    axis = (np.arange(BOX) - BOX // 2) * PIXEL
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    distance = np.sqrt((x - 5.0) ** 2 + (y + 4.0) ** 2 + (z - 3.0) ** 2)
    return Mask(np.clip((8.0 - distance) / 5.0 + 0.5, 0.0, 1.0).astype(np.float32), PIXEL)


BASES = {
    "voxels": Voxels(BOX, PIXEL, KMAX, RADIUS, CENTRE),
    "masked voxels": voxels_in(soft_mask(), BOX, PIXEL, KMAX),
    "prolates": Prolates(BOX, PIXEL, KMAX, RADIUS, CENTRE),
    "gaussians": GaussianGrid(BOX, PIXEL, KMAX, 2.0, RADIUS, CENTRE),
    # at 7 the grid has 16 voxels, and its lattice of every second 20 centres in the ball
    "sparse gaussians": GaussianGrid(BOX, PIXEL, 7, 2.5, RADIUS, CENTRE, stride=2),
}


@pytest.fixture(params=BASES, scope="module")
def basis(request) -> SpatialBasis:
    return BASES[request.param]


def coefficients(basis: SpatialBasis, n: int = 2, seed: int = 0) -> np.ndarray:
    """White; for grids zero outside the support, where coefficients are never anything else."""
    values = np.random.default_rng(seed).normal(size=(n, *basis.coefficient_shape))
    inner = getattr(basis, "_voxels", basis)
    if basis.coefficient_shape == (basis.n,) * 3:
        values = values * inner.support
    return values.astype(np.float32)


def points(n: int = 60) -> np.ndarray:
    turns = Rotation.random(3, random_state=0).as_matrix()
    found = half_plane(BOX, KMAX).frequencies @ turns[:, :2] / (BOX * PIXEL)
    return found.reshape(-1, 3)[:: len(found) // 2][:n].astype(np.float32)


def noise(shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(5)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def relative(found, expected) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_slices_agree_with_fourier_and_have_their_adjoint(basis: SpatialBasis):
    """Trilinear slices: measured 2 % of white coefficients at most; off centre, too."""
    turns = Rotation.random(3, random_state=1).as_matrix().astype(np.float32)
    frequencies = half_plane(BOX, KMAX).frequencies
    k = jnp.asarray(frequencies, jnp.float32)
    x = coefficients(basis)
    image = lambda c: basis.slices(basis.prepare(c), turns, k)  # noqa: E731
    forward, transpose = jax.vjp(jax.jit(image), x)
    p = (frequencies @ turns[:, :2] / (BOX * PIXEL)).astype(np.float32)
    direct = np.asarray(jax.jit(basis.fourier)(x, p.reshape(-1, 3)))
    direct = direct.reshape(2, 3, -1).transpose(1, 0, 2)
    error = relative(np.asarray(forward), direct)
    assert error < 0.03, error
    y = noise(forward.shape)
    back = np.asarray(transpose(jnp.conj(y))[0])
    scale = float(np.linalg.norm(forward) * np.linalg.norm(y))
    assert np.vdot(np.asarray(forward), y).real == pytest.approx(np.vdot(x, back), abs=2e-6 * scale)


def test_prior_is_symmetric_and_its_root_has_its_covariance(basis: SpatialBasis):
    weights = jnp.asarray(np.linspace(1.0, 4.0, 2 * basis.n_shells).reshape(2, -1), jnp.float32)
    x, y = coefficients(basis), coefficients(basis, seed=1)
    apply = jax.jit(lambda v: basis.precision(v, weights))
    scale = float(np.linalg.norm(x) * np.linalg.norm(y))
    assert np.vdot(apply(x), y) == pytest.approx(np.vdot(x, apply(y)), abs=1e-4 * scale)
    draws = 400
    white = np.random.default_rng(2).normal(size=(draws, 2, *basis.coefficient_shape))
    root = jax.jit(jax.vmap(lambda w: (basis.precision_root(w, weights) * x).reshape(2, -1).sum(1)))
    variance = np.var(np.asarray(root(jnp.asarray(white, jnp.float32))), axis=0)
    expected = np.sum((np.asarray(apply(x)) * x).reshape(2, -1), axis=1)
    np.testing.assert_allclose(variance, expected, rtol=5 * np.sqrt(2 / draws))


def test_molecules_of_every_basis_have_a_prior(basis: SpatialBasis):
    molecule = expansion(basis, Cosine(2))
    theta = one_part(coefficients(basis))
    expected = -0.5 * np.sum(
        theta.maps[""] * basis.precision(theta.maps[""], jnp.ones((2, basis.n_shells)))
    )
    assert float(molecule.log_prior(theta)) == pytest.approx(float(expected), rel=1e-4)
    posterior = Posterior(molecule, half_plane(BOX, KMAX), HyperPrior())
    energy = posterior.prior_energy(theta, jnp.ones((2, basis.n_shells)))
    assert -0.5 * float(energy.sum()) == pytest.approx(float(expected), rel=1e-4)


def test_preconditioners_are_symmetric_and_positive(basis: SpatialBasis):
    rng = np.random.default_rng(3)
    roots = rng.normal(size=(basis.n_shells, 2, 2))
    matrices = jnp.asarray(roots @ roots.transpose(0, 2, 1) + np.eye(2), jnp.float32)
    x, y = coefficients(basis), coefficients(basis, seed=1)
    apply = jax.jit(lambda v: basis.multiply_shells(v, matrices))
    scale = float(np.linalg.norm(apply(x)) * np.linalg.norm(y))
    assert np.vdot(apply(x), y) == pytest.approx(np.vdot(x, apply(y)), abs=1e-5 * scale)
    assert np.vdot(apply(x), x) > 0


def test_gains_are_those_of_slices(basis: SpatialBasis):
    """White coefficients scaled to `shell_power` 1 have slices of mean power `power_gain`, at
    frequencies that the basis holds.
    """
    x = coefficients(basis, 100)
    k = np.random.default_rng(0).normal(size=(50, 3))
    k *= 0.35 * KMAX / (BOX * PIXEL) / np.linalg.norm(k, axis=1, keepdims=True)
    power = np.mean(np.abs(jax.jit(basis.fourier)(x, k.astype(np.float32))) ** 2)
    shells = np.asarray(basis.shell_power(x)).mean(axis=0)
    expected = basis.power_gain * np.interp(0.35 * KMAX, np.arange(basis.n_shells), shells)
    assert power == pytest.approx(expected, rel=0.3)


def blob(n: int) -> np.ndarray:
    """A Gaussian 3 Angstrom wide in the middle of the region, [1, n, n, n]."""
    axis = (np.arange(n) - n // 2) * (BOX * PIXEL / n)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    squares = (x - 4.0) ** 2 + (y + 3.0) ** 2 + (z - 3.0) ** 2
    return np.exp(-squares / (2 * 2.6**2)).astype(np.float32)[None]


def test_expanding_a_density(basis: SpatialBasis):
    """A compact blob in the region survives expansion and evaluation; measured 14 % where
    Gaussians stand two voxels apart, a few per cent elsewhere."""
    density = blob(basis.n)
    back = jax.jit(lambda d: basis.density(basis.expand(d)))(density)
    assert relative(np.asarray(back), density) < 0.17


def test_levels_may_change_the_basis():
    """From voxels to prolates of another level and more terms: the transform stays."""
    ball = Ball(CENTRE, RADIUS)
    voxels, prolates = voxels_in(ball, BOX, PIXEL, 5), Prolates(BOX, PIXEL, 7, RADIUS, CENTRE)
    source, target = expansion(voxels, Cosine(1)), expansion(prolates, Cosine(2))
    theta = one_part(voxels.expand(jnp.asarray(blob(voxels.n))))
    grown = target.resize(theta, source).maps[""]
    assert grown.shape == (2, prolates.n_coefficients)
    assert not np.any(grown[1])
    p = points(20) * 0.5
    expected = jax.jit(voxels.fourier)(theta.maps[""], p)[0]
    assert relative(jax.jit(prolates.fourier)(grown, p)[0], expected) < 0.06
