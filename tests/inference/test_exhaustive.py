"""Draws from a grid follow the posterior's weights, written again by quadrature over contrast."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from hypermol.inference.exhaustive import draw_match

DRAWS = 40000
RNG = np.random.default_rng(0)
GRAM, LINEAR = RNG.uniform(0.5, 4.0, 5), RNG.normal(0.0, 2.0, (5, 3))
LOG_PRIOR = np.log(np.array([0.2, 0.5, 0.3]))
SD = 0.4


def likelihood(g: int, s: int) -> float:
    """exp(a linear - a^2 gram / 2) over a ~ N(1, SD^2)."""

    def density(a: float) -> float:
        prior = np.exp(-0.5 * ((a - 1.0) / SD) ** 2) / (SD * np.sqrt(2.0 * np.pi))
        return prior * np.exp(a * LINEAR[g, s] - 0.5 * a**2 * GRAM[g])

    return integrate.quad(density, 1.0 - 8.0 * SD, 1.0 + 8.0 * SD)[0]


LIKELIHOOD = np.array([[likelihood(g, s) for s in range(3)] for g in range(5)])


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_draws_follow_heated_weights(beta: float):
    evidence = (jnp.asarray(GRAM, jnp.float32), jnp.asarray(LINEAR, jnp.float32))
    log_prior = jnp.asarray(LOG_PRIOR, jnp.float32)
    keys = jax.random.split(jax.random.key(3), DRAWS)
    match = jax.jit(jax.vmap(lambda key: draw_match(key, evidence, log_prior, SD**-2.0, beta)))(
        keys
    )
    wanted = np.exp(LOG_PRIOR) * LIKELIHOOD**beta
    wanted /= wanted.sum()
    found = np.zeros((5, 3))
    np.add.at(found, (np.asarray(match.rotation), np.asarray(match.shift)), 1.0 / DRAWS)
    assert np.all(np.abs(found - wanted) < 5.0 * np.sqrt(wanted / DRAWS))
    assert np.allclose(
        match.log_evidence, np.log((np.exp(LOG_PRIOR) * LIKELIHOOD).sum() / 5), atol=1e-3
    )
    # contrasts are the posterior's at any temperature
    precision = GRAM[match.rotation] + SD**-2.0
    mean = (LINEAR[match.rotation, match.shift] + SD**-2.0) / precision
    z = (np.asarray(match.contrast) - mean) * np.sqrt(precision)
    assert abs(z.mean()) < 5.0 / np.sqrt(DRAWS) and abs(z.std() - 1.0) < 0.02
