"""Convergence of chains: rank-normalised split R-hat and bulk ESS.

Vehtari, Gelman, Simpson, Carpenter and Buerkner, "Rank-normalization, folding, and localization",
Bayesian Analysis 16 (2021). Arrays are [chains, draws, ...]; trailing axes are separate quantities.
"""

import numpy as np
import scipy


def _split(draws: np.ndarray) -> np.ndarray:
    """Halve every chain: [chains, draws, ...] -> float64 [2 chains, draws // 2, quantities]."""
    values = np.asarray(draws, dtype=np.float64)
    if values.ndim < 2:
        raise ValueError(f"draws must be [chains, draws, ...], not {values.ndim}-dimensional")
    half = values.shape[1] // 2
    if half < 2:
        raise ValueError(f"{values.shape[1]} draws per chain are too few: at least 4 are needed")
    flat = values.reshape(*values.shape[:2], -1)
    return np.concatenate([flat[:, :half], flat[:, -half:]], axis=0)


def _rank_normalise(chains: np.ndarray) -> np.ndarray:
    """Normal scores of the pooled ranks (eq. 14): Phi^-1((r - 3/8) / (S + 1/4))."""
    pooled = chains.reshape(-1, chains.shape[-1])
    ranks = scipy.stats.rankdata(pooled, axis=0)
    return scipy.special.ndtri((ranks - 0.375) / (len(pooled) + 0.25)).reshape(chains.shape)


def _rhat(chains: np.ndarray) -> np.ndarray:
    """Potential scale reduction [quantities] of [chains, draws, quantities] (eqs. 1-4)."""
    n_draws = chains.shape[1]
    within = chains.var(axis=1, ddof=1).mean(axis=0)
    between = n_draws * chains.mean(axis=1).var(axis=0, ddof=1)
    estimate = (n_draws - 1) / n_draws * within + between / n_draws
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(estimate / within)


def split_rhat(draws: np.ndarray) -> np.ndarray:
    """Rank-normalised split R-hat: the larger of the bulk and the folded (tail) one.

    Args:
        draws: [chains, draws, ...]; an odd last draw in the middle of a chain is left out.

    Returns:
        [...]; below 1.01 is converged; nan for quantities that never move.
    """
    chains = _split(draws)
    folded = np.abs(chains - np.median(chains, axis=(0, 1)))
    result = np.maximum(_rhat(_rank_normalise(chains)), _rhat(_rank_normalise(folded)))
    return result.reshape(np.shape(draws)[2:])


def _autocovariance(chains: np.ndarray) -> np.ndarray:
    """Biased autocovariances [chains, draws, quantities] along axis 1, by FFT."""
    n_draws = chains.shape[1]
    length = scipy.fft.next_fast_len(2 * n_draws)
    centred = chains - chains.mean(axis=1, keepdims=True)
    spectrum = scipy.fft.rfft(centred, n=length, axis=1)
    return scipy.fft.irfft(np.abs(spectrum) ** 2, n=length, axis=1)[:, :n_draws] / n_draws


def _ess(chains: np.ndarray) -> np.ndarray:
    """Effective sample size [quantities] (eqs. 10-13), Geyer's initial monotone sequence."""
    n_chains, n_draws, n_quantities = chains.shape
    covariance = _autocovariance(chains)
    within = covariance[:, 0].mean(axis=0) * n_draws / (n_draws - 1.0)
    estimate = within * (n_draws - 1.0) / n_draws
    if n_chains > 1:
        estimate = estimate + chains.mean(axis=1).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = 1.0 - (within - covariance.mean(axis=0)) / estimate
    rho[0] = 1.0
    n_pairs = max((n_draws - 1) // 2 - 1, 1)  # the longest lags are too noisy to use
    pairs = rho[: 2 * n_pairs].reshape(n_pairs, 2, n_quantities)
    sums = pairs.sum(axis=1)
    positive = np.logical_and.accumulate(sums > 0, axis=0)
    monotone = np.minimum.accumulate(np.where(positive, sums, np.inf), axis=0)
    tau = -1.0 + 2.0 * np.where(positive, monotone, 0.0).sum(axis=0)
    # the even term after the last positive pair lowers the variance for antithetic chains
    stop = positive.sum(axis=0)
    following = rho[np.minimum(2 * stop, n_draws - 1), np.arange(n_quantities)]
    tau = tau + np.maximum(following, 0.0)
    total = n_chains * n_draws
    return np.where(estimate > 0, total / np.maximum(tau, 1.0 / np.log10(total)), np.nan)


def bulk_ess(draws: np.ndarray) -> np.ndarray:
    """Bulk effective sample size: ESS of the rank-normalised split chains.

    Args:
        draws: [chains, draws, ...].

    Returns:
        [...]; nan for quantities that never move. At least 100 per chain is the usual advice.
    """
    return _ess(_rank_normalise(_split(draws))).reshape(np.shape(draws)[2:])


def tail_ess(draws: np.ndarray) -> np.ndarray:
    """Tail effective sample size: the smaller ESS of the 5 % and 95 % quantile indicators.

    Args:
        draws: [chains, draws, ...].

    Returns:
        [...]; that of the other indicator where one never changes, nan where neither does.
    """
    chains = _split(draws)
    pooled = np.asarray(draws, dtype=np.float64).reshape(-1, chains.shape[-1])
    low, high = np.quantile(pooled, [0.05, 0.95], axis=0)
    result = np.fmin(_ess((chains <= low).astype(float)), _ess((chains <= high).astype(float)))
    return result.reshape(np.shape(draws)[2:])
