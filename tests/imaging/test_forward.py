"""The imaging model of eq. 6, 8 and 22, term by term and against analytic Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.data.latents import Latents
from hypermol.imaging.ctf import ctf_values
from hypermol.imaging.forward import predict
from hypermol.io.metadata import CtfParameters
from hypermol.molecule.composite import Composite, expansion
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import Cosine
from hypermol.space.fourier import half_plane, image_to_half_plane
from hypermol.space.rotation import quaternion_from_matrix
from one_part import one_part

BOX, PIXEL, KMAX, N = 32, 1.5, 12, 4
PLANE = half_plane(BOX, KMAX)
CENTRES = np.array([[4.0, -2.0, 1.0], [-3.0, 5.0, -6.0]])
WIDTH = 2.4


@pytest.fixture(scope="module")
def molecule() -> Composite:
    """Two terms: a Gaussian that stays, and one that comes and goes as sqrt(2) cos(pi tau)."""
    return expansion(Voxels(BOX, PIXEL, KMAX, 18.0), Cosine(2))


@pytest.fixture(scope="module")
def prepared(molecule: Composite):
    basis = molecule.parts[0].basis
    axis = (np.arange(basis.n) - basis.n // 2) * basis.voxel_size_angstrom
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")[::-1], axis=-1)
    squares = [np.sum((grid - c) ** 2, axis=-1) for c in CENTRES]
    maps = np.exp(-np.stack(squares) / (2 * WIDTH**2))
    return molecule.prepare(one_part(maps))


@pytest.fixture(scope="module")
def latents() -> Latents:
    rng = np.random.default_rng(0)
    rotations = Rotation.random(N, random_state=0).as_matrix()
    return Latents(
        jnp.asarray(quaternion_from_matrix(rotations), jnp.float32),
        jnp.asarray(rng.normal(scale=2.0, size=(N, 2)), jnp.float32),
        jnp.asarray([1.0, 0.8, 1.3, 0.5], jnp.float32),
        jnp.asarray(rng.random((N, 1)), jnp.float32),
    )


@pytest.fixture(scope="module")
def ctf() -> np.ndarray:
    values = [12000.0, 11000.0, 25.0, 300.0, 2.7, 0.1, 0.0, 0.0]
    parameters = CtfParameters(*(np.full(N, v) for v in values))
    return np.asarray(ctf_values(parameters, PLANE.frequencies / (BOX * PIXEL)))


@pytest.fixture(scope="module")
def image(molecule, prepared):
    return jax.jit(lambda lat, ctf: predict(molecule, prepared, lat, ctf, PLANE))


def analytic_images(latents: Latents) -> np.ndarray:
    """Images [N, y, x] drawn in real space: sums of 2-D Gaussians at the projected centres,
    moved to +s, with contrast; the sum over z at the pixel size of a Gaussian of peak 1."""
    axis = (np.arange(BOX) - BOX // 2) * PIXEL
    peak = np.sqrt(2 * np.pi) * WIDTH / PIXEL
    q = np.asarray(latents.quaternion)[:, [1, 2, 3, 0]]
    out = np.zeros((N, BOX, BOX))
    for i, rotation in enumerate(Rotation.from_quat(q).as_matrix()):
        weights = [1.0, np.sqrt(2) * np.cos(np.pi * float(latents.state[i, 0]))]
        for weight, centre in zip(weights, CENTRES, strict=True):
            x, y = (rotation @ centre)[:2] + PIXEL * np.asarray(latents.shift_px[i])
            blob = np.exp(-((axis[:, None] - y) ** 2 + (axis - x) ** 2) / (2 * WIDTH**2))
            out[i] += float(latents.contrast[i]) * weight * peak * blob
    return out


def relative(found, expected) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_against_gaussians_drawn_in_real_space(image, latents):
    """Rotation, its direction, shift, its sign, contrast, state weights and units at once."""
    found = np.asarray(image(latents, np.ones((N, len(PLANE.shells)), np.float32)))
    expected = np.asarray(image_to_half_plane(analytic_images(latents), PLANE))
    assert relative(found, expected) < 0.01
    for wrong in (
        latents._replace(shift_px=-latents.shift_px),
        latents._replace(quaternion=latents.quaternion * jnp.array([1.0, -1.0, -1.0, -1.0])),
    ):
        other = np.asarray(image_to_half_plane(analytic_images(wrong), PLANE))
        assert relative(found, other) > 0.2


def test_ctf_multiplies(image, latents, ctf):
    plain = np.asarray(image(latents, np.ones_like(ctf)))
    np.testing.assert_allclose(image(latents, ctf), ctf * plain, atol=1e-5 * np.abs(plain).max())


def test_linear_in_contrast(image, latents, ctf):
    doubled = image(latents._replace(contrast=2 * latents.contrast), ctf)
    single = np.asarray(image(latents, ctf))
    np.testing.assert_allclose(doubled, 2 * single, atol=1e-5 * np.abs(single).max())


def test_turning_in_the_plane_turns_the_image(image, latents):
    """R' = Rz(90) R: the image turns counter-clockwise, (x, y) -> (-y, x)."""
    ones = np.ones((N, len(PLANE.shells)), np.float32)
    at_rest = latents._replace(shift_px=jnp.zeros((N, 2)))
    turn = Rotation.from_rotvec([0.0, 0.0, np.pi / 2])
    q = np.asarray(at_rest.quaternion)[:, [1, 2, 3, 0]]
    matrices = (turn * Rotation.from_quat(q)).as_matrix()
    turned = at_rest._replace(quaternion=jnp.asarray(quaternion_from_matrix(matrices), jnp.float32))
    # image'(k) = image(Rz(90)^-1 k): the value at (kx, ky) was at (ky, -kx)
    place = {tuple(k): i for i, k in enumerate(PLANE.frequencies)}
    before, after = (np.asarray(image(lat, ones)) for lat in (at_rest, turned))
    for i, (kx, ky) in enumerate(PLANE.frequencies):
        source = (ky, -kx)
        value = before[:, place[source]] if source in place else before[:, place[(-ky, kx)]].conj()
        np.testing.assert_allclose(after[:, i], value, atol=2e-2)
