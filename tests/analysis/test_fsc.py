import numpy as np
import pytest

from hypermol.analysis.fsc import (
    benchmark_images,
    fsc,
    fsc_area,
    fsc_problem,
    per_image_fsc,
    resolution_at,
)
from hypermol.analysis.masks import mask_from_map, sphere_mask

BOX = 32


def noise(seed: int, box: int = BOX) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(box, box, box))


@pytest.mark.parametrize("box", [31, 32])
def test_identical_maps_score_one(box):
    volume = noise(0, box)
    curve = fsc(volume, 3.0 * volume)
    assert curve.shape == (box // 2 + 1,)
    np.testing.assert_allclose(curve, 1.0)
    expected = ((box + 1) // 2 - 1) / box
    np.testing.assert_allclose(fsc_area(curve, box), expected)


def test_against_a_direct_sum_over_the_full_transform():
    first, second = noise(0), noise(1) + 0.5 * noise(0)
    a, b = (np.fft.fftshift(np.fft.fftn(v)) for v in (first, second))
    axis = np.arange(BOX) - BOX // 2
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2)
    nearest, benchmark = fsc(first, second), fsc(first, second, shells="cryobench")
    for i in range(1, BOX // 2 + 1):
        for shell, curve in (
            (np.rint(radius) == i, nearest),
            ((radius >= i - 1) & (radius < i), benchmark),
        ):
            cross = np.vdot(a[shell], b[shell]).real
            power = np.linalg.norm(a[shell]) * np.linalg.norm(b[shell])
            np.testing.assert_allclose(curve[i], cross / power, atol=1e-12)
    assert nearest[0] == benchmark[0] == 1.0


def test_noise_follows_the_snr_formula():
    """Signal + independent noise on both sides: FSC = SNR / (1 + SNR); against truth: its root."""
    signal, snr = noise(0, 48), 0.8
    halves = [signal + noise(seed, 48) / np.sqrt(snr) for seed in (1, 2)]
    between = fsc(*halves)[6:24]
    against = fsc(signal, halves[0])[6:24]
    # a shell of radius r has 2 pi r^2 independent complex terms: at r = 6 an error near 0.06
    np.testing.assert_allclose(between, snr / (1 + snr), atol=0.12)
    np.testing.assert_allclose(between[8:].mean(), snr / (1 + snr), atol=0.01)
    np.testing.assert_allclose(against[8:].mean(), np.sqrt(snr / (1 + snr)), atol=0.01)


def test_resolution_is_interpolated_and_in_angstrom():
    curve = np.array([1.0, 0.9, 0.7, 0.3, 0.1])  # box 8
    np.testing.assert_allclose(resolution_at(curve, 0.5, 2.0), 8 * 2.0 / 2.5)
    assert resolution_at(np.ones(5), 0.143, 2.0) == 4.0
    assert resolution_at(np.array([1.0, 0.1, 0.0]), 0.5, 2.0) == np.inf


def test_curves_that_tell_no_resolution():
    assert np.isnan(resolution_at(np.array([1.0, 0.9, np.nan, 0.1]), 0.143, 2.0))
    assert np.isnan(resolution_at(np.full(5, np.nan), 0.143, 2.0))
    assert np.isfinite(resolution_at(np.array([1.0, 0.9, 0.1, np.nan]), 0.143, 2.0))
    first, second = noise(0), noise(1)
    said = {
        "one of the two maps is empty": fsc(first, 0.0 * first),
        "the two maps are the same": fsc(first, 3.0 * first),
        "the two maps agree at no frequency": fsc(first, -first),
        "values that are not numbers": fsc(first, second) + np.nan,
    }
    for words, curve in said.items():
        assert words in fsc_problem(curve, 0.143)
    assert fsc_problem(fsc(first, first + 0.5 * second), 0.143) is None


def test_benchmark_images_are_every_nth():
    np.testing.assert_array_equal(benchmark_images(5000), np.arange(0, 5000, 50))
    assert len(benchmark_images(40)) == 40
    assert len(benchmark_images(1050)) == 105  # the benchmark's own rule


def test_per_image_fsc_indexes_images_not_rows():
    volumes = np.stack([noise(i) for i in range(4)])
    result = per_image_fsc(lambda i: volumes[i % 2], lambda i: volumes[i], [1, 3, 0])
    np.testing.assert_array_equal(result.images, [1, 3, 0])
    perfect = (BOX // 2 - 1) / BOX
    np.testing.assert_allclose(result.areas[[0, 2]], perfect)
    assert abs(result.areas[1]) < 0.06
    np.testing.assert_allclose(result.mean, result.areas.mean())


def test_a_mask_removes_what_lies_outside():
    mask = sphere_mask(BOX, radius_px=8.0)
    outside = np.where(mask > 0, 0.0, noise(5) * 10)
    np.testing.assert_allclose(fsc(noise(0), noise(0) + outside, mask=mask), 1.0)
    assert fsc(noise(0), noise(0) + outside)[5] < 0.5


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="resample"):
        fsc(np.zeros((8, 8, 8)), np.zeros((10, 10, 10)))
    with pytest.raises(ValueError, match="cubic"):
        fsc(np.zeros((8, 8, 6)), np.zeros((8, 8, 6)))


def test_sphere_mask_profile():
    mask = sphere_mask(BOX, radius_px=6.0, edge_px=4.0)
    line = mask[BOX // 2, BOX // 2, BOX // 2 :]
    np.testing.assert_allclose(line[:7], 1.0)
    np.testing.assert_allclose(line[8], 0.5)
    np.testing.assert_allclose(line[10:], 0.0, atol=1e-12)


def test_map_mask_dilates_a_ball_by_the_stated_pixels():
    axis = np.arange(BOX) - BOX // 2
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2)
    ball = (radius <= 5).astype(float)
    mask = mask_from_map(ball, threshold=0.5, smooth_px=0.01, dilate_px=3.0, edge_px=2.0)
    assert mask[radius <= 7.5].min() == 1.0
    assert mask[radius >= 10.1].max() == 0.0
    with pytest.raises(ValueError, match="inverted"):
        mask_from_map(-ball)


def test_reference_value_of_the_mean_map(shared_data):
    """igg1d: the noiseless mean over states scores 0.417 unmasked (0.419 by CryoBench's shells)."""
    maps = np.load(shared_data / "igg1d" / "truth_maps.npz")["maps"].astype(np.float32)
    frame = np.load(shared_data / "igg1d" / "truth.npz")["frame"]
    mean = maps.mean(axis=0)
    images = benchmark_images(len(frame))
    result = per_image_fsc(lambda i: mean, lambda i: maps[frame[i]], images)
    assert abs(result.mean - 0.417) < 5e-4
    paper = per_image_fsc(lambda i: mean, lambda i: maps[frame[i]], images, shells="cryobench")
    assert abs(paper.mean - 0.419) < 5e-4
