"""The particles' conditionals are those of the joint posterior, in every form kernels ask for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.data.latents import Latents
from hypermol.inference.ensemble import contrast_marginal
from hypermol.molecule.state_basis import Cosine
from hypermol.posterior.particle_conditional import (
    no_move,
    one_image,
    particle_density,
    particle_differentiable,
    particle_information,
    particles_separable,
    retract,
)
from hypermol.posterior.pose_priors import log_pose
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import HyperPrior, InverseGamma
from hypermol.space.fourier import half_plane
from hypermol.space.rotation import matrix_from_quaternion
from hypermol.space.state_space import Interval
from simulated import World, draw_images, draw_prior, given, make_world, normal_like
from small_molecules import two_lobes
from small_posterior import BLOCK, flat, make_small, quaternions


@pytest.fixture(scope="module")
def small():
    return make_small()


@pytest.fixture(scope="module")
def log_joint(small):
    """latents -> particle terms [BLOCKS, BLOCK]."""

    def evaluate(latents):
        terms = small.posterior.terms(small.theta, small.mu, latents, small.consensus, small.images)
        return terms.likelihood + terms.particle_prior

    return evaluate


@pytest.fixture(scope="module")
def candidates(small):
    """Other poses, states and contrasts of the first block: J, S, T and C of each."""
    rng = np.random.default_rng(2)
    j, s, t = 3, 2, 2
    centre = Rotation.from_quat(flat(small.consensus.quaternion)[:BLOCK][:, [1, 2, 3, 0]])
    turned = [
        quaternions(Rotation.from_rotvec(0.15 * rng.normal(size=(BLOCK, 3))) * centre)
        for _ in range(j)
    ]
    shifts = flat(small.consensus.shift_px)[:BLOCK, None] + rng.normal(size=(BLOCK, s, 2))
    states = rng.random((BLOCK, t, 1))
    return tuple(
        jnp.asarray(v, jnp.float32)
        for v in (np.stack(turned, axis=1), shifts, states, rng.normal(1.0, 0.2, (BLOCK, 4)))
    )


@pytest.fixture(scope="module")
def scores(small, candidates):
    """(log-likelihood as quadratic [B, J, S, T, C], log priors [B, J, S, T])."""
    turned, shifts, states, contrasts = candidates

    @jax.jit
    def evaluate():
        block = jax.tree.map(lambda x: x[0], (small.consensus, small.images))
        prepared = small.posterior.molecule.prepare(small.theta)
        target = particles_separable(small.posterior, prepared, small.mu, *block)
        places = jnp.zeros((*turned.shape[:2], 1))
        gram, linear = target.evidence(matrix_from_quaternion(turned), places, shifts)
        w = target.weights(states)
        along = jnp.einsum("bjsf,btf->bjst", linear, w)
        power = jnp.broadcast_to(
            jnp.einsum("btf,bjfg,btg->bjt", w, gram, w)[:, :, None], along.shape
        )
        a = contrasts[:, None, None, None]
        prior = (
            log_pose(turned, target.rotation_prior.centre[:, None], target.rotation_prior.sd_rad)[
                :, :, None, None
            ]
            + target.log_shift(shifts)[:, None, :, None]
            + target.log_state(states)[:, None, None, :]
        )
        quadratic = a * along[..., None] - 0.5 * a**2 * power[..., None]
        return quadratic, prior, (along, power, target.contrast_precision)

    return evaluate()


def test_evidence_is_the_likelihood_up_to_a_constant(small, log_joint, candidates, scores):
    """Every candidate pose, state and contrast: differences of the joint posterior."""
    turned, shifts, states, contrasts = candidates
    value = jax.jit(lambda latents: log_joint(latents)[0])
    sd = float(small.mu.contrast_sd)
    found, expected = [], []
    for j, s, t, c in [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (2, 1, 1, 3)]:
        mine = (turned[:, j], shifts[:, s], contrasts[:, c], states[:, t])
        latents = Latents(*(x.at[0].set(m) for x, m in zip(small.latents, mine, strict=True)))
        expected.append(np.asarray(value(latents), np.float64))
        contrast_prior = -0.5 * (np.asarray(contrasts[:, c]) - 1.0) ** 2 / sd**2
        found.append(scores[0][:, j, s, t, c] + scores[1][:, j, s, t] + contrast_prior)
    found, expected = np.stack(found), np.stack(expected)
    assert np.ptp(expected, axis=0).min() > 1.0
    np.testing.assert_allclose(found - found[0], expected - expected[0], rtol=1e-4, atol=2e-3)


def test_contrast_is_integrated_out(scores):
    """Against the sum over a fine grid of contrasts: differences between candidates."""
    along, power, precision = scores[2]
    found = np.asarray(contrast_marginal(along, power, precision), np.float64)
    a = np.linspace(-1.5, 3.5, 4001)
    exponent = (
        a * np.asarray(along, np.float64)[..., None]
        - 0.5 * a**2 * np.asarray(power, np.float64)[..., None]
        - 0.5 * (a - 1) ** 2 * float(precision)
    )
    top = exponent.max(axis=-1, keepdims=True)
    expected = np.log(np.sum(np.exp(exponent - top), axis=-1)) + top[..., 0]
    difference = found - expected
    np.testing.assert_allclose(difference, difference.flat[0], atol=1e-3)


PRIOR = HyperPrior(noise=InverseGamma(8.0, 8.0), n_bins=1)


def voxels() -> World:
    return make_world(
        Cosine(2), PRIOR, box=12, kmax=4, radius_px=3.0, blocks=(6, 6), precision=0.15
    )


def black_box() -> World:
    posterior = Posterior(two_lobes(Interval(), 12, 4, 0.0), half_plane(12, 4), PRIOR)

    def draw(rng, posterior, mu):
        return normal_like(rng, posterior.molecule.init(jax.random.key(0)))

    return given(posterior, jnp.zeros((0, 6)), draw, (6, 6))


@pytest.fixture(scope="module", params=[voxels, black_box], ids=lambda make: make.__name__)
def drawn(request):
    """(world, chain, data), all of one block."""
    world = request.param()
    state = draw_prior(np.random.default_rng(1), world)
    return world, state, draw_images(jax.random.key(1), world, state)


def particle(i: int, *trees):
    return [jax.tree.map(lambda x: x[0, i], tree) for tree in trees]


def test_particle_gradient_is_that_of_finite_differences(drawn):
    """By rotation vector, shift, contrast and state; slices of voxels have kinks, hence the width
    of the difference and what is let pass."""
    world, state, data = drawn
    posterior, step = world.posterior, 0.02
    other = draw_prior(np.random.default_rng(2), world).latents
    other = other._replace(state=0.1 + 0.8 * other.state)  # the ends are kinks

    @jax.jit
    def compare(latents, consensus, pixels, ctf):
        prepared = posterior.molecule.prepare(state.theta)
        given_all = (posterior, prepared, state.mu, consensus, (pixels, ctf))
        target, density = particle_differentiable(*given_all), particle_density(*given_all)
        value, gradient = target.value_and_gradient(latents)
        zero, rebuild = jax.flatten_util.ravel_pytree(no_move(latents))

        def along(move):
            return density.log_density(retract(latents, rebuild(move)))

        moves = step * jnp.eye(len(zero))
        differences = (jax.vmap(along)(moves) - jax.vmap(along)(-moves)) / (2.0 * step)
        return value - along(zero), jax.flatten_util.ravel_pytree(gradient)[0], differences

    found, expected = [], []
    for i in range(6):
        given_one = particle(i, other, data.consensus, data.images.pixels, data.images.ctf)
        change, gradient, differences = compare(*given_one)
        assert abs(float(change)) < 1e-3
        found.append(gradient)
        expected.append(differences)
    found, expected = np.stack(found), np.stack(expected)
    scale = np.abs(expected).max(axis=0)
    allowed = 0.1 if posterior.molecule.is_linear else 0.01
    np.testing.assert_array_less(np.abs(found - expected).max(axis=0), allowed * scale + 1e-3)


def test_particle_information_is_the_jacobians(drawn):
    """J' J of the images over the latents, weighed by the precision, by reverse mode."""
    world, state, data = drawn
    posterior = world.posterior

    @jax.jit
    def both(latents, ctf):
        prepared = posterior.molecule.prepare(state.theta)
        zero, rebuild = jax.flatten_util.ravel_pytree(no_move(latents))

        def image(move):
            moved = one_image(posterior, prepared, ctf, retract(latents, rebuild(move)))
            return jnp.concatenate([moved.real, moved.imag])

        found = particle_information(posterior, prepared, state.mu, latents, ctf)
        return found, jax.jacrev(image)(zero)

    noise = np.asarray(state.mu.noise_variance, np.float64)[posterior.plane.shells]
    for i in range(3):
        found, jacobian = both(*particle(i, state.latents, data.images.ctf))
        jacobian = np.asarray(jacobian, np.float64)
        expected = jacobian.T @ (2.0 / np.tile(noise, 2)[:, None] * jacobian)
        scale = np.sqrt(np.diag(expected))
        allowed = 0.05 * scale[:, None] * scale + 1e-3 * expected.max()
        np.testing.assert_array_less(np.abs(found - expected), allowed)
