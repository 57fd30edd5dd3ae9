"""Draws of mu and of the contrasts follow the joint posterior of eq. 29."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hypermol.fitting.blocks.hyperparameters import hyperparameters
from hypermol.fitting.blocks.particles_by_candidates import particles_by_candidates
from hypermol.fitting.blocks.particles_by_random_walk import Walks, particles_by_random_walk
from hypermol.fitting.sweep import ChainState, init_tunings, run_sweep
from hypermol.inference.ensemble import CandidateCounts
from hypermol.molecule.state_basis import Cosine
from hypermol.posterior import hyper_draws
from hypermol.posterior.hyper_draws import (
    Scatter,
    contrast_terms,
    draw_contrast_width,
    draw_contrasts,
    draw_levels,
    draw_misplaced,
    draw_noise,
    draw_occupancy,
    draw_scatter,
    draw_widths,
    image_summer,
    latent_sums,
    residual_power,
)
from hypermol.posterior.pose_priors import APART, SomeMisplaced
from hypermol.posterior.priors import HyperPrior, InverseGamma
from simulated import draw_images, draw_latents_prior, draw_prior, make_world
from small_posterior import N, make_small

DRAWS = 2000


@pytest.fixture(scope="module")
def small():
    return make_small()


@pytest.fixture(scope="module")
def sums(small):
    """(sums over images, over latents, theta's energy), on the host."""

    @jax.jit
    def compute():
        posterior, theta, mu, latents, consensus, images = small
        return (
            image_summer(posterior)(theta, latents, images),
            latent_sums(posterior, mu, latents, consensus, images.present),
            posterior.prior_energy(theta, mu.spectrum),
        )

    return jax.device_get(compute())


@pytest.fixture(scope="module")
def draws(small, sums):
    """Every draw of mu given the latents, many times: a dictionary of arrays [DRAWS, ...]."""
    rng, (images, latents, energy) = np.random.default_rng(0), sums
    prior, present = small.posterior.prior, np.asarray(small.images.present)
    power = residual_power(images, small.latents.contrast, present)
    pixels = (N - 1) * small.posterior.shell_counts
    found = []
    for _ in range(DRAWS):
        mu = draw_noise(rng, small.mu, power, pixels, prior)
        mu = draw_levels(rng, mu, energy, small.posterior.molecule.term_sizes, prior)
        mu = draw_occupancy(rng, mu, latents.occupancy.sum(axis=0), prior)
        scatter = draw_scatter(rng, latents, present)
        found.append(draw_widths(rng, mu, scatter, small.posterior))
    return {
        name: np.stack([np.asarray(getattr(mu, name)) for mu in found]) for name in small.mu._fields
    }


@pytest.fixture(scope="module")
def log_joint(small):
    """The whole log posterior at stacked mu's, the rest as it is: [n]."""

    def one(mu):
        terms = small.posterior.terms(small.theta, mu, small.latents, small.consensus, small.images)
        return sum(jnp.sum(term) for term in terms)

    return jax.jit(lambda stacked: jax.lax.map(one, stacked))


POINTS = 400


@pytest.mark.parametrize(
    ("name", "index", "power"),
    [
        ("noise_variance", 1, 1),
        ("noise_variance", 4, 1),
        ("level", 0, 1),
        ("level", 1, 1),
        ("pose_sd_rad", None, 2),
        ("shift_sd_px", None, 2),
        ("occupancy", 0, 1),
    ],
)
def test_conjugate_draws_follow_the_joint_posterior(small, draws, log_joint, name, index, power):
    """Against eq. 29 itself on a grid of one unknown; priors of widths are densities of their
    squares. The other unknowns of mu do not matter, being independent given the rest.
    """
    sample = draws[name] if index is None else draws[name][:, index]
    sample = sample.astype(np.float64) ** power
    low, high = sample.min(), sample.max()
    grid = np.geomspace(
        0.5 * low, min(2.0 * high, 0.999 if name == "occupancy" else np.inf), POINTS
    )
    values = np.repeat(np.asarray(getattr(small.mu, name))[None], POINTS, axis=0)
    if index is None:
        values = grid ** (1 / power)
    else:
        values[:, index] = grid
        if name == "occupancy":
            values[:, 1] = 1.0 - grid
    stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (POINTS, *x.shape)), small.mu)._replace(
        **{name: jnp.asarray(values, jnp.float32)}
    )
    log_density = np.asarray(log_joint(stacked), np.float64)
    density = np.exp(log_density - log_density.max())
    cdf = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))])
    result = stats.kstest(sample, lambda x: np.interp(x, grid, cdf / cdf[-1]))
    assert result.pvalue > 1e-3, result


def test_occupancy_draws_have_dirichlet_moments(small, draws, sums):
    occupied = np.asarray(sums[1].occupancy).sum(axis=0)
    assert occupied.sum() == N - 1
    alpha = small.posterior.prior.occupancy + occupied
    law = stats.dirichlet(alpha)
    np.testing.assert_allclose(draws["occupancy"].sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(draws["occupancy"].mean(axis=0), law.mean(), atol=0.02)
    np.testing.assert_allclose(draws["occupancy"].var(axis=0), law.var(), rtol=0.15)


def test_a_molecule_without_terms_keeps_its_levels(small):
    rng, none = np.random.default_rng(0), np.zeros(0)
    assert draw_levels(rng, small.mu, none, none, small.posterior.prior) is small.mu


@pytest.fixture(scope="module")
def joint_draws(small, sums):
    """(widths [DRAWS], contrasts of the particles that exist [DRAWS, N - 1])."""
    rng, seen = np.random.default_rng(1), np.asarray(small.images.present) > 0
    along, power = contrast_terms(small.mu, sums[0])
    law = small.posterior.prior.contrast
    widths = [draw_contrast_width(rng, along[seen], power[seen], law) for _ in range(DRAWS)]
    found = [draw_contrasts(rng, along, power, sd) for sd in widths]
    return np.array(widths), np.stack([np.asarray(a).reshape(-1)[: N - 1] for a in found])


def test_width_and_contrasts_follow_their_joint_law(small, joint_draws):
    """Dense integration of eq. 29 over both: contrasts are independent given the width, each a
    sum over a fine grid of the joint posterior itself."""
    log_sd = np.linspace(np.log(0.02), np.log(2.0), 161)
    a = np.linspace(-4.0, 6.0, 2001)
    contrasts = jnp.asarray(a, jnp.float32)

    @jax.jit
    def likelihood():
        def one(value):
            latents = small.latents._replace(contrast=jnp.full_like(small.latents.contrast, value))
            terms = small.posterior.terms(
                small.theta, small.mu, latents, small.consensus, small.images
            )
            return terms.likelihood.reshape(-1)[: N - 1]

        return jax.lax.map(one, contrasts)

    told = np.asarray(likelihood(), np.float64)
    told -= told.max(axis=0)
    sd = np.exp(log_sd)[:, None]
    normal = np.exp(-0.5 * ((a - 1.0) / sd) ** 2) / sd
    joint = normal[:, :, None] * np.exp(told)  # [widths, contrasts, N - 1]
    law = small.posterior.prior.contrast
    log_prior = -(law.shape + 1.0) * 2.0 * log_sd - law.scale / sd[:, 0] ** 2 + 2.0 * log_sd
    log_width = np.log(joint.sum(axis=1)).sum(axis=1) + log_prior
    chance = np.exp(log_width - log_width.max())
    cdf = np.cumsum(chance) / chance.sum()
    widths, drawn = joint_draws
    result = stats.kstest(np.log(widths), lambda x: np.interp(x, log_sd, cdf))
    assert result.pvalue > 1e-3, result
    given_width = joint / joint.sum(axis=1, keepdims=True)
    marginal = np.einsum("w,wcn->cn", chance / chance.sum(), given_width)
    for i in range(N - 1):
        cdf = np.cumsum(marginal[:, i])
        result = stats.kstest(drawn[:, i], lambda x, cdf=cdf: np.interp(x, a, cdf))
        assert result.pvalue > 1e-3, (i, result)
    # a width and its contrasts belong together
    spread = np.abs(drawn - 1.0).mean(axis=1)
    assert stats.spearmanr(widths, spread).statistic > 0.2


@pytest.mark.parametrize("truth", [0.01, 0.15, 0.8])
def test_width_is_drawn_from_a_dense_integral(truth: float):
    """Many images, none or much signal, for widths far apart: the grid finds its place."""
    rng, law = np.random.default_rng(2), InverseGamma(3.0, 0.03)
    n = 400
    power = rng.gamma(2.0, 50.0, n)
    along = power * (1.0 + truth * rng.standard_normal(n)) + np.sqrt(power) * rng.standard_normal(n)
    drawn = np.log([draw_contrast_width(rng, along, power, law) for _ in range(1000)])
    grid = np.linspace(np.log(1e-3), np.log(3.0), 20001)
    sd = np.exp(grid)
    # along / power is the contrast plus noise of variance 1 / power
    total = sd[:, None] ** 2 + 1.0 / power
    log = -0.5 * np.sum((along / power - 1.0) ** 2 / total + np.log(total), axis=1)
    log += stats.invgamma(law.shape, scale=law.scale).logpdf(sd**2) + 2.0 * grid
    chance = np.exp(log - log.max())
    cdf = np.cumsum(chance) / chance.sum()
    result = stats.kstest(drawn, lambda x: np.interp(x, grid, cdf))
    assert result.pvalue > 1e-3, result


def width_beside_old_contrasts(rng, along, power, prior):
    """Planted: contrasts and width drawn in turn, from contrasts that are all 1."""
    return float(np.sqrt(prior.draw(rng, len(along), 1e-3 * len(along))))


@pytest.fixture(scope="module")
def contrast_world():
    """64 particles of contrast sd 0.15, signal well above noise: (world, truth, images)."""
    prior = HyperPrior(noise=InverseGamma(50.0, 25.0), n_bins=3)
    world = make_world(
        Cosine(2), prior, box=10, kmax=4, radius_px=2.5, blocks=(256, 32), precision=0.1
    )
    truth = draw_prior(np.random.default_rng(3), world)
    mu = truth.mu._replace(
        contrast_sd=jnp.float32(0.15), pose_sd_rad=jnp.float32(0.03), shift_sd_px=jnp.float32(0.3)
    )
    latents = draw_latents_prior(np.random.default_rng(4), world, mu)
    truth = ChainState(truth.theta, mu, latents)
    return world, truth, draw_images(jax.random.key(3), world, truth)


def widths_from(first: float, contrast_world, sweeps: int) -> np.ndarray:
    """contrast_sd along a chain of mu and particles, theta as it is; contrasts start at 1."""
    world, truth, data = contrast_world
    posterior = world.posterior
    sweep = (
        hyperparameters(posterior, learns_widths=False),
        particles_by_candidates(posterior, CandidateCounts(1, 1, 16)),
    )
    state = ChainState(
        truth.theta,
        truth.mu._replace(contrast_sd=jnp.float32(first)),
        truth.latents._replace(contrast=jnp.ones_like(truth.latents.contrast)),
    )
    tunings, found = init_tunings(sweep, state, data), []
    for key in jax.random.split(jax.random.key(int(1000 * first)), sweeps):
        state, _ = run_sweep(key, sweep, state, tunings, data)
        found.append(float(state.mu.contrast_sd))
    return np.array(found)


def test_far_starts_of_the_width_agree_within_ten_sweeps(contrast_world):
    low, high = (widths_from(first, contrast_world, 20) for first in (0.004, 0.4))
    spread = np.std(np.concatenate([low[10:], high[10:]]))
    assert 0.12 < low[10:].mean() < 0.18 and 0.12 < high[10:].mean() < 0.18
    assert abs(low[2:10].mean() - high[2:10].mean()) < 3.0 * spread
    assert spread < 0.02


def test_a_width_beside_old_contrasts_would_creep(contrast_world, monkeypatch):
    monkeypatch.setattr(hyper_draws, "draw_contrast_width", width_beside_old_contrasts)
    assert widths_from(0.004, contrast_world, 10)[2:].mean() < 0.1


def test_contrasts_that_are_held_stay_and_the_rest_is_drawn(contrast_world):
    """Of particles by random walks too."""
    world, truth, data = contrast_world
    blocks = (
        hyperparameters(world.posterior, learns_widths=False, draws_contrasts=False),
        particles_by_random_walk(world.posterior, Walks(poses=True, contrasts=False)),
    )
    state, _ = run_sweep(jax.random.key(0), blocks, truth, init_tunings(blocks, truth, data), data)
    np.testing.assert_array_equal(state.latents.contrast, truth.latents.contrast)
    assert not np.array_equal(state.mu.noise_variance, truth.mu.noise_variance)
    assert not np.array_equal(state.latents.quaternion, truth.latents.quaternion)
    walked = particles_by_random_walk(world.posterior, Walks(poses=False))
    moved, _ = walked.step(jax.random.key(1), truth, walked.init(truth, data), data)
    assert not np.array_equal(moved.latents.contrast, truth.latents.contrast)
    np.testing.assert_array_equal(moved.latents.quaternion, truth.latents.quaternion)


def test_shares_and_width_of_misplaced_poses_are_conjugate(small):
    """Against SciPy's beta and inverse gamma densities."""
    rng = np.random.default_rng(3)
    near = np.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    scatter = Scatter(*near, np.zeros(6), np.array([9.0, 0.1, 4.0, 0.2, 1.0, 0.3]))
    prior, shift = HyperPrior(misplaced=0.3), InverseGamma(2.0, 5.0)
    found = [draw_misplaced(rng, small.mu, scatter, prior, shift) for _ in range(DRAWS)]
    shares = np.stack([np.asarray(mu.misplaced) for mu in found])
    for share, away in zip(shares.T, (2.0, 3.0), strict=True):
        law = stats.beta(10.0 * 0.3 + away, 10.0 * 0.7 + 6.0 - away)
        assert stats.kstest(share, law.cdf).pvalue > 1e-3
    widths = np.array([float(mu.misplaced_shift_sd_px) for mu in found])
    law = stats.invgamma(2.0 + 3.0, scale=5.0 + 0.5 * 14.0)
    least = law.cdf((APART * float(small.mu.shift_sd_px)) ** 2)
    assert 0.01 < least < 0.99  # the bound cuts
    assert stats.kstest((law.cdf(widths**2) - least) / (1.0 - least), "uniform").pvalue > 1e-3


def test_the_width_of_other_shifts_is_bounded_by_that_of_misplaced_ones(small):
    """Against SciPy's inverse gamma density, cut at a third of the wider width."""
    rng = np.random.default_rng(4)
    mu = small.mu._replace(misplaced_shift_sd_px=jnp.float32(2.4))
    prior = SomeMisplaced(InverseGamma(2.0, 5.0))
    posterior = replace(small.posterior, pose_prior=prior)
    scatter = Scatter(np.ones(6), np.ones(6), np.zeros(6), np.full(6, 1.5))
    widths = [float(draw_widths(rng, mu, scatter, posterior).shift_sd_px) for _ in range(DRAWS)]
    shift = small.posterior.prior.shift
    law = stats.invgamma(shift.shape + 6.0, scale=shift.scale + 0.5 * 9.0)
    most = law.cdf((2.4 / APART) ** 2)
    assert 0.01 < most < 0.99
    assert stats.kstest(law.cdf(np.square(widths)) / most, "uniform").pvalue > 1e-3
