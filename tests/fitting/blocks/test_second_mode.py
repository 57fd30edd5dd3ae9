"""The paper's second mode: how far a part of the particles may move theta."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from hypermol.fitting.blocks.second_mode import _rate
from hypermol.inference.target import Differentiable


@pytest.mark.parametrize(("stiffness", "taken"), [(0.5, 0.3), (40.0, None)])
def test_a_step_goes_no_further_than_the_top_along_it(stiffness: float, taken: float | None):
    """Against a line search on the log density itself; a gentle slope is taken 0.3 of."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 5))
    precision, towards = stiffness * (root @ root.T + np.eye(5)), rng.normal(size=5)

    def log_density(x: np.ndarray) -> float:
        return float(towards @ x - 0.5 * x @ precision @ x)

    def value_and_gradient(x):
        return log_density(np.asarray(x)), jnp.asarray(towards - precision @ np.asarray(x))

    target = Differentiable(lambda x: log_density(np.asarray(x)), value_and_gradient)
    start = 0.1 * rng.normal(size=5)
    _, gradient = value_and_gradient(start)
    move = 0.05 * gradient if taken else gradient
    rate = float(_rate(target, jnp.asarray(start), move, gradient))
    best = minimize_scalar(lambda t: -log_density(start + t * np.asarray(move))).x
    assert rate == pytest.approx(taken or best, rel=1e-3)
    assert rate <= best * 1.001
