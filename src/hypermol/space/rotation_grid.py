"""Grids of rotations that cover SO(3) evenly."""

import numpy as np

#: Alexa, "Super-Fibonacci Spirals: Fast, Low-Discrepancy Sampling of SO(3)", CVPR 2022: the
#: positive root of x^4 = x + 4 beside the square root of two.
_PHI, _PSI = np.sqrt(2.0), 1.533751168755204288118041


def super_fibonacci(n: int) -> np.ndarray:
    """Quaternions float64 [n, 4] (w, x, y, z), of low discrepancy under Haar measure.

    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"a grid of {n} rotations: give at least 1")
    s = np.arange(n) + 0.5
    inner, outer = np.sqrt(s / n), np.sqrt(1.0 - s / n)
    first, second = 2.0 * np.pi * s / _PHI, 2.0 * np.pi * s / _PSI
    return np.stack(
        [
            outer * np.cos(second),
            inner * np.sin(first),
            inner * np.cos(first),
            outer * np.sin(second),
        ],
        axis=-1,
    )
