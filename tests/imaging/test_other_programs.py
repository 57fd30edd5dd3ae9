"""CTF and projections against cryoJAX, where it is installed (`pip install -e '.[crosscheck]'`).

Measured with cryoJAX 0.6: CTF within 8e-6 (its sign is opposite by convention), images of Gaussians
drawn analytically within 0.6 % (theirs are averages over pixels), images of a voxel map with CTF
within 0.4 %.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.data.latents import Latents
from hypermol.imaging.ctf import ctf_values, electron_wavelength_angstrom
from hypermol.imaging.forward import predict
from hypermol.io.metadata import CtfParameters
from hypermol.molecule.composite import expansion
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import Constant
from hypermol.space.fourier import half_plane, image_to_half_plane
from hypermol.space.rotation import quaternion_from_matrix
from one_part import one_part

cxs = pytest.importorskip("cryojax.simulator", reason="cryoJAX is not installed")

BOX, PIXEL, KMAX, N = 48, 2.0, 20, 5
PLANE = half_plane(BOX, KMAX)
CENTRES = np.array([[10.0, 2.0, -3.0], [-4.0, 14.0, 5.0], [1.0, -8.0, -15.0]])
AMPLITUDES, WIDTHS = np.array([1.0, 2.0, 1.5]), np.array([5.0, 6.0, 7.0])
ROTATIONS = Rotation.random(N, random_state=0)
SHIFTS = np.random.default_rng(0).normal(scale=3.0, size=(N, 2))
DEFOCUS = {"u": 16400.0, "v": 15600.0, "angle": 35.0}


def ours(volume: np.ndarray, ctf: np.ndarray) -> np.ndarray:
    """Our half-plane images of a map [BOX, BOX, BOX] at all poses."""
    molecule = expansion(Voxels(BOX, PIXEL, (BOX - 1) // 2, 0.5 * BOX * PIXEL), Constant())
    assert molecule.parts[0].basis.n == BOX
    latents = Latents(
        jnp.asarray(quaternion_from_matrix(ROTATIONS.as_matrix()), jnp.float32),
        jnp.asarray(SHIFTS / PIXEL, jnp.float32),
        jnp.ones(N),
        jnp.zeros((N, 0)),
    )

    @jax.jit
    def images(maps, ctf):
        return predict(molecule, molecule.prepare(one_part(maps)), latents, ctf, PLANE)

    return np.asarray(images(jnp.asarray(volume[None], jnp.float32), jnp.asarray(ctf)))


def theirs(volume, transfer=None) -> np.ndarray:
    """cryoJAX's half-plane images, at our poses given as quaternions."""
    config = cxs.BasicImageConfig((BOX, BOX), PIXEL, 300.0)
    frame = ROTATIONS.as_quat()[:, [3, 0, 1, 2]]
    images = []
    for quaternion, shift in zip(frame, SHIFTS, strict=True):
        pose = cxs.QuaternionPose(*shift, wxyz=quaternion)
        model = cxs.make_image_model(volume, config, pose, transfer)
        images.append(np.asarray(model.simulate()))
    return np.asarray(image_to_half_plane(np.stack(images), PLANE))


def gaussian_map() -> np.ndarray:
    """The Gaussians, each of integral AMPLITUDES, sampled at the voxels."""
    axis = (np.arange(BOX) - BOX // 2) * PIXEL
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")[::-1], axis=-1)
    total = np.zeros(grid.shape[:3])
    for centre, amplitude, width in zip(CENTRES, AMPLITUDES, WIDTHS, strict=True):
        peak = amplitude / (2 * np.pi * width**2) ** 1.5
        total += peak * np.exp(-np.sum((grid - centre) ** 2, axis=-1) / (2 * width**2))
    return total


def parameters(n: int) -> CtfParameters:
    values = [DEFOCUS["u"], DEFOCUS["v"], DEFOCUS["angle"], 300.0, 2.7, 0.1, 20.0, 0.0]
    return CtfParameters(*(np.full(n, v) for v in values))


def their_ctf():
    """Their azimuth is arctan2(x, y), from y towards x; RELION's and ours from x towards y."""
    mean, difference = 0.5 * (DEFOCUS["u"] + DEFOCUS["v"]), DEFOCUS["u"] - DEFOCUS["v"]
    return cxs.AstigmaticCTF(mean, difference, 90.0 - DEFOCUS["angle"], 2.7)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def ctf() -> np.ndarray:
    return np.asarray(ctf_values(parameters(N), PLANE.frequencies / (BOX * PIXEL)))


def test_ctf(ctf):
    k = jnp.asarray(PLANE.frequencies / (BOX * PIXEL), jnp.float32)[None]
    wavelength = float(electron_wavelength_angstrom(np.array(300.0)))
    values = their_ctf()(k, wavelength, 0.1, 20.0)
    found = np.asarray(values)[0]
    np.testing.assert_allclose(-found, ctf[0], atol=5e-5)


def test_projections_of_gaussians(ctf):
    """Theirs are drawn analytically from the centres, ours from voxels."""
    volume = cxs.GaussianMixtureVolume(CENTRES, AMPLITUDES, WIDTHS**2)
    found, expected = ours(gaussian_map(), np.ones_like(ctf)), theirs(volume)
    scale = np.vdot(found, expected).real / np.vdot(found, found).real
    assert scale == pytest.approx(PIXEL, rel=0.01)  # their integral over z, our sum over voxels
    assert relative(scale * found, expected) < 0.01


def test_images_of_a_voxel_map_with_ctf(ctf):
    volume = cxs.FourierVoxelGridVolume.from_real_voxel_grid(gaussian_map(), pad_scale=3.0)
    transfer = cxs.ContrastTransferTheory(
        their_ctf(), amplitude_contrast_ratio=0.1, phase_shift=20.0
    )
    found, expected = ours(gaussian_map(), ctf), -theirs(volume, transfer)
    scale = np.vdot(found, expected).real / np.vdot(found, found).real
    assert scale == pytest.approx(PIXEL, rel=0.01)
    assert relative(scale * found, expected) < 0.01
