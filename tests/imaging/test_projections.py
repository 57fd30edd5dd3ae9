"""`predict` against projections that other programs made: exact ones in real space, RELION's.

Correlations are over the half plane of Fourier pixels, which leaves out k = 0 and what lies above
kmax. Measured (smallest, median of each set): exact projections, once the making program's own
interpolation is allowed for, 0.9991, 0.9998 up to kmax 10 of 15 and 0.997, 0.9997 up to 14;
RELION's 0.9993, 0.9995 up to kmax 28 or more of 32.
"""

import pickle
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.data import load_particles
from hypermol.data.latents import Latents
from hypermol.imaging.forward import predict
from hypermol.io.mrc import read_volume
from hypermol.molecule.composite import expansion
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import Constant
from hypermol.space.fourier import (
    HalfPlane,
    crop_or_pad_volume,
    half_plane,
    half_plane_to_image,
    image_to_half_plane,
)
from hypermol.space.rotation import quaternion_from_matrix
from one_part import one_part


class Predictor:
    """Images of one map over its whole box, with no CTF unless one is given."""

    def __init__(self, volume: np.ndarray, kmax: int) -> None:
        box = volume.shape[0]
        self.plane = half_plane(box, kmax)
        self.molecule = expansion(Voxels(box, 1.0, kmax, 0.51 * box), Constant())
        maps = crop_or_pad_volume(volume, self.molecule.parts[0].basis.n)[None]
        prepared = jax.jit(self.molecule.prepare)(one_part(maps))
        self.image = jax.jit(
            lambda lat, ctf: predict(self.molecule, prepared, lat, ctf, self.plane)
        )

    def __call__(self, rotations, shifts_px, ctf=None) -> np.ndarray:
        n = len(rotations)
        if ctf is None:
            ctf = np.ones((n, len(self.plane.shells)), np.float32)
        quaternions = jnp.asarray(quaternion_from_matrix(rotations), jnp.float32)
        shifts = jnp.asarray(shifts_px, jnp.float32)
        latents = Latents(quaternions, shifts, jnp.ones(n), jnp.zeros((n, 0)))
        return np.asarray(self.image(latents, jnp.asarray(ctf, jnp.float32)))


def correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlation of each pair of images: [n]."""
    first, second = (x.reshape(len(x), -1) for x in (first, second))
    product = np.einsum("nk,nk->n", first.conj(), second).real
    return product / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


def slope(model: np.ndarray, data: np.ndarray) -> float:
    """Regression of the data on the model: 1 where the units agree."""
    return float(np.vdot(model, data).real / np.vdot(model, model).real)


@pytest.fixture(scope="module")
def exact(shared_data: Path):
    """(map, rotations, images): image = sum over z of the map at (row vector) R."""
    folder = shared_data / "formats"
    volume = read_volume(folder / "toymodel_small_nocenter.mrc").data.astype(np.float32)
    rotations, _ = pickle.loads((folder / "toy_rot_zerotrans.pkl").read_bytes())
    particles = load_particles(
        folder / "toy_projections.star", pixel_size_angstrom=1.0, allow_missing=("poses",)
    )
    rows = slice(0, 200)
    return volume, rotations[rows].astype(np.float64), particles.images(rows)


@pytest.fixture(scope="module")
def smoothing(exact) -> Callable[[HalfPlane], np.ndarray]:
    """The exact projections were drawn with trilinear interpolation between voxels, which
    multiplies the map's transform by sinc^2 along each of its axes (and adds aliases).
    """
    rotations = exact[1]
    return lambda plane: np.prod(
        np.sinc(plane.frequencies @ rotations[:, :2] / plane.box) ** 2, axis=-1
    )


def test_exact_projections_as_they_are(exact):
    """At low frequencies the making program's interpolation hardly shows."""
    volume, rotations, images = exact
    predictor = Predictor(volume, 5)
    data = np.asarray(image_to_half_plane(images, predictor.plane))
    shifts = np.zeros((len(images), 2))
    score = correlations(predictor(rotations, shifts), data)
    assert np.median(score) > 0.999
    assert score.min() > 0.998
    transposed = predictor(np.swapaxes(rotations, 1, 2), shifts)
    assert np.median(correlations(transposed, data)) < 0.9


@pytest.mark.parametrize(("kmax", "smallest", "median"), [(10, 0.999, 0.9997), (14, 0.996, 0.9995)])
def test_exact_projections_to_high_frequencies(exact, smoothing, kmax, smallest, median):
    """Nyquist is at 15; what is left at 14 is the aliases of the making program."""
    volume, rotations, images = exact
    predictor = Predictor(volume, kmax)
    found = predictor(rotations, np.zeros((len(images), 2)), smoothing(predictor.plane))
    data = np.asarray(image_to_half_plane(images, predictor.plane))
    score = correlations(found, data)
    assert score.min() > smallest
    assert np.median(score) > median
    assert slope(found, data) == pytest.approx(1.0, abs=0.003)
    if kmax == 14:  # as images, corners beyond kmax included
        pictures = np.asarray(half_plane_to_image(found, predictor.plane))
        centred = images - images.mean(axis=(1, 2), keepdims=True)
        assert np.median(correlations(pictures, centred)) > 0.998


def relion(folder: Path, name: str):
    """(rotations, shifts in px, images) of a set of RELION's projections."""
    particles = load_particles(
        folder / f"{name}.star", allow_missing=("ctf",), pixel_size_angstrom=1.0
    )
    return particles.rotations, particles.shifts_angstrom, particles.images()


@pytest.fixture(scope="module")
def ribosome(shared_data: Path) -> np.ndarray:
    path = shared_data / "formats" / "clean70SRibosome_vol_65p.mrc"
    return read_volume(path).data.astype(np.float32)


@pytest.fixture(scope="module")
def ribosome_64(ribosome: np.ndarray) -> Predictor:
    """The same map sampled at 64 voxels, as its projections of 64 pixels were made."""
    return Predictor(crop_or_pad_volume(ribosome, 64), 28)


def test_relion_projections_of_65_pixels(ribosome: np.ndarray, shared_data: Path):
    """Odd box: RELION's images lie at (+1, +1) px, everything else is as the files say."""
    rotations, shifts, images = relion(shared_data / "formats", "rln_proj_65")
    predictor = Predictor(ribosome, 32)
    found = predictor(rotations, shifts + 1.0)
    data = np.asarray(image_to_half_plane(images, predictor.plane))
    assert correlations(found, data).min() > 0.999
    assert slope(found, data) == pytest.approx(1.0, abs=0.005)
    pictures = np.asarray(half_plane_to_image(found, predictor.plane))
    assert correlations(pictures, images - images.mean(axis=(1, 2), keepdims=True)).min() > 0.999


@pytest.mark.parametrize("name", ["rln_proj_64_centered", "rln_proj_64_shifted"])
def test_relion_projections_of_64_pixels(ribosome_64: Predictor, shared_data: Path, name: str):
    """Even box: origin, Euler angles and the shifts' sign as the files say, nothing fitted."""
    rotations, shifts, images = relion(shared_data / "formats", name)
    assert np.any(shifts) == name.endswith("shifted")
    found = ribosome_64(rotations, shifts)
    data = np.asarray(image_to_half_plane(images, ribosome_64.plane))
    assert correlations(found, data).min() > 0.999
    if name.endswith("shifted"):
        assert correlations(ribosome_64(rotations, -shifts), data).max() < 0.5


def test_relion_projections_of_an_offset_map(ribosome_64: Predictor, shared_data: Path):
    """This set's map was resampled about the box's middle instead of voxel 32 of 65: one vector
    in the molecule's frame, half a voxel of 65, explains the shifts of all five images."""
    rotations, _, images = relion(shared_data / "formats", "rln_proj_64")
    data = np.asarray(image_to_half_plane(images, ribosome_64.plane))
    offset = np.full(3, -0.5 * 64 / 65)
    found = ribosome_64(rotations, (rotations @ offset)[:, :2])
    assert correlations(found, data).min() > 0.999


def test_rotations_off_by_a_degree_are_seen(ribosome_64: Predictor, shared_data: Path):
    """The comparison has teeth: one degree costs more than everything else together."""
    rotations, shifts, images = relion(shared_data / "formats", "rln_proj_64_centered")
    data = np.asarray(image_to_half_plane(images, ribosome_64.plane))
    turn = Rotation.from_rotvec(np.deg2rad([0.0, 1.0, 0.0])).as_matrix()
    best = correlations(ribosome_64(rotations, shifts), data)
    assert np.all(correlations(ribosome_64(turn @ rotations, shifts), data) < best - 0.001)
