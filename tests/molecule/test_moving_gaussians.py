import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.molecule.moving_gaussians import (
    BasisPath,
    MovingGaussians,
    Powers,
    cos_sin_of_turns,
    density_of_gaussians,
    random_gaussians,
    transform_of_gaussians,
)
from hypermol.molecule.state_basis import Chebyshev, Fourier
from hypermol.space.state_space import Circle, Interval


@pytest.fixture
def blobs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.uniform(1, 3, 5), rng.uniform(4, 7, 5), rng.uniform(-25, 25, (5, 3))


def grid_points(n: int, pixel: float) -> np.ndarray:
    axis = (np.arange(n) - n // 2) * pixel
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return np.stack([x, y, z], axis=-1)


@pytest.mark.parametrize("n", [40, 41])
def test_slice_equals_numerical_projection_of_the_density(blobs, n):
    pixel = 3.0
    rotation = Rotation.from_euler("ZYZ", [40, 70, -25], degrees=True).as_matrix()
    # the density at R^-1 r', summed over z' (eq. 5)
    volume = np.asarray(density_of_gaussians(*blobs, jnp.asarray(grid_points(n, pixel) @ rotation)))
    image = volume.sum(axis=0)
    axis = np.arange(n) - n // 2
    wave = np.exp(-2j * np.pi * np.outer(axis, axis) / n)
    numerical = wave @ image @ wave.T
    kx, ky = np.meshgrid(axis, axis)
    k3 = np.stack([kx, ky, 0 * kx], axis=-1).reshape(-1, 3) @ rotation / (n * pixel)
    exact = np.asarray(transform_of_gaussians(*blobs, jnp.asarray(k3))) / pixel**3
    assert np.abs(exact.reshape(n, n) - numerical).max() < 2e-5 * np.abs(exact).max()


def test_density_adds_up_to_the_amplitudes(blobs):
    total = density_of_gaussians(*blobs, jnp.asarray(grid_points(40, 3.0))).sum() * 27.0
    assert total == pytest.approx(blobs[0].sum(), rel=1e-4)


def test_transform_is_hermitian_and_equals_the_amplitudes_at_zero(blobs):
    k = np.random.default_rng(0).normal(size=(20, 3)) * 0.03
    plus = transform_of_gaussians(*blobs, jnp.asarray(k))
    minus = transform_of_gaussians(*blobs, jnp.asarray(-k))
    assert np.allclose(plus, np.conj(minus), atol=1e-4)
    zero = transform_of_gaussians(*blobs, jnp.zeros((1, 3)))
    assert np.allclose(zero, blobs[0].sum(), rtol=1e-6)


def test_fast_cosine_and_sine():
    x = jnp.linspace(-20.0, 20.0, 20001, dtype=jnp.float32)
    cosine, sine = cos_sin_of_turns(x)
    exact = 2.0 * np.pi * np.asarray(x, np.float64)
    assert np.abs(cosine - np.cos(exact)).max() < 1e-6
    assert np.abs(sine - np.sin(exact)).max() < 1e-6
    slope = jax.grad(lambda t: cos_sin_of_turns(t)[1])(0.3)
    assert slope == pytest.approx(2 * np.pi * np.cos(0.6 * np.pi), abs=1e-4)


def test_polynomial_paths():
    path = jnp.asarray(np.arange(12.0).reshape(3, 2, 2))
    path = jnp.concatenate([path, path[..., :1]], axis=-1)
    centres = BasisPath(Powers(2))(path, jnp.array([0.5]))
    assert np.allclose(centres, path[0] + 0.5 * path[1] + 0.25 * path[2])


@pytest.mark.parametrize(
    ("space", "basis"),
    [(Interval(), Powers(2)), (Interval(), Chebyshev(4)), (Circle(), Fourier(5))],
)
def test_random_gaussians_follow_the_protocol(space, basis):
    molecule = random_gaussians(space, basis, n_blobs=6, radius_angstrom=40, width_angstrom=6)
    theta = molecule.init(jax.random.key(0))
    k = jnp.asarray(np.random.default_rng(0).normal(size=(9, 3)) * 0.02, jnp.float32)
    tau = jnp.array([0.3])

    def energy(theta, tau):
        return jnp.sum(jnp.abs(molecule.fourier(theta, k, tau)) ** 2)

    values = jax.jit(molecule.fourier)(theta, k, tau)
    assert values.shape == (9,) and jnp.iscomplexobj(values)
    gradients = jax.jit(jax.grad(energy, argnums=(0, 1)))(theta, tau)
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(gradients))
    assert molecule.log_prior(theta) < molecule.log_prior(molecule.mean) == 0.0
    assert molecule.density(theta, tau, jnp.zeros((2, 3, 3))).shape == (2, 3)


def test_init_without_spread_is_the_mean():
    molecule = random_gaussians(Interval(), Powers(1), 3, 40.0, 6.0)
    fixed = MovingGaussians(
        molecule.state_space, molecule.path_function, molecule.mean, molecule.sd, init_spread=0.0
    )
    theta = fixed.init(jax.random.key(5))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, theta, molecule.mean)))


def test_circle_paths_close():
    molecule = random_gaussians(Circle(), Fourier(5), 3, 40.0, 6.0)
    theta = molecule.init(jax.random.key(2))
    start, end = (molecule.centres(theta, jnp.array([t])) for t in (0.0, 1.0))
    assert np.allclose(start, end, atol=1e-3)
