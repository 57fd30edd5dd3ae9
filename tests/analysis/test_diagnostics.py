import numpy as np
import pytest

from hypermol.analysis.diagnostics import bulk_ess, split_rhat, tail_ess


def autoregressive(rho: float, chains: int, draws: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(chains, draws))
    out = np.empty_like(noise)
    out[:, 0] = noise[:, 0] / np.sqrt(1 - rho**2)
    for i in range(1, draws):
        out[:, i] = rho * out[:, i - 1] + noise[:, i]
    return out


CASES = {
    "independent": autoregressive(0.0, 4, 500, 0),
    "slow": autoregressive(0.95, 4, 1000, 1),
    "antithetic": autoregressive(-0.6, 4, 400, 2),
    "odd length": autoregressive(0.5, 3, 301, 3),
    "one chain": autoregressive(0.3, 1, 200, 4),
    "apart": autoregressive(0.3, 4, 300, 5) + np.array([0.0, 0.0, 0.0, 2.0])[:, None],
    "heavy tails": np.random.default_rng(6).standard_cauchy((4, 400)),
    "two values": (autoregressive(0.5, 4, 300, 9) > 0.5).astype(float),
    "unequal widths": autoregressive(0.2, 4, 300, 7) * np.array([1, 1, 1, 4.0])[:, None],
}


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_arviz(name, arviz):
    draws = CASES[name]
    if len(draws) > 1:  # arviz gives nan for one chain
        np.testing.assert_allclose(split_rhat(draws), arviz.rhat(draws), rtol=1e-6)
    np.testing.assert_allclose(bulk_ess(draws), arviz.ess(draws, method="bulk"), rtol=1e-6)
    np.testing.assert_allclose(tail_ess(draws), arviz.ess(draws, method="tail"), rtol=1e-2)


def test_trailing_axes_are_separate_quantities():
    stacked = np.stack([CASES["independent"][:, :400], CASES["antithetic"]], axis=-1)
    both = np.stack([stacked, 2 * stacked + 1], axis=-1)
    assert split_rhat(both).shape == bulk_ess(both).shape == (2, 2)
    np.testing.assert_allclose(bulk_ess(both)[1, 1], bulk_ess(CASES["antithetic"]))


def test_autoregression_has_the_analytic_ess():
    draws = autoregressive(0.9, 4, 20000, 8)
    assert bulk_ess(draws) == pytest.approx(80000 * 0.1 / 1.9, rel=0.15)


def test_a_stuck_quantity_is_nan_not_converged():
    assert np.isnan(split_rhat(np.ones((4, 100))))
    assert np.isnan(bulk_ess(np.ones((4, 100))))
    assert np.isnan(tail_ess(np.ones((4, 100))))


def test_too_few_draws_are_refused():
    with pytest.raises(ValueError, match="too few"):
        split_rhat(np.zeros((2, 3)))
