"""Particles before a fit: refused with the remedy, or repaired aloud where that is asked for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hypermol.data import ParticleSet, inspect, load_particles
from hypermol.io.errors import InputError
from hypermol.io.mrc import write_stack

N, BOX = 60, 16


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, BOX, BOX)).astype(np.float32)


@pytest.fixture
def load(write_star: Callable, relion31: dict, tmp_path: Path) -> Callable[..., ParticleSet]:
    def made(images: np.ndarray, **columns: list) -> ParticleSet:
        write_stack(tmp_path / "stack.mrcs", images, 1.5)
        particles = {name: (values * N)[:N] for name, values in relion31["particles"].items()}
        particles["rlnImageName"] = [f"{i + 1}@stack.mrcs" for i in range(N)]
        optics = {**relion31["optics"], "rlnImageSize": [BOX]}
        if "rlnOpticsGroup" in columns:
            optics = {name: values * 2 for name, values in optics.items()}
            optics["rlnOpticsGroup"] = [1, 2]
        return load_particles(write_star({"optics": optics, "particles": {**particles, **columns}}))

    return made


def test_good_images_pass_as_they_are(load, images):
    particles, said = inspect(load(images))
    assert particles.n == N and said == []
    np.testing.assert_array_equal(particles.images(), images)


def test_outliers_are_refused_by_row_or_left_out(load, images):
    images[7, 9, 4] = 3000.0
    images[21] *= 9.0
    particles = load(images)
    message = (
        r"particles\.star: 2 of 60 images differ from the others, row 8 \(a pixel 2,997 sd from "
        r"its neighbours\), row 22 \(sd 8.65 times the median\): leave them out with --leave-out"
    )
    with pytest.raises(InputError, match=message):
        inspect(particles)
    kept, (said,) = inspect(particles, leave_out_outliers=True)
    assert said.startswith("left out 2 of 60 images as outliers, row 8 (")
    assert np.setdiff1d(np.arange(1, N + 1), kept.metadata.row_numbers).tolist() == [8, 22]
    np.testing.assert_array_equal(kept.images(), np.delete(images, [7, 21], axis=0))
    assert kept.data_hash() != particles.data_hash()


def test_unusable_images_are_refused_or_left_out(load, images):
    images[3] = 1.0
    images[5, 0, 0] = np.inf
    particles = load(images)
    with pytest.raises(InputError, match=r"row 4: image 4 of .*same value.*2 such.*--leave-out"):
        inspect(particles)
    kept, (said,) = inspect(particles, leave_out_outliers=True, normalise=False)
    assert kept.n == N - 2 and "row 4 (has the same value" in said and "row 6 (has values" in said


def test_many_bad_images_are_no_outliers(load, images):
    images[: N // 3] = 2.0
    with pytest.raises(
        InputError, match=r"20 of 60 images are unusable.* and 15 more: these are no"
    ):
        inspect(load(images), leave_out_outliers=True)


@pytest.mark.parametrize("factor", [5.0, 0.2, 40.0])
def test_grey_scales_that_differ_are_refused_or_normalised(load, images, factor):
    images[::2] *= factor
    particles = load(images)
    message = r"the grey scales of the images differ: .* in half set .*: give --normalise"
    with pytest.raises(InputError, match=message):
        inspect(particles)
    with pytest.raises(InputError, match=message):
        inspect(particles, leave_out_outliers=True)
    made, (said,) = inspect(particles, normalise=True)
    assert said.startswith("normalised 60 images") and made.n == N
    sd = made.images().std(axis=(1, 2))
    assert sd.max() < 1.3 * sd.min()
    np.testing.assert_allclose(made.select([5, 2]).images(), made.images()[[5, 2]])
    assert made.data_hash() != particles.data_hash()


def test_a_group_of_another_scale_is_named(load, images):
    groups = [2 if i % 6 == 0 else 1 for i in range(N)]
    images[::6] *= 2.5
    with pytest.raises(InputError, match=r"is [01].* in optics group 1 and 2.* in optics group 2"):
        inspect(load(images, rlnOpticsGroup=groups))


def test_scales_that_differ_a_little_are_said(load, images):
    images[::2] *= 1.8
    particles, (said,) = inspect(load(images))
    assert "in half set 2" in said and "--normalise brings" in said
    np.testing.assert_array_equal(particles.images(), images)


def test_normalising_still_finds_outliers(load, images):
    images[::2] *= 5.0
    images[7, 9, 4] = 3000.0
    particles = load(images)
    with pytest.raises(InputError, match="1 of 60 images differ from the others, row 8"):
        inspect(particles, normalise=True)
    kept, said = inspect(particles, normalise=True, leave_out_outliers=True)
    assert kept.n == N - 1 and len(said) == 2
    assert np.abs(kept.images()).max() < 10.0


def test_views_of_images_without_noise_differ_as_they_may(load, images):
    y, x = np.mgrid[:BOX, :BOX] - BOX // 2
    width = np.linspace(1.5, 4.0, N)[:, None, None]
    particle = np.exp(-(x**2 + y**2) / (2 * width**2)) / width**2
    particles, said = inspect(load((100 * particle + 0.01 * images).astype(np.float32)))
    assert particles.n == N and all("mostly signal" in remark for remark in said)


def test_groups_of_opposite_contrast_are_said(load, images):
    y, x = np.mgrid[:BOX, :BOX] - BOX // 2
    particle = 0.8 * (np.hypot(x, y) < BOX / 4)
    sign = np.where(np.arange(N) % 2 == 0, 1.0, -1.0)
    _, (said,) = inspect(load(images + sign[:, None, None] * particle))
    assert "white on dark ground in half set 1 but dark on light ground in half set 2" in said
    assert inspect(load(images + particle))[1] == []


def test_hot_pixels_of_the_camera_are_said(load, images):
    images[:, 3, 5] = 100.0
    _, (said,) = inspect(load(images))
    assert "most images have a pixel that is 16 of their own sd from its neighbours" in said


def test_grey_levels_that_differ_are_said(load, images):
    images[::2] += 1000.0
    _, (said,) = inspect(load(images))
    assert "grey levels of the images differ: their means are -0" in said
    made, (said,) = inspect(load(images), normalise=True)
    assert said.startswith("normalised") and np.abs(made.images().mean(axis=(1, 2))).max() < 0.2


def test_remarks_of_the_file_come_along(load, images):
    _, (said,) = inspect(load(images, rlnBeamTiltX=[0.3] * N))
    assert "beam tilt" in said
