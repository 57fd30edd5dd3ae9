"""What is measured of images, against plain NumPy, and which images are found strange."""

import numpy as np
import pytest

from hypermol.data.image_statistics import join, measure, normalisation, outliers, unusable

N, BOX = 60, 32


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(3.0, 2.0, size=(N, BOX, BOX)).astype(np.float32)


def test_measurements(images):
    images[4, 0, 0] = np.nan
    images[5] = 7.0
    found = measure(images)
    row = images[9].astype(np.float64)
    y, x = np.mgrid[:BOX, :BOX] - BOX // 2
    radius = np.sqrt(x**2 + y**2)
    corners = row[radius > BOX / 2]
    wanted = [row.mean(), row.std(), row.min(), row.max(), corners.mean(), corners.std()]
    wanted += [row[radius < BOX / 4].mean() - corners.mean(), 0.0]
    np.testing.assert_allclose([column[9] for column in found[:8]], wanted, atol=1e-12)
    assert np.flatnonzero(~found.is_finite).tolist() == [4]
    assert found.flat[5] == 1.0
    assert unusable(found) == {
        4: "has values that are not finite",
        5: "has the same value in every pixel",
    }
    pieces = join([measure(images[:7]), measure(images[7:])])
    for whole, piece in zip(found, pieces, strict=True):
        np.testing.assert_array_equal(whole, piece)


def test_noise_and_spikes_are_told_from_a_smooth_particle(images):
    y, x = np.mgrid[:BOX, :BOX] - BOX // 2
    particle = 50.0 * np.exp(-(x**2 + y**2) / (2 * 4.0**2))
    found = measure(images + particle)
    np.testing.assert_allclose(found.noise, 2.0, rtol=0.15)
    assert found.spike.max() < 7 * 2.0 and found.sd.min() > 5.0
    for place in ((16, 16), (0, 7), (31, 0)):
        flat = np.zeros((1, BOX, BOX))
        flat[0][place] = -30.0
        np.testing.assert_allclose(measure(flat).spike, 30.0)


def test_rescaled_is_what_is_measured_of_rescaled_images(images):
    rng = np.random.default_rng(1)
    offset, factor = rng.normal(size=N), rng.uniform(0.5, 2.0, N)
    told = measure(images).rescaled(offset, factor)
    measured = measure((images.astype(float) - offset[:, None, None]) * factor[:, None, None])
    for first, second in zip(told, measured, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-9)


def test_noise_has_no_outliers(images):
    assert outliers(measure(images), BOX) == {}


def spoil(images: np.ndarray, how: str) -> None:
    if how.endswith("pixel"):
        images[7, 20, 9] = (-1 if "cold" in how else 1) * 40 * images.std()
    elif how == "line":
        images[7, 3] += 20 * images.std()
    elif how == "patch":
        images[7, :, :12] = 3.0
    elif how == "corners":
        y, x = np.mgrid[:BOX, :BOX] - BOX // 2
        images[7] += 4.0 * (np.hypot(x, y) > BOX / 2) * images.std()
    else:
        images[7] *= float(how)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("hot pixel", "a pixel 40 sd from its neighbours"),
        ("cold pixel", "sd from its neighbours"),
        ("line", "sd"),
        ("patch", "a part with one value in all pixels"),
        ("corners", "corners +"),
        ("5", "sd 5.04 times the median"),
        ("0.2", "sd 0.202 times the median"),
    ],
)
def test_one_strange_image_is_found(images, how, words):
    spoil(images, how)
    found = outliers(measure(images), BOX)
    assert list(found) == [7] and words in found[7]


def test_scales_that_vary_smoothly_are_no_outliers(images):
    images *= np.random.default_rng(2).lognormal(0.0, 0.3, N)[:, None, None]
    assert outliers(measure(images), BOX) == {}


@pytest.mark.parametrize("box", [8, 32])
def test_normalisation_makes_backgrounds_alike(box):
    rng = np.random.default_rng(3)
    images = rng.normal(size=(N, box, box)) * rng.uniform(1, 9, (N, 1, 1)) + 4.0
    offset, factor = normalisation(measure(images), box)
    made = measure((images - offset[:, None, None]) * factor[:, None, None])
    mean, sd = (made.corner_mean, made.corner_sd) if box == 32 else (made.mean, made.sd)
    np.testing.assert_allclose(mean, 0.0, atol=1e-9)
    np.testing.assert_allclose(sd, 1.0)
