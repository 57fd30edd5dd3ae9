"""The voxel basis: slices against direct sums, analytic Gaussians, adjoints, the prior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.space.fourier import half_plane, image_to_half_plane
from hypermol.space.rotation import rotation_from_vector

BOX, PIXEL, KMAX, RADIUS = 24, 2.0, 8, 18.0


@pytest.fixture(scope="module")
def basis() -> Voxels:
    return Voxels(BOX, PIXEL, KMAX, RADIUS)


@pytest.fixture(scope="module")
def prepare(basis: Voxels):
    return jax.jit(basis.prepare)


@pytest.fixture(scope="module")
def slicing(basis: Voxels):
    """(coefficients [F], rotations [6, 3, 3]) -> slices at the half plane."""
    k = jnp.asarray(half_plane(BOX, KMAX).frequencies, jnp.float32)
    return jax.jit(lambda maps, turns: basis.slices(basis.prepare(maps), turns, k))


@pytest.fixture(scope="module")
def turns() -> np.ndarray:
    return Rotation.random(6, random_state=0).as_matrix().astype(np.float32)


def noise(basis: Voxels, n: int = 2, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(n, *basis.coefficient_shape))
    return (values * basis.support).astype(np.float32)


def points(turns: np.ndarray) -> np.ndarray:
    """Slice points k2 @ R[:2] in 1/Angstrom, [n, K, 3]."""
    return half_plane(BOX, KMAX).frequencies @ turns[:, :2] / (BOX * PIXEL)


#: Two Gaussians: centres and widths in Angstrom, amplitudes at their centres.
CENTRES = np.array([[4.0, -2.0, 1.0], [-3.0, 5.0, -6.0]])
WIDTHS, AMPLITUDES = np.array([2.5, 3.0]), np.array([1.0, -0.6])


def gaussians(axis: np.ndarray) -> np.ndarray:
    """The two Gaussians on a cubic grid, [z, y, x]."""
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    total = np.zeros(x.shape)
    for centre, width, amplitude in zip(CENTRES, WIDTHS, AMPLITUDES, strict=True):
        squares = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
        total += amplitude * np.exp(-squares / (2 * width**2))
    return total.astype(np.float32)


def gaussian_transform(k: np.ndarray) -> np.ndarray:
    """Their images' orthonormal coefficients at k [..., 3]: the sum over pixels of the density
    at the pixel size is the integral over pixel size cubed, and the orthonormal scale 1 / box.
    """
    total = np.zeros(k.shape[:-1], complex)
    for centre, width, amplitude in zip(CENTRES, WIDTHS, AMPLITUDES, strict=True):
        volume = amplitude * (2 * np.pi) ** 1.5 * width**3
        envelope = np.exp(-2 * np.pi**2 * width**2 * np.sum(k**2, axis=-1))
        total += volume * envelope * np.exp(-2j * np.pi * k @ centre)
    return total / PIXEL**3 / BOX


def relative(found, expected) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_grid_holds_the_frequencies_and_the_ball(basis: Voxels):
    assert basis.n >= 2 * KMAX + 2
    assert basis.padded > basis.n
    assert basis.n_coefficients == pytest.approx(
        4 / 3 * np.pi * (RADIUS / basis.voxel_size_angstrom) ** 3, rel=0.05
    )
    assert Voxels(31, 1.0, 15, 12.0).n == 32


def test_slices_of_white_voxels_against_direct_sums(basis: Voxels, slicing, turns):
    """White noise that fills the ball is the worst case: measured 2.3 % of the signal."""
    maps = noise(basis)
    found = np.asarray(slicing(maps, turns))
    fourier = jax.jit(basis.fourier)
    direct = np.stack([np.asarray(fourier(maps, p.astype(np.float32))) for p in points(turns)])
    error = relative(found, direct)
    assert error < 0.03, error


def test_slices_of_gaussians_against_the_analytic_transform(basis: Voxels, slicing, turns):
    """Voxels of Gaussians, then slices: units, origin and rotation at once; measured 0.65 %."""
    axis = (np.arange(basis.n) - basis.n // 2) * basis.voxel_size_angstrom
    found = np.asarray(slicing(gaussians(axis)[None], turns))[:, 0]
    expected = gaussian_transform(points(turns))
    error = relative(found, expected)
    assert error < 0.01, error
    slope = np.vdot(found, expected).real / np.vdot(found, found).real
    assert slope == pytest.approx(1.0, abs=2e-3)


def test_slice_along_z_is_the_sum_over_z():
    """The image at the identity rotation is the sum over z of the density at the pixel size."""
    fine = Voxels(BOX, PIXEL, 11, 23.0)
    axis = (np.arange(BOX) - BOX // 2) * PIXEL
    density = gaussians(axis)
    plane = half_plane(BOX, 11)
    k = jnp.asarray(plane.frequencies, jnp.float32)
    assert fine.n == BOX
    values = fine.slices(fine.prepare(density[None]), jnp.eye(3)[None], k)[0, 0]
    expected = image_to_half_plane(density.sum(axis=0), plane)
    # the padding is threefold, so every point is a grid point: the interpolation loses nothing
    # there and the compensation for its mean loss is itself the error; measured 1.1 %
    assert relative(values, expected) < 0.015


def test_hermitian_symmetry(basis: Voxels, prepare, turns):
    """Real densities: V-hat(-k) is the conjugate of V-hat(k)."""
    k = np.concatenate([s * half_plane(BOX, KMAX).frequencies for s in (1, -1)])
    maps = noise(basis)
    values = np.asarray(basis.slices(prepare(maps), turns, jnp.asarray(k, jnp.float32)))
    half = values.shape[-1] // 2
    scale = np.abs(values).max()
    np.testing.assert_allclose(values[..., :half], values[..., half:].conj(), atol=1e-5 * scale)
    p = points(turns[:1])[0].astype(np.float32)
    direct = [np.asarray(basis.fourier(maps, s * p)) for s in (1, -1)]
    np.testing.assert_allclose(direct[0], direct[1].conj(), atol=1e-5 * np.abs(direct[0]).max())


def test_adjoint_of_prepare_and_slice(basis: Voxels, slicing, turns):
    """<A x, y> = <x, A' y> for the whole map from coefficients to images."""
    x = noise(basis)
    forward = np.asarray(slicing(x, turns))
    rng = np.random.default_rng(1)
    y = (rng.normal(size=forward.shape) + 1j * rng.normal(size=forward.shape)).astype(np.complex64)
    _, transpose = jax.vjp(lambda m: slicing(m, turns), x)
    back = np.asarray(transpose(jnp.conj(y))[0], np.float64)
    left = np.vdot(forward.astype(complex), y.astype(complex)).real
    assert left == pytest.approx(np.vdot(x, back), abs=2e-6 * norms(forward, y))


def test_gradient_in_rotation_by_finite_differences(basis: Voxels, slicing, turns):
    """A smooth density: the chi^2 against another image, turned about each axis."""
    axis = (np.arange(basis.n) - basis.n // 2) * basis.voxel_size_angstrom
    maps = jnp.asarray(gaussians(axis))[None]
    target = gaussian_transform(points(turns[1:2]))[0].astype(np.complex64)
    scale = float(np.sum(np.abs(target) ** 2))

    def misfit(vector):
        turned = rotation_from_vector(vector) @ turns[0]
        return jnp.sum(jnp.abs(slicing(maps, turned[None])[0, 0] - target) ** 2) / scale

    gradient = np.asarray(jax.jit(jax.grad(misfit))(jnp.zeros(3)))
    analytic = []
    for axis_vector in np.eye(3):
        ends = [
            rotation_from_vector(jnp.asarray(s * 1e-4 * axis_vector)) @ turns[0] for s in (1, -1)
        ]
        values = [gaussian_transform(points(np.asarray(e, np.float64)[None]))[0] for e in ends]
        chi2 = [np.sum(np.abs(v - target) ** 2) / scale for v in values]
        analytic.append((chi2[0] - chi2[1]) / 2e-4)
    # against the analytic transform; the slopes of piecewise linear slices differ: measured 5 %
    assert relative(gradient, np.array(analytic)) < 0.1


def norms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a) * np.linalg.norm(b))


def test_prior_precision_is_symmetric_and_its_root_has_its_covariance(basis: Voxels):
    weights = jnp.asarray(np.linspace(1.0, 4.0, 2 * basis.n_shells).reshape(2, -1), jnp.float32)
    x, y = noise(basis), noise(basis, seed=1)
    apply = jax.jit(lambda v: basis.precision(v, weights))
    left, right = np.vdot(apply(x), y), np.vdot(x, apply(y))
    assert left == pytest.approx(right, abs=1e-4 * norms(x, y))
    assert np.vdot(apply(x), x) > 0
    # Var <x, root w> = <x, K x> for each function
    white = np.random.default_rng(2).normal(size=(400, 2, *basis.coefficient_shape))
    root = jax.jit(jax.vmap(lambda w: jnp.sum(basis.precision_root(w, weights) * x, (1, 2, 3))))
    variance = np.var(np.asarray(root(jnp.asarray(white, jnp.float32))), axis=0)
    expected = np.sum(np.asarray(apply(x)) * x, axis=(1, 2, 3))
    np.testing.assert_allclose(variance, expected, rtol=5 * np.sqrt(2 / 400))


def test_white_fields_have_their_variance_as_shell_power(basis: Voxels):
    fields = 3.0 * noise(basis, n=30)
    power = np.asarray(basis.shell_power(fields))
    assert power.shape == (30, basis.n_shells)
    np.testing.assert_allclose(power[:, 2:].mean(axis=0), 9.0, rtol=0.15)


def test_mixing_shells_by_diagonal_matrices_is_the_precision(basis: Voxels):
    weights = np.linspace(1.0, 4.0, 2 * basis.n_shells).reshape(2, -1).astype(np.float32)
    matrices = jnp.asarray(np.stack([np.diag(w) for w in weights.T]))
    x = noise(basis)
    expected = basis.precision(x, jnp.asarray(weights))
    np.testing.assert_allclose(basis.multiply_shells(x, matrices), expected, atol=1e-4)
