import numpy as np
import pytest
from scipy import stats
from scipy.spatial.transform import Rotation

from hypermol.analysis.coverage import (
    circular_interval_coverage,
    interval_coverage,
    mean_rotation,
    rotation_coverage,
    wilson_interval,
)

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(size=4000)
DATA = TRUTH + RNG.normal(size=4000)  # posterior of TRUTH given DATA: N(DATA / 2, 1 / 2)
DRAWS = DATA / 2 + RNG.normal(size=(60, 4000)) * np.sqrt(0.5)


def assert_nominal(coverage, levels=(0.5, 0.9)):
    for i, level in enumerate(levels):
        assert np.all(coverage.lower[i] - 0.005 <= level)
        assert np.all(level <= coverage.upper[i] + 0.005)


def test_gaussian_posterior_is_nominal():
    result = interval_coverage(DRAWS, TRUTH)
    assert_nominal(result)
    assert result.n == 4000


def test_few_draws_are_still_nominal():
    assert_nominal(interval_coverage(DRAWS[:19], TRUTH))


def test_overconfidence_is_seen():
    narrow = DATA / 2 + 0.6 * (DRAWS - DATA / 2)
    np.testing.assert_allclose(
        interval_coverage(narrow, TRUTH).fraction,
        2 * stats.norm.cdf(0.6 * stats.norm.ppf([0.75, 0.95])) - 1,
        atol=0.03,
    )


def test_circle_cut_does_not_matter():
    centre = RNG.random(3000)
    truth = np.mod(centre + 0.05 * RNG.normal(size=3000), 1.0)
    samples = np.mod(centre + 0.05 * RNG.normal(size=(99, 3000)), 1.0)
    assert_nominal(circular_interval_coverage(samples, truth))
    assert interval_coverage(samples, truth).fraction[0] < 0.52


def test_rotations_are_nominal_per_component_and_tell_which_is_wrong():
    def jitter(scale, *shape):
        vectors = RNG.normal(size=(*shape, 3)) * np.radians(scale)
        return Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(*shape, 3, 3)

    centre = Rotation.random(1500, rng=RNG).as_matrix()
    truth = jitter([2.0, 2.0, 4.0], 1500) @ centre
    right = jitter([2.0, 2.0, 4.0], 59, 1500) @ centre
    assert_nominal(rotation_coverage(right, truth))
    narrow = jitter([2.0, 2.0, 2.0], 59, 1500) @ centre
    fraction = rotation_coverage(narrow, truth).fraction
    assert fraction.shape == (2, 3)
    np.testing.assert_allclose(fraction[1, :2], 0.9, atol=0.03)
    assert fraction[1, 2] < 0.65


def test_mean_rotation_of_known_spread():
    centre = Rotation.random(rng=np.random.default_rng(1)).as_matrix()
    turns = Rotation.from_rotvec([[0.2, 0, 0], [-0.2, 0, 0], [0, 0.3, 0], [0, -0.3, 0]])
    np.testing.assert_allclose(mean_rotation(turns.as_matrix() @ centre), centre, atol=1e-12)


def test_wilson_interval_textbook_value():
    low, high = wilson_interval(np.array(8), 10)
    assert low == pytest.approx(0.4902, abs=1e-4)
    assert high == pytest.approx(0.9433, abs=1e-4)
