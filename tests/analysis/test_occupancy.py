import numpy as np
import pytest

from hypermol.analysis.occupancy import (
    occupancy,
    population,
    populations_at_valley,
)


def test_certain_states_give_the_histogram_and_no_band():
    states = np.array([[0.05, 0.15, 0.15, 0.95]] * 3)
    result = occupancy(states, np.linspace(0, 1, 11))
    expected = np.zeros(10)
    expected[[0, 1, 9]] = [2.5, 5.0, 2.5]
    np.testing.assert_allclose(result.mean, expected)
    np.testing.assert_allclose(result.lower, result.upper)
    np.testing.assert_allclose((result.mean * np.diff(result.edges)).sum(), 1.0)
    np.testing.assert_allclose(result.centres[:2], [0.05, 0.15])


def test_weights_count():
    states = np.array([[0.25, 0.75]])
    result = occupancy(states, np.array([0.0, 0.5, 1.0]), weights=np.array([3.0, 1.0]))
    np.testing.assert_allclose(result.mean, [1.5, 0.5])
    low = population(states, (0.0, 0.5), weights=np.array([3.0, 1.0]), about="particles")
    np.testing.assert_allclose(low.mean, 0.75)


def test_population_interval_has_the_binomial_width():
    rng = np.random.default_rng(0)
    states = np.tile(rng.random(1000) ** 2, (4000, 1))
    result = population(states, (0.0, 0.25))
    fraction = (states[0] < 0.25).mean()
    width = 2 * 1.645 * np.sqrt(fraction * (1 - fraction) / 1000)
    assert result.mean == pytest.approx(fraction, abs=2e-3)
    assert result.upper[1] - result.lower[1] == pytest.approx(width, rel=0.05)
    certain = population(states, (0.0, 0.25), about="particles")
    assert certain.upper[1] == certain.lower[1] == pytest.approx(fraction)


def test_interval_through_the_cut_of_a_circle():
    states = np.array([[0.95, 0.02, 0.5, 0.6]])
    assert population(states, (0.9, 0.1), about="particles").mean == 0.5


def test_valley_between_two_populations():
    rng = np.random.default_rng(2)
    states = np.concatenate([rng.normal(0.2, 0.07, 6000), rng.normal(0.75, 0.1, 3000)])
    valley = populations_at_valley(np.clip(states, 0, 1))
    grid = np.linspace(0.2, 0.75, 2000)
    density = 6 / 0.07 * np.exp(-((grid - 0.2) ** 2) / (2 * 0.07**2))
    density += 3 / 0.1 * np.exp(-((grid - 0.75) ** 2) / (2 * 0.1**2))
    assert valley.boundary == pytest.approx(grid[density.argmin()], abs=0.05)
    assert valley.peaks == pytest.approx((0.2, 0.75), abs=0.08)
    assert valley.depth < 0.6


def test_one_population_has_no_valley():
    states = (np.arange(20000) + 0.5) / 20000
    with pytest.raises(ValueError, match="one peak"):
        populations_at_valley(np.sqrt(states))


def test_chance_peaks_of_few_particles_are_no_populations():
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(40):
        try:
            populations_at_valley(rng.random(1000))
        except ValueError:
            continue
        found += 1
    assert found <= 2  # about one in a hundred has one by chance


def test_two_clear_populations_of_few_particles_are_found():
    rng = np.random.default_rng(6)
    for _ in range(10):
        states = np.concatenate([rng.normal(0.25, 0.1, 200), rng.normal(0.75, 0.1, 100)])
        draws = np.clip(states + 0.02 * rng.normal(size=(5, 300)), 0, 1)
        assert populations_at_valley(draws).boundary == pytest.approx(0.52, abs=0.09)
