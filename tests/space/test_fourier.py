"""The centred transform, the half plane and its weights, against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.space.fourier import (
    FULL_PLANE_WEIGHT,
    centred_fft2,
    crop_or_pad_volume,
    fast_even_size,
    frequency_radii,
    half_plane,
    half_plane_to_image,
    image_to_half_plane,
    shift_phases,
    voxel_radii,
)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def direct(image: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """The definition: sum over pixels of I(r) exp(-2 pi i k.r) / box, r from pixel box // 2."""
    n = image.shape[-1]
    axis = np.arange(n) - n // 2
    waves = [np.exp(-2j * np.pi * frequencies[:, d, None] * axis / n) for d in (0, 1)]
    return np.einsum("yx,kx,ky->k", image.astype(np.float64), *waves) / n


@pytest.mark.parametrize("box", [15, 16])
def test_half_plane_pixels_are_the_definition(box: int):
    image, plane = noise(box, box), half_plane(box, 7)
    found = np.asarray(image_to_half_plane(image, plane))
    np.testing.assert_allclose(found, direct(image, plane.frequencies), atol=2e-6)


@pytest.mark.parametrize("box", [15, 16])
def test_half_plane_holds_one_of_each_conjugate_pair(box: int):
    kmax = (box - 1) // 2
    plane = half_plane(box, kmax)
    both = np.concatenate([plane.frequencies, -plane.frequencies])
    assert len(np.unique(both, axis=0)) == len(both)
    axis = np.arange(-kmax, kmax + 1)
    radius = np.hypot(axis[:, None], axis)
    assert len(both) == np.sum((radius <= kmax) & (radius > 0))
    np.testing.assert_array_equal(plane.shells, np.rint(np.hypot(*plane.frequencies.T)))
    assert plane.shells.min() == 1
    assert plane.shells.max() == kmax == plane.n_shells - 1


def test_kmax_beyond_nyquist_is_refused():
    with pytest.raises(ValueError, match="kmax 8 does not fit a box of 16 pixels: choose 1 to 7"):
        half_plane(16, 8)


def test_weighted_half_plane_sum_is_the_full_plane_sum():
    """Eq. 10 sums over the full plane: the half plane counts with `FULL_PLANE_WEIGHT`."""
    box, plane = 16, half_plane(16, 6)
    image = noise(box, box)
    axis = np.arange(box) - box // 2
    radius = np.hypot(axis[:, None], axis)
    inside = (radius <= 6) & (radius > 0)
    full = np.sum(np.abs(np.asarray(centred_fft2(image)))[inside] ** 2)
    half = np.sum(np.abs(np.asarray(image_to_half_plane(image, plane))) ** 2)
    assert FULL_PLANE_WEIGHT * half == pytest.approx(full, rel=1e-6)


def test_parseval_and_the_variance_of_white_noise():
    images = noise(400, 16, 16)
    transform = np.asarray(centred_fft2(images))
    assert np.sum(np.abs(transform) ** 2) == pytest.approx(np.sum(images**2.0), rel=1e-5)
    values = np.asarray(image_to_half_plane(3.0 * images, half_plane(16, 7)))
    assert np.mean(np.abs(values) ** 2) == pytest.approx(9.0, rel=0.02)
    # real and imaginary parts each carry half of sigma^2 and are uncorrelated
    assert np.mean(values.real**2) == pytest.approx(4.5, rel=0.03)
    assert abs(np.mean(values.real * values.imag)) < 0.1


@pytest.mark.parametrize("box", [15, 16])
def test_image_round_trip(box: int):
    plane = half_plane(box, 6)
    values = noise(3, len(plane.shells)) + 1j * noise(3, len(plane.shells), seed=1)
    image = half_plane_to_image(values.astype(np.complex64), plane)
    assert image.shape == (3, box, box)
    np.testing.assert_allclose(image_to_half_plane(image, plane), values, atol=3e-6)


@pytest.mark.parametrize("box", [15, 16])
def test_shift_phases_move_the_image_as_roll_does(box: int):
    plane = half_plane(box, 7)
    image = noise(box, box)
    shifts = np.array([[2.0, -3.0], [0.0, 0.0], [-5.0, 1.0]], np.float32)
    phases = np.asarray(shift_phases(plane, jnp.asarray(shifts)))
    for (x, y), phase in zip(shifts.astype(int), phases, strict=True):
        rolled = np.roll(image, (y, x), axis=(0, 1))
        moved = phase * np.asarray(image_to_half_plane(image, plane))
        np.testing.assert_allclose(moved, image_to_half_plane(rolled, plane), atol=1e-5)


def test_shift_phases_are_those_of_equation_6():
    plane = half_plane(16, 7)
    shift = np.array([0.37, -1.81], np.float32)
    expected = np.exp(-2j * np.pi * plane.frequencies @ shift.astype(np.float64) / 16)
    np.testing.assert_allclose(shift_phases(plane, jnp.asarray(shift)), expected, atol=2e-6)


@pytest.mark.parametrize(("small", "large"), [(8, 12), (8, 13), (9, 14), (9, 15)])
def test_volumes_up_and_down_again(small: int, large: int):
    volume = crop_or_pad_volume(noise(2, small, small, small), small + 2)
    volume = crop_or_pad_volume(volume, small)  # without the Nyquist planes
    there = crop_or_pad_volume(volume, large)
    np.testing.assert_allclose(crop_or_pad_volume(there, small), volume, atol=1e-5)


@pytest.mark.parametrize("n", [10, 11, 20, 21])
def test_resampled_volumes_keep_values_and_origin(n: int):
    """A Gaussian well inside both grids is the same function on either."""

    def blob(m: int) -> np.ndarray:
        axis = (np.arange(m) - m // 2) * 14.0 / m
        z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
        return np.exp(-((x - 1.0) ** 2 + (y + 0.5) ** 2 + z**2) / (2 * 1.6**2))

    # at 10 voxels the step is 1.4: the Gaussian's aliasing there is 4e-3
    np.testing.assert_allclose(crop_or_pad_volume(blob(16), n), blob(n), atol=1.5e-2)


def test_fast_sizes():
    assert [fast_even_size(n) for n in (1, 7, 11, 13, 14, 22, 62, 121)] == [
        2, 8, 12, 14, 14, 22, 64, 126,
    ]  # fmt: skip


@pytest.mark.parametrize("n", [15, 16])
def test_radii_of_frequencies_are_where_waves_peak(n: int):
    z, y, x = np.indices((n, n, n))
    for wave in ((2, -3, 6), (0, 4, 3), (-6, 2, 0)):
        values = np.cos(2 * np.pi * (wave[0] * z + wave[1] * y + wave[2] * x) / n)
        peak = np.argmax(np.abs(np.fft.rfftn(values)))
        assert frequency_radii(n).flat[peak] == pytest.approx(np.linalg.norm(wave))


@pytest.mark.parametrize("n", [15, 16])
def test_radii_of_voxels_start_at_the_origin_voxel(n: int):
    radii = voxel_radii(n, 2.0)
    assert radii[n // 2, n // 2, n // 2] == 0.0
    assert radii[n // 2 + 2, n // 2 - 3, n // 2 + 6] == pytest.approx(14.0)
