"""Trilinear slices and their hand-written adjoint, against a plain NumPy gather."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from hypermol.molecule.spatial_basis.slicing import grid_radius, slices
from hypermol.space.fourier import half_plane

KMAX, FEATURES = 5, 2
RADIUS = grid_radius(KMAX, 1.0)
SHAPE = (2 * RADIUS + 1, 2 * RADIUS + 1, RADIUS + 1, 2 * FEATURES)
K = half_plane(12, KMAX).frequencies.astype(np.float32)


@pytest.fixture(scope="module")
def turns() -> np.ndarray:
    return Rotation.random(5, random_state=0).as_matrix().astype(np.float32)


@pytest.fixture(scope="module")
def grid() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def smooth() -> np.ndarray:
    """A grid of linear functions, which trilinear interpolation reproduces: its slopes have no
    jumps at cell borders, so finite differences may cross them."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in SHAPE[:3]), indexing="ij")
    offset = np.array([0.3, -0.2, 0.0, 0.0])
    slopes = np.random.default_rng(1).normal(size=(3, 4))
    values = offset + np.stack([x, y - RADIUS, z - RADIUS], -1) @ slopes
    return values.astype(np.float32)


def reference(grid: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Complex [F, K]: fold to x >= 0, interpolate every channel, conjugate what was folded."""
    points = K.astype(np.float64) @ rotation[:2]
    folded = points[:, 0] < 0
    points = np.where(folded[:, None], -points, points)
    places = np.stack([points[:, 2] + RADIUS, points[:, 1] + RADIUS, points[:, 0]])
    channels = [map_coordinates(c, places, order=1) for c in np.moveaxis(grid, -1, 0)]
    real, imag = np.stack(channels[:FEATURES]), np.stack(channels[FEATURES:])
    return real + 1j * np.where(folded, -imag, imag)


@pytest.fixture(scope="module")
def sliced():
    return jax.jit(lambda grid, turns: slices(grid, turns, jnp.asarray(K)))


def test_against_scipys_interpolation(sliced, grid, turns):
    found = np.asarray(sliced(grid, turns))
    expected = np.stack([reference(grid.astype(np.float64), r) for r in turns])
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_chunks_do_not_change_the_answer(sliced, grid):
    many = Rotation.random(70, random_state=3).as_matrix().astype(np.float32)
    together = np.asarray(sliced(grid, many))
    assert together.shape == (70, FEATURES, len(K))
    np.testing.assert_allclose(together[33:38], sliced(grid, many[33:38]), atol=1e-6)


def test_dot_product_of_the_adjoint(sliced, grid, turns):
    forward, transpose = jax.vjp(lambda g: sliced(g, turns), grid)
    rng = np.random.default_rng(2)
    y = (rng.normal(size=forward.shape) + 1j * rng.normal(size=forward.shape)).astype(np.complex64)
    left = np.vdot(np.asarray(forward), y).real
    right = np.vdot(grid, np.asarray(transpose(jnp.conj(y))[0]))
    scale = float(np.linalg.norm(forward) * np.linalg.norm(y))
    assert left == pytest.approx(right, abs=2e-6 * scale)


def test_gradient_in_rotation_by_finite_differences(smooth):
    """Slopes of a real function of slices along each axis of rotation, at points clear of the
    folding plane x = 0, where a general grid would jump."""
    base = Rotation.from_rotvec([0.1, 0.2, -0.15])
    rng = np.random.default_rng(3)
    y = (rng.normal(size=(1, FEATURES, len(K))) + 1j).astype(np.complex64)
    points = K @ base.as_matrix()[:2]
    y[..., np.abs(points[:, 0]) < 0.3] = 0.0

    def along(matrix: np.ndarray) -> float:
        values = np.stack([reference(smooth.astype(np.float64), matrix)])
        return float(np.vdot(y, values).real)

    def value(matrices):
        sliced = slices(jnp.asarray(smooth), matrices, jnp.asarray(K))
        return jnp.sum((jnp.conj(y) * sliced).real)

    gradient = np.asarray(jax.jit(jax.grad(value))(base.as_matrix()[None].astype(np.float32)))[0]
    step = 1e-4
    for axis in np.eye(3):
        ends = [(Rotation.from_rotvec(s * step * axis) * base).as_matrix() for s in (1, -1)]
        measured = (along(ends[0]) - along(ends[1])) / (2 * step)
        slope = np.sum(gradient * (ends[0] - ends[1])) / (2 * step)
        assert slope == pytest.approx(measured, rel=2e-3, abs=2e-3 * float(np.abs(gradient).max()))
