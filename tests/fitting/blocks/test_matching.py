"""Matches are likelihoods: against eq. 10 with predicted images, cell by cell."""

import jax
import jax.numpy as jnp
import numpy as np

from hypermol.data.latents import Latents
from hypermol.fitting.blocks.matching import (
    Matcher,
    shift_lattice,
    shift_spacing_px,
    steps_of_all,
)
from hypermol.inference.ensemble import contrast_marginal
from hypermol.molecule.state_basis import Constant
from hypermol.posterior.priors import HyperPrior
from simulated import draw_images, draw_prior, make_world

BOX, KMAX = 16, 5


def test_evidence_is_the_likelihood_of_the_image_at_every_cell():
    world = make_world(
        Constant(),
        HyperPrior(),
        box=BOX,
        kmax=KMAX,
        radius_px=5.0,
        blocks=(4, 4),
        precision=1.0,
    )
    posterior = world.posterior
    state = draw_prior(np.random.default_rng(0), world)
    data = draw_images(jax.random.key(1), world, state)
    pixels, ctf = data.images.pixels[0, 0], data.images.ctf[0, 0]
    matcher = Matcher(posterior, 2)
    pivot = jnp.asarray([0.7, -0.4])

    @jax.jit
    def matched() -> tuple:
        looked = matcher.look(jax.random.key(2), state.theta)
        about = matcher.about(pixels, pivot)
        found = matcher.evidence(state.mu, looked.templates, about, ctf)
        weights = matcher.log_weights(state.mu, looked.templates, about, ctf)
        return looked.cells, found, weights

    cells, (gram, linear), weights = matched()
    prepared = posterior.molecule.prepare(state.theta)
    contrast = 1.3
    for g, s in [(0, 0), (17, 3), (900, 12)]:
        at = Latents(
            cells.quaternions[g][None],
            (pivot + cells.shifts_px[s])[None],
            jnp.full(1, contrast),
            jnp.zeros((1, 0)),
        )
        predicted = posterior.predict(prepared, at, ctf[None])[0]
        gain = posterior.log_likelihood(pixels, predicted, state.mu)
        gain = gain - posterior.log_likelihood(pixels, jnp.zeros_like(pixels), state.mu)
        wanted = contrast * linear[g, s] - 0.5 * contrast**2 * gram[g]
        np.testing.assert_allclose(gain, wanted, rtol=2e-3, atol=2e-3)
        precision = 1.0 / state.mu.contrast_sd**2
        np.testing.assert_allclose(
            weights[g, s], contrast_marginal(linear[g, s], gram[g], precision), rtol=1e-5
        )


def test_the_lattice_reaches_as_far_as_shifts_do_and_is_as_fine_as_frequencies():
    shifts = shift_lattice(shift_spacing_px(64, 8), steps_of_all(8))
    spacing = np.min(np.linalg.norm(shifts - shifts[0], axis=1)[1:])
    assert np.abs(shifts).max() >= 0.12 * 64
    assert spacing < 0.25 * 64 / 8
    np.testing.assert_allclose(shifts.mean(axis=0), 0.0, atol=1e-9)
