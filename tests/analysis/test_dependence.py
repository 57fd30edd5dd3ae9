"""Numbers of dependence against formulas for each pair of kinds."""

import numpy as np
import pytest
from scipy import stats

from hypermol.analysis.dependence import association, correlation, dependence, joint_occupancy
from hypermol.analysis.dependence import rank_features as features
from hypermol.analysis.knobs import Knob

FIRST, SECOND = Knob("a", 0, "interval"), Knob("b", 1, "interval")
CIRCLES = Knob("a", 0, "circle"), Knob("b", 1, "circle")
CLASSES = Knob("a", 0, "classes", ("open", "shut", "lost")), Knob("b", 1, "classes", ("up", "down"))


def coupled(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.random(n)
    return x, np.clip(0.6 * x + 0.4 * rng.random(n), 0, 1)


def test_intervals_have_spearmans_rho():
    x, y = coupled()
    expected = stats.spearmanr(x, y).statistic
    assert correlation(FIRST, SECOND, x, y) == pytest.approx(expected)
    assert correlation(FIRST, SECOND, x, 1 - y) == pytest.approx(-expected)
    assert association(features(FIRST, x), features(SECOND, y)) == pytest.approx(expected)


def test_classes_have_cramers_v():
    x, y = coupled()
    a, b = np.floor(3 * x).astype(int), np.floor(2 * np.minimum(y, 0.99)).astype(int)
    table = np.histogram2d(a, b, (3, 2))[0].astype(int)
    expected = stats.contingency.association(table, method="cramer")
    assert correlation(*CLASSES, (a + 0.5) / 3, (b + 0.5) / 2) == pytest.approx(expected)


def test_circles_do_not_mind_where_they_begin():
    x, noise = np.random.default_rng(1).random((2, 500))
    y = np.mod(0.3 - x + 0.1 * noise, 1.0)
    found = correlation(*CIRCLES, x, y)
    assert found > 0.9
    assert correlation(*CIRCLES, np.mod(x + 0.4, 1), np.mod(0.7 - y, 1)) == pytest.approx(found)
    assert correlation(*CIRCLES, x, noise) < 0.15


def test_independent_knobs_stay_within_chance():
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 1, 600)) + rng.normal(0, 0.01, (2, 20, 600))
    alone, (x, y) = dependence(FIRST, SECOND, a, b), coupled(600)
    assert not alone.is_significant
    # of Spearman's rho 99 % lie within 2.58 / sqrt(N - 1)
    assert alone.chance == pytest.approx(2.58 / np.sqrt(599), rel=0.2)
    both = dependence(FIRST, SECOND, x + 0 * a, y + rng.normal(0, 0.02, a.shape))
    assert both.is_significant and 0.0 < both.sd < 0.02


def test_joint_shares_are_products_where_knobs_are_independent():
    rng = np.random.default_rng(3)
    a, b = rng.random((2, 4, 20_000))
    found = joint_occupancy(FIRST, CLASSES[1], a, b)
    assert found.share.shape == (8, 2) and found.share.sum() == pytest.approx(1.0)
    assert np.allclose(found.share, found.apart, atol=2e-3)
    diagonal = joint_occupancy(FIRST, SECOND, a, a)
    assert np.allclose(np.diag(diagonal.share) / np.diag(diagonal.apart), 8, rtol=0.05)
