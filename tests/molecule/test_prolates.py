"""Prolates as a basis: slices against eigenvalues, densities, white fields, the prior's shells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.molecule.spatial_basis import ball_canvas
from hypermol.molecule.spatial_basis.ball_canvas import BallCanvas
from hypermol.molecule.spatial_basis.prolate_functions import prolate_functions
from hypermol.molecule.spatial_basis.prolates import Prolates
from hypermol.molecule.spatial_basis.spherical_harmonics import real_harmonics
from hypermol.space.fourier import half_plane

BOX, PIXEL, KMAX, RADIUS, CENTRE = 24, 2.0, 8, 9.0, (8.0, -6.0, 4.0)


@pytest.fixture(scope="module")
def basis() -> Prolates:
    return Prolates(BOX, PIXEL, KMAX, RADIUS, CENTRE)


@pytest.fixture(scope="module")
def fourier(basis: Prolates):
    return jax.jit(basis.fourier)


def white(basis: Prolates, n: int = 2, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(n, basis.n_coefficients))
    return values.astype(np.float32)


def relative(found, expected) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def slice_points(turns: np.ndarray) -> np.ndarray:
    """Slice points k2 @ R[:2] in 1/Angstrom, [n, K, 3]."""
    points = half_plane(BOX, KMAX).frequencies @ turns[:, :2] / (BOX * PIXEL)
    return points.astype(np.float32)


def test_fast_slices_against_eigenvalues(basis: Prolates, fourier):
    """White coefficients in a ball off centre: measured 1.2 %; the trilinear interpolation's."""
    turns = Rotation.random(4, random_state=0).as_matrix().astype(np.float32)
    x = white(basis)
    k = jnp.asarray(half_plane(BOX, KMAX).frequencies, jnp.float32)
    found = np.asarray(jax.jit(lambda c: basis.slices(basis.prepare(c), turns, k))(x))
    points = slice_points(turns)
    direct = np.asarray(fourier(x, points.reshape(-1, 3))).reshape(2, *points.shape[:2])
    error = relative(found, direct.transpose(1, 0, 2))
    assert error < 0.02, error


def test_fourier_is_the_transform_of_the_functions(basis: Prolates, fourier):
    """Quadrature over the ball with the functions evaluated apart from the class: measured 4e-7."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    r, wr = 0.5 * (nodes + 1.0), 0.5 * weights * (0.5 * (nodes + 1.0)) ** 2
    phi = 2 * np.pi * np.arange(40) / 40
    grid = np.meshgrid(r, nodes, phi, indexing="ij")
    sine = np.sqrt(1 - grid[1] ** 2)
    directions = np.stack([sine * np.cos(grid[2]), sine * np.sin(grid[2]), grid[1]], axis=-1)
    weight = (wr[:, None, None] * weights[:, None] * (2 * np.pi / 40) * np.ones(40)).reshape(-1)
    functions = prolate_functions(2 * np.pi * RADIUS * KMAX / (BOX * PIXEL))
    columns = [
        functions.radial(d, grid[0].reshape(-1)).T[:, :, None] * angular[:, None]
        for d, angular in enumerate(
            real_harmonics(directions.reshape(-1, 3), len(functions.counts))
        )
    ]
    psi = np.concatenate([c.reshape(len(weight), -1) for c in columns], axis=1)
    np.testing.assert_allclose((psi.T * weight) @ psi, np.eye(psi.shape[1]), atol=1e-10)
    x = white(basis)
    k = slice_points(Rotation.random(1, random_state=1).as_matrix())[0].astype(np.float64)
    places = np.asarray(CENTRE) + RADIUS * (grid[0][..., None] * directions).reshape(-1, 3)
    density = (psi @ x.T) * (basis.voxel_size_angstrom / RADIUS) ** 1.5
    waves = np.exp(-2j * np.pi * k @ places.T) * (weight * RADIUS**3)
    expected = (waves @ density).T / PIXEL**3 / BOX
    found = np.asarray(fourier(x, k.astype(np.float32)))
    assert relative(found, expected) < 3e-6
    assert np.all(np.isnan(fourier(x, np.float32([[0.3, 0.0, 0.0]]))))


def test_a_canvas_of_plain_samples_would_be_wrong(basis: Prolates):
    """Band-matched voxels transform to the eigenvalues' values, measured 0.24 %; with teeth: plain
    samples of the same functions on the same grid are off by 7 %.
    """
    canvas, functions = basis.canvas, basis.functions
    places = canvas._octant[1]
    sign = np.stack(np.meshgrid(*[[1, -1]] * 3), axis=-1).reshape(-1, 1, 3)
    points = np.unique((sign * places).reshape(-1, 3).round(9), axis=0)
    k = np.random.default_rng(0).normal(size=(300, 3))
    k *= np.random.default_rng(1).uniform(size=(300, 1)) ** (1 / 3) / np.linalg.norm(
        k, axis=1, keepdims=True
    )
    expected = evaluate(functions.transformed, len(functions.counts), k, transformed=True)
    waves = np.exp(-1j * functions.bandlimit * (k @ points.T)) * canvas.voxel**3 / (4 * np.pi)

    def plain(degree, radius):
        return functions.radial(degree, np.minimum(radius, 1.0)) * (radius <= 1.0)

    errors = [
        relative(waves @ evaluate(radial, len(functions.counts), points), expected)
        for radial in (canvas._profiles.radial, plain)
    ]
    assert errors[0] < 4e-3 < 4e-2 < errors[1], errors


def evaluate(radial, n_degrees: int, points: np.ndarray, transformed: bool = False) -> np.ndarray:
    """All functions at points [n, 3], [n, P]."""
    r = np.linalg.norm(points, axis=1)
    unit = np.where(r[:, None] > 0, points / np.maximum(r, 1e-12)[:, None], [0.0, 0.0, 1.0])
    columns = []
    for degree, angular in enumerate(real_harmonics(unit, n_degrees)):
        phase = (-1j) ** degree if transformed else 1.0
        block = phase * radial(degree, r).T[:, :, None] * angular[:, None]
        columns.append(block.reshape(len(points), -1))
    return np.concatenate(columns, axis=1)


def test_matrix_and_tables_agree(basis: Prolates, monkeypatch):
    """Functions evaluated anew give the canvas that the stored matrix gives: measured 5e-6."""
    x = white(basis)
    dense = np.asarray(basis.canvas.synthesise(x))
    assert basis.canvas.octant_entries < ball_canvas.DENSE_ENTRIES
    monkeypatch.setattr(ball_canvas, "DENSE_ENTRIES", 0)
    again = BallCanvas(basis.functions, basis.canvas.voxel)
    assert relative(np.asarray(jax.jit(again.synthesise)(x)), dense) < 3e-5


def test_white_coefficients_are_white_voxels(basis: Prolates, fourier):
    """Mean |slice|^2 is `power_gain` inside the band, less the functions that are left out near
    the band's edge and the ball's surface; spectra carry between bases.
    """
    x = white(basis, 200)
    k = np.random.default_rng(0).normal(size=(100, 3))
    k *= 0.4 * KMAX / (BOX * PIXEL) / np.linalg.norm(k, axis=1, keepdims=True)
    power = np.mean(np.abs(fourier(x, k.astype(np.float32))) ** 2) / basis.power_gain
    assert 0.75 < power < 1.05, power
    shells = np.asarray(basis.shell_power(3.0 * x)).mean(axis=0)
    np.testing.assert_allclose(shells, 9.0, rtol=0.25)


def test_mean_frequencies_order_the_prior(basis: Prolates):
    """The precision grows with the weights; each function stands between shell 0 and kmax."""
    frequencies = basis.mean_frequencies
    assert 0.0 < frequencies.min() < frequencies.max() < KMAX
    weights = jnp.arange(basis.n_shells, dtype=jnp.float32)[None]
    diagonal = np.asarray(basis.precision(jnp.ones((1, basis.n_coefficients)), weights))[0]
    np.testing.assert_allclose(np.unique(diagonal), np.unique(np.float32(frequencies)), rtol=1e-5)


def test_density_and_back(basis: Prolates):
    """Least squares undo the evaluation; sampling hardly bends orthonormality: measured 1e-4."""
    x = white(basis)
    density = jax.jit(basis.density)(x)
    assert density.shape == (2, basis.n, basis.n, basis.n)
    assert relative(np.asarray(jax.jit(basis.expand)(density)), x) < 1e-3
