"""Graph Laplacians: known shapes have known eigenfunctions; extension, landmarks, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.molecule.state_basis import (
    GraphLaplacian,
    Tabulated,
    graph_spectrum,
    landmark_basis,
)
from hypermol.space.discrete import Discrete


def on_circle(n: int, uneven: float, d: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Angles [n] with density 1 + uneven cos, and points [n, d] on a circle turned into R^d."""
    rng = np.random.default_rng(0)
    grid = np.linspace(0.0, 2 * np.pi, 10001)
    angle = np.interp(rng.random(n), (grid + uneven * np.sin(grid)) / (2 * np.pi), grid)
    frame = np.linalg.qr(rng.normal(size=(d, d)))[0][:2]
    return angle, np.stack([np.cos(angle), np.sin(angle)], axis=-1) @ frame


def explained(values: np.ndarray, by: np.ndarray) -> float:
    """Multiple correlation of values [N] with the columns of [N, k]."""
    fitted = by @ np.linalg.lstsq(by, values, rcond=None)[0]
    return float(np.corrcoef(fitted, values)[0, 1])


@pytest.mark.parametrize("uneven", [0.0, 0.7])
def test_modes_of_a_circle_are_cosines_and_sines(uneven: float):
    """In any plane of any space, and however unevenly it is sampled."""
    angle, points = on_circle(600, uneven, d=5)
    spectrum = graph_spectrum(points, 5)
    np.testing.assert_array_equal(spectrum.vectors[:, 0], 1.0)
    for turns, modes in ((1, (1, 2)), (2, (3, 4))):
        waves = np.stack([np.cos(turns * angle), np.sin(turns * angle)], axis=-1)
        for mode in modes:
            assert explained(spectrum.vectors[:, mode], waves) > 0.99
    np.testing.assert_allclose(spectrum.frequencies, [0, 1, 1, 2, 2], atol=0.35)


def test_modes_of_a_line_are_cosines():
    tau = np.random.default_rng(1).random(400)
    spectrum = graph_spectrum(3.0 * tau[:, None], 4)
    for q in (1, 2, 3):
        wave = np.cos(np.pi * q * tau)
        assert abs(np.corrcoef(spectrum.vectors[:, q], wave)[0, 1]) > 0.98


def test_extension_agrees_at_the_points_and_is_smooth_between():
    _, points = on_circle(500, 0.5)
    spectrum = graph_spectrum(points, 5)
    basis = GraphLaplacian(spectrum, "z")
    assert basis.space.names == ("z_1", "z_2")
    at_points = np.asarray(basis(jnp.asarray(basis.states_of(points), jnp.float32)))
    np.testing.assert_allclose(at_points[:, 0], 1.0, atol=1e-4)
    for mode in range(1, 5):
        assert np.corrcoef(at_points[:, mode], spectrum.vectors[:, mode])[0, 1] > 0.99
    # one radius, all angles: the circle between its points
    turn = np.linspace(0.0, 2 * np.pi, 200)
    quarter = points[0] @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    ring = np.outer(np.cos(turn), points[0]) + np.outer(np.sin(turn), quarter)
    values = np.asarray(basis(jnp.asarray(basis.states_of(ring), jnp.float32)))
    assert explained(values[:, 1], np.stack([np.cos(turn), np.sin(turn)], axis=-1)) > 0.99
    far = jnp.array([[0.5, 0.5], [0.0, 0.0], [1.0, 0.0]])
    slopes = jax.vmap(jax.jacfwd(basis))(far)
    assert np.all(np.isfinite(slopes)) and np.all(np.isfinite(basis(far)))
    weights = basis.mean_weights
    assert weights[0] == pytest.approx(1.0, abs=1e-3) and len(weights) == 5


def test_one_coordinate_lives_on_an_interval():
    basis = GraphLaplacian(graph_spectrum(np.random.default_rng(0).normal(size=(200, 1)), 3))
    assert basis.space.names == ("coordinate",) and basis.space.dim == 1
    assert basis(jnp.zeros((7, 1))).shape == (7, 3)


def test_landmarks_carry_the_modes_of_all_points():
    angle, points = on_circle(500, 0.6, d=6)
    spectrum = graph_spectrum(points, 3)
    marks = landmark_basis(spectrum, 40, "site")
    basis = marks.basis
    assert basis.space == Discrete("site", 40) and basis.n_terms == 3
    states = marks.states_of(points)
    values = np.asarray(basis(jnp.asarray(states, jnp.float32)))
    assert explained(values[:, 1], spectrum.vectors[:, 1:]) > 0.99
    # evenly spread, though the points are not
    turns = np.sort(angle[[int(np.abs(points - m).sum(axis=1).argmin()) for m in marks.points]])
    gaps = np.diff(np.append(turns, turns[0] + 2 * np.pi))
    assert len(np.unique(turns)) == 40 and gaps.max() < 2.0 * 2 * np.pi / 40
    np.testing.assert_allclose(basis.constant_weights, [1.0, 0.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(basis.mean_weights, basis.table.mean(axis=0))
    with pytest.raises(ValueError, match="at least as many as terms"):
        landmark_basis(spectrum, 2)


def test_what_cannot_be_is_refused():
    rng = np.random.default_rng(0)
    apart = np.concatenate([rng.normal(size=(60, 2)), 100.0 + rng.normal(size=(60, 2))])
    with pytest.raises(ValueError, match="2 pieces: raise n_neighbours"):
        graph_spectrum(apart, 3, 8)
    with pytest.raises(ValueError, match="too few"):
        graph_spectrum(rng.normal(size=(10, 2)), 3)
    with pytest.raises(ValueError, match="finite"):
        graph_spectrum(np.full((50, 2), np.nan), 3)
    with pytest.raises(ValueError, match="use landmark_basis"):
        GraphLaplacian(graph_spectrum(rng.normal(size=(300, 4)), 3))
    with pytest.raises(ValueError, match="add a column of ones"):
        Tabulated(np.array([[1.0], [2.0]]), Discrete("c", 2))
    with pytest.raises(ValueError, match="give 3 rows"):
        Tabulated(np.ones((2, 1)), Discrete("c", 3))
