import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hypermol.analysis.coverage import interval_coverage
from hypermol.analysis.states import (
    angular_correlation,
    circular_correlation,
    circular_errors,
    distance_matrix,
    match_distributions,
    match_states,
    rank_correlation,
)

from .blobs import blob_points, blob_volume


def test_rank_correlation_is_free_of_sign_and_warp():
    rng = np.random.default_rng(0)
    true = rng.random(500)
    assert rank_correlation(1 - true**3, true) == pytest.approx(1.0)
    assert rank_correlation(rng.random(500), true) < 0.15


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("offset", [0.0, 0.37])
def test_circular_correlations_are_free_of_offset_and_direction(sign, offset):
    true = np.random.default_rng(1).random(2000)
    estimated = sign * true + offset + 3.0
    assert circular_correlation(estimated, true) == pytest.approx(1.0, abs=1e-6)
    assert angular_correlation(estimated, true) == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(circular_errors(estimated, true), 0.0, atol=1e-9)


def test_rank_circular_correlation_is_free_of_a_warp_of_the_circle():
    true = np.random.default_rng(2).random(2000)
    warped = true + 0.12 * np.sin(2 * np.pi * true) + 0.4
    assert circular_correlation(warped, true) == pytest.approx(1.0, abs=1e-6)
    assert angular_correlation(warped, true) < 0.95


def test_circular_correlations_follow_the_wrapped_normal():
    """For a = b + normal(0, sigma): R- = exp(-sigma^2 / 2), R+ = 0."""
    rng = np.random.default_rng(3)
    true, sigma = rng.random(40000), 0.5
    estimated = true + rng.normal(size=40000) * sigma / (2 * np.pi)
    assert circular_correlation(estimated, true) == pytest.approx(np.exp(-(sigma**2)), abs=0.01)
    assert angular_correlation(estimated, true) == pytest.approx(np.exp(-(sigma**2) / 2), abs=0.01)
    assert circular_correlation(rng.random(40000), true) < 0.01
    errors = circular_errors(estimated, true)
    assert np.median(errors) == pytest.approx(0.6745 * sigma / (2 * np.pi), rel=0.03)


BOX = 20


def swinging(t: np.ndarray, turn: float) -> np.ndarray:
    """Volumes [len(t), BOX^3]: a rigid body and a ball that swings through `turn` turns."""
    centres, masses = blob_points(n=5, radius_px=4.0)
    centres = np.clip(centres, -5, 5)
    out = []
    for state in t:
        angle = 2 * np.pi * turn * state
        ball = 6.0 * np.array([[np.cos(angle), np.sin(angle), 0.2]])
        out.append(blob_volume(np.vstack([centres, ball]), np.append(masses, 2.0), BOX))
    return np.stack(out)


def warp(tau: np.ndarray) -> np.ndarray:
    return 0.1 + 0.8 * tau**1.7


@pytest.mark.parametrize("direction", [1, -1])
def test_monotone_warp_of_an_interval_is_recovered(direction):
    true_nodes = np.linspace(0, 1, 40)
    nodes = (np.arange(30) + 0.5) / 30
    actual = warp(nodes if direction == 1 else 1 - nodes)
    noise = np.random.default_rng(0).normal(size=(30, BOX, BOX, BOX)) * 0.05
    estimated = 2.5 * (swinging(actual, 0.4) + noise)
    found = match_states(
        distance_matrix(estimated, swinging(true_nodes, 0.4)), nodes, true_nodes, "interval"
    )
    assert found.direction == direction
    np.testing.assert_allclose(found.values, actual, atol=0.02)
    tau = np.random.default_rng(1).random(200)
    expected = warp(tau if direction == 1 else 1 - tau)
    np.testing.assert_allclose(found(tau), expected, atol=0.03)


def test_low_resolution_of_the_estimate_does_not_pull_the_map_to_the_middle():
    true_nodes = np.linspace(0, 1, 40)
    nodes = (np.arange(30) + 0.5) / 30
    blurred = gaussian_filter(swinging(warp(nodes), 0.4), (0, 2.5, 2.5, 2.5))
    cost = distance_matrix(blurred, swinging(true_nodes, 0.4))
    np.testing.assert_allclose(match_states(cost, nodes, true_nodes).values, warp(nodes), atol=0.03)


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("offset", [0.0, 0.43, 0.9])
def test_circle_with_offset_reflection_and_warp_is_recovered(direction, offset):
    def actual(tau):
        return np.mod(direction * (tau + 0.06 * np.sin(2 * np.pi * tau)) + offset, 1.0)

    true_nodes = np.arange(36) / 36
    nodes = (np.arange(24) + 0.5) / 24
    cost = distance_matrix(swinging(actual(nodes), 1.0), swinging(true_nodes, 1.0))
    found = match_states(cost, nodes, true_nodes, "circle")
    assert found.direction == direction
    tau = np.random.default_rng(1).random(200)
    difference = found(tau) - actual(tau)
    assert np.abs(difference - np.rint(difference)).max() < 0.02


def test_dynamic_programming_finds_the_cheapest_monotone_path():
    """Against brute force over all non-decreasing paths of a small random matrix."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        cost = rng.random((4, 5))
        best = min(
            sum(cost[row, column] for row, column in enumerate(path))
            for path in np.ndindex(5, 5, 5, 5)
            if list(path) == sorted(path) or list(path) == sorted(path, reverse=True)
        )
        found = match_states(cost, np.arange(4) / 4, np.arange(5) / 5)
        assert found.cost * 4 == pytest.approx(best)


@pytest.mark.parametrize("direction", [1, -1])
def test_matched_distributions_undo_a_warp_and_leave_intervals_nominal(direction):
    # conjugate normals: the posterior of each true state is known, and draws of it are warped
    rng = np.random.default_rng(0)
    population_sd, noise_sd, n, draws = 0.12, 0.12, 6000, 200
    true = 0.5 + population_sd * rng.normal(size=n)
    seen = true + noise_sd * rng.normal(size=n)
    gain = population_sd**2 / (population_sd**2 + noise_sd**2)
    sd = np.sqrt(gain) * noise_sd
    posterior = 0.5 + gain * (seen - 0.5) + sd * rng.normal(size=(draws, n))
    sampled = 1 / (1 + np.exp(-4 * direction * posterior))
    found = match_distributions(sampled, true, direction)
    assert found.direction == direction
    inside = np.abs(posterior - 0.5) < 2 * population_sd
    np.testing.assert_allclose(found(sampled)[inside], posterior[inside], atol=0.02)
    covered = interval_coverage(found(sampled), true, (0.5, 0.9)).fraction
    np.testing.assert_allclose(covered, (0.5, 0.9), atol=0.02)
