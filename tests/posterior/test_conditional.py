"""The conditionals that kernels sample are those of the joint posterior of eq. 29."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypermol.posterior.conditional import (
    molecule_differentiable,
    molecule_quadratic,
    particle_conditional,
    shell_counts,
)
from scipy.spatial.transform import Rotation

from hypermol.data.latents import Latents
from hypermol.inference.ensemble import contrast_marginal
from hypermol.posterior.priors import log_pose
from hypermol.space.rotation import matrix_from_quaternion
from one_part import one_part
from small_posterior import BLOCK, BLOCKS, N, flat, make_small, quaternions


@pytest.fixture(scope="module")
def small():
    return make_small()


@pytest.fixture(scope="module")
def log_joint(small):
    """(maps, latents) -> (sum of the terms that hold theta, particle terms [BLOCKS, BLOCK])."""

    def evaluate(maps, latents):
        terms = small.posterior.terms(
            one_part(maps), small.nuisance, latents, small.consensus, small.images
        )
        return terms.molecule_prior + jnp.sum(terms.likelihood), (
            terms.likelihood + terms.particle_prior
        )

    return evaluate


@pytest.fixture(scope="module")
def theta_gradient(log_joint, small):
    return jax.jit(jax.grad(lambda maps: log_joint(maps, small.latents)[0]))


def quadratic(small):
    return molecule_quadratic(
        small.posterior, small.nuisance, small.latents, small.images, small.theta
    )


@pytest.fixture(scope="module")
def quadratic_parts(small):
    """(linear, maps -> A maps), compiled."""
    linear = jax.jit(lambda: quadratic(small).linear)()
    return np.asarray(linear[""]), jax.jit(lambda maps: quadratic(small).apply({"": maps})[""])


def test_theta_gradient_is_linear_minus_apply(small, theta_gradient, quadratic_parts):
    linear, apply = quadratic_parts
    expected = np.asarray(theta_gradient(small.theta.maps[""]))
    found = linear - np.asarray(apply(small.theta.maps[""]))
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def test_theta_conditional_is_quadratic(small, log_joint, quadratic_parts):
    """log P(theta) - log P(0) = b.theta - theta' A theta / 2."""
    linear, apply = quadratic_parts
    maps = np.asarray(small.theta.maps[""], np.float64)
    expected = np.vdot(linear, maps) - 0.5 * np.vdot(maps, np.asarray(apply(small.theta.maps[""])))
    value = jax.jit(lambda m: log_joint(m, small.latents)[0])
    found = float(value(small.theta.maps[""])) - float(value(jnp.zeros_like(small.theta.maps[""])))
    assert found == pytest.approx(expected, rel=1e-4)


def test_apply_is_symmetric_and_positive(small, quadratic_parts):
    _, apply = quadratic_parts
    rng = np.random.default_rng(1)
    support = small.posterior.molecule.parts[0].basis.support
    x, y = (rng.normal(size=(2, *support.shape)).astype(np.float32) * support for _ in range(2))
    ax, ay = np.asarray(apply(x), np.float64), np.asarray(apply(y), np.float64)
    assert np.vdot(y, ax) == pytest.approx(np.vdot(x, ay), abs=1e-5 * float(np.vdot(x, ax)))
    assert np.vdot(x, ax) > 0


def test_differentiable_form_is_the_same_density(small, log_joint, theta_gradient):
    @jax.jit
    def evaluate(first, second):
        target = molecule_differentiable(
            small.posterior, small.nuisance, small.latents, small.images
        )
        terms, gradient = target.value_and_gradient(one_part(first))
        joint = [log_joint(maps, small.latents)[0] for maps in (first, second)]
        return terms - target.log_density(one_part(second)), gradient.maps[""], joint

    maps = small.theta.maps[""]
    difference, gradient, joint = evaluate(maps, 0.5 * maps)
    assert float(difference.sum()) == pytest.approx(float(joint[0] - joint[1]), rel=1e-4)
    expected = np.asarray(theta_gradient(maps))
    np.testing.assert_allclose(gradient, expected, atol=2e-4 * np.abs(expected).max())


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
        target = particle_conditional(small.posterior, prepared, small.nuisance, *block)
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
    value = jax.jit(lambda latents: log_joint(small.theta.maps[""], latents)[1][0])
    sd = float(small.nuisance.contrast_sd)
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


def test_shell_counts_are_those_of_the_half_plane(small):
    counts = shell_counts(small.posterior)
    assert counts.sum() == len(small.posterior.plane.shells)
    assert counts[0] == 0 and counts[1] == 4  # (1, 0), (0, 1), (1, 1), (1, -1)
    assert BLOCKS * BLOCK == N
