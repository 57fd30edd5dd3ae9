"""Widths of proposals: towards the wanted rates, within their bounds."""

import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.fitting.blocks.particles_by_candidates import adapt_size
from hypermol.inference.ensemble import Moved, MoveSize

#: What should move, and the bounds (`fitting.blocks.particles_by_candidates`).
ROTATION_TARGET, SHIFT_TARGET, LEAST_ROTATION, WIDEST_SHIFT = 0.3, 0.7, 0.002, 2.0


def adapted(respond, widest_rad: float, steps: int = 600) -> MoveSize:
    """Widths of 200 particles whose steps move with the chances that `respond` gives."""
    rng = np.random.default_rng(0)
    size = MoveSize(jnp.full(200, 0.04), jnp.full(200, 0.7))
    for _ in range(steps):
        moved = Moved(*(jnp.asarray(rng.random(200) < chance) for chance in respond(size)))
        size = adapt_size(size, moved, widest_rad)
    return size


def test_widths_find_the_wanted_rates():
    def respond(size):
        return np.exp(-np.asarray(size.rotation_rad) / 0.02), np.exp(-np.asarray(size.shift_px))

    size = adapted(respond, 1.0)
    rates = [float(np.mean(chance)) for chance in respond(size)]
    assert rates == pytest.approx([ROTATION_TARGET, SHIFT_TARGET], abs=0.03)


def test_rotations_go_no_wider_than_their_prior():
    size = adapted(lambda size: (np.ones(200), np.ones(200)), 0.03, steps=100)
    assert np.all(np.asarray(size.rotation_rad) == np.float32(0.03))
    assert np.all(np.asarray(size.shift_px) == WIDEST_SHIFT)
    size = adapted(lambda size: (np.zeros(200), np.zeros(200)), 0.03, steps=200)
    assert np.all(np.asarray(size.rotation_rad) == np.float32(LEAST_ROTATION))
