"""Particles by candidates: widths find the wanted rates, and the old contrast is forgotten."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.fitting.blocks.particles_by_candidates import adapt_size, particles_by_candidates
from hypermol.inference.ensemble import CandidateCounts, Moved, MoveSize
from hypermol.molecule.state_basis import Cosine, Linear
from hypermol.posterior.priors import HyperPrior, InverseGamma
from simulated import draw_images, draw_prior, make_world

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


@pytest.mark.parametrize("basis", [Cosine(2), Linear()], ids=["interval", "gaussian"])
def test_the_old_contrast_is_forgotten(basis):
    """The candidates' draw integrates contrast out: whatever follows must use a fresh one.

    A state drawn given the old contrast is wrong by too little for a short Geweke test to see.
    """
    prior = HyperPrior(noise=InverseGamma(8.0, 8.0), n_bins=3)
    world = make_world(basis, prior, box=8, kmax=3, radius_px=1.5, blocks=(7, 4), precision=0.15)
    state = draw_prior(np.random.default_rng(0), world)
    data = draw_images(jax.random.key(0), world, state)
    block = particles_by_candidates(world.posterior, CandidateCounts(4, 3, 6))
    other = state._replace(latents=state.latents._replace(contrast=3.0 * state.latents.contrast))
    tuning, key = block.init(state, data), jax.random.key(9)
    drawn = (block.step(key, start, tuning, data)[0].latents for start in (state, other))
    for first, second in zip(*drawn, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-5)
