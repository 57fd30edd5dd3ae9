"""theta's conditionals are those of the joint posterior of eq. 29, and of dense linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.fitting.sweep import ChainState, Data
from hypermol.imaging.blocks import from_blocks
from hypermol.inference.target import Quadratic
from hypermol.molecule.state_basis import Cosine
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import HyperPrior, InverseGamma
from hypermol.posterior.theta_conditional import (
    Given,
    full_block_count,
    group_count,
    theta_differentiable,
    theta_quadratic,
)
from hypermol.space.fourier import half_plane
from hypermol.space.state_space import Interval
from one_part import one_part
from simulated import (
    World,
    draw_images,
    draw_prior,
    falling_spectrum,
    given,
    linear_theta,
    make_world,
    normal_like,
)
from small_molecules import hinged_pair, two_lobes
from small_posterior import BLOCK, BLOCKS, N, make_small


@pytest.fixture(scope="module")
def small():
    return make_small()


@pytest.fixture(scope="module")
def log_joint(small):
    """maps -> sum of the terms that hold theta."""

    def evaluate(maps):
        terms = small.posterior.terms(one_part(maps), *small[2:])
        return terms.theta_prior + jnp.sum(terms.likelihood)

    return evaluate


@pytest.fixture(scope="module")
def theta_gradient(log_joint):
    return jax.jit(jax.grad(log_joint))


def given_of(small) -> Given:
    return Given(small.mu, small.latents, small.images)


def quadratic(small) -> Quadratic:
    return theta_quadratic(small.posterior, given_of(small), small.theta)


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
    value = jax.jit(log_joint)
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
        target = theta_differentiable(small.posterior, given_of(small))
        terms, gradient = target.value_and_gradient(one_part(first))
        joint = [log_joint(maps) for maps in (first, second)]
        return terms - target.log_density(one_part(second)), gradient.maps[""], joint

    maps = small.theta.maps[""]
    difference, gradient, joint = evaluate(maps, 0.5 * maps)
    assert float(difference.sum()) == pytest.approx(float(joint[0] - joint[1]), rel=1e-4)
    expected = np.asarray(theta_gradient(maps))
    np.testing.assert_allclose(gradient, expected, atol=2e-4 * np.abs(expected).max())


def test_shell_counts_are_those_of_the_half_plane(small):
    counts = small.posterior.shell_counts
    assert counts.sum() == len(small.posterior.plane.shells)
    assert counts[0] == 0 and counts[1] == 4  # (1, 0), (0, 1), (1, 1), (1, -1)
    assert BLOCKS * BLOCK == N


PRIOR = HyperPrior(noise=InverseGamma(8.0, 8.0), n_bins=3)


def grouped_world(n: int, block: int) -> tuple[World, ChainState, Data]:
    """n particles in blocks that fall into several groups, absent ones at the end."""
    world = make_world(
        Cosine(2), PRIOR, box=8, kmax=3, radius_px=1.5, blocks=(n, block), precision=0.15
    )
    state = draw_prior(np.random.default_rng(4), world)
    return world, state, draw_images(jax.random.key(4), world, state)


def dense_normal(world: World, state: ChainState, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """(A, b) of theta's conditional on the voxels in the ball, float64: images of unit maps, full
    plane sums and the prior's Fourier multiplier in NumPy."""
    posterior, basis = world.posterior, world.posterior.molecule.parts[0].basis
    where = np.flatnonzero(np.tile(basis.support.reshape(-1), 2))
    units = np.zeros((len(where), 2 * basis.support.size), np.float32)
    units[np.arange(len(where)), where] = 1.0
    units = units.reshape(-1, 2, *basis.support.shape)
    n = int(data.images.present.sum())
    latents, ctf, pixels = jax.tree.map(
        lambda x: jnp.asarray(from_blocks(x, n)),
        (state.latents, data.images.ctf, data.images.pixels),
    )

    def image(maps):
        prepared = posterior.molecule.prepare(one_part(maps))
        return posterior.predict(prepared, latents, ctf)

    design = np.asarray(jax.jit(lambda u: jax.lax.map(image, u))(units), np.complex128)
    design = design.reshape(len(units), -1)
    weight = 2.0 / np.asarray(state.mu.noise_variance, np.float64)[posterior.plane.shells]
    weight = np.tile(weight, n)
    shells = np.rint(np.linalg.norm(basis_frequencies(basis.n), axis=0)).astype(int)
    shells = np.minimum(shells, basis.n_shells - 1)
    power = np.asarray(state.mu.level[:, None] * state.mu.spectrum, np.float64)[:, shells]
    spectra = np.fft.fftn(units.astype(np.float64), axes=(2, 3, 4))
    prior = np.einsum("afzyx,fzyx,bfzyx->ab", spectra.conj(), power, spectra).real / basis.n**3
    matrix = (design.conj() * weight) @ design.T
    linear = (design.conj() * weight) @ np.asarray(pixels, np.complex128).reshape(-1)
    return matrix.real + prior, linear.real


def basis_frequencies(n: int) -> np.ndarray:
    """[3, n, n, n]."""
    axis = np.fft.fftfreq(n, 1.0 / n)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))


def in_ball(world: World, maps) -> np.ndarray:
    """float64 [..., M]: maps [..., 2, n, n, n] at the voxels in the ball."""
    support = world.posterior.molecule.parts[0].basis.support
    values = np.asarray(maps, np.float64)
    flat_values = values.reshape(*values.shape[:-4], -1)
    return flat_values[..., np.flatnonzero(np.tile(support.reshape(-1), 2))]


@pytest.mark.parametrize(("n", "block"), [(7, 4), (33, 2)], ids=["one group", "three groups"])
def test_quadratic_is_the_dense_normal_matrix(n: int, block: int):
    world, state, data = grouped_world(n, block)
    n_blocks = data.images.present.shape[0]
    assert n_blocks == full_block_count(-(-n // block))
    assert group_count(n_blocks) == (1 if n == 7 else 3)
    matrix, linear = dense_normal(world, state, data)

    @jax.jit
    def found(state, data, keys):
        target = theta_quadratic(
            world.posterior, Given(state.mu, state.latents, data.images), state.theta
        )
        maps = state.theta.maps
        perturbed = jax.lax.map(lambda key: target.perturbed_residual(key, maps), keys)
        return target.linear, target.apply(maps), perturbed

    draws = 2000
    keys = jax.random.split(jax.random.key(5), draws)
    b, image, perturbed = (in_ball(world, maps[""]) for maps in found(state, data, keys))
    theta = in_ball(world, state.theta.maps[""])
    np.testing.assert_allclose(b, linear, atol=1e-4 * np.abs(linear).max())
    np.testing.assert_allclose(image, matrix @ theta, atol=1e-4 * np.abs(image).max())
    white = np.linalg.solve(np.linalg.cholesky(matrix), (perturbed - (linear - matrix @ theta)).T)
    assert np.abs(white.mean(axis=1)).max() < 4.5 / np.sqrt(draws)
    covariance = white @ white.T / draws
    assert np.abs(covariance - np.eye(len(theta))).max() < 5.0 * np.sqrt(2.0 / draws)


def world_with_a_trajectory() -> World:
    molecule = hinged_pair(8, 3, 1.5)
    spectrum = falling_spectrum(molecule, 0.15)
    posterior = Posterior(molecule, half_plane(8, 3), PRIOR)
    return given(posterior, spectrum, linear_theta(molecule, spectrum), (21, 2))


def world_of_a_black_box() -> World:
    posterior = Posterior(two_lobes(Interval(), 8, 3, 0.0), half_plane(8, 3), PRIOR)

    def draw(rng, posterior, mu):
        return normal_like(rng, posterior.molecule.init(jax.random.key(0)))

    return given(posterior, jnp.zeros((0, 5)), draw, (21, 2))


def world_of_maps() -> World:
    return make_world(
        Cosine(2), PRIOR, box=8, kmax=3, radius_px=1.5, blocks=(21, 2), precision=0.15
    )


@pytest.mark.parametrize(
    "make", [world_of_maps, world_with_a_trajectory, world_of_a_black_box], ids=lambda f: f.__name__
)
def test_theta_gradient_is_that_of_finite_differences(make):
    """Along random directions; the hinge moves slices over the kinks of their interpolation."""
    world = make()
    state = draw_prior(np.random.default_rng(1), world)
    data = draw_images(jax.random.key(1), world, state)
    target = theta_differentiable(world.posterior, Given(state.mu, state.latents, data.images))
    away = draw_prior(np.random.default_rng(2), world).theta
    rng, step = np.random.default_rng(3), 0.01

    @jax.jit
    def compare(theta, way):
        terms, gradient = target.value_and_gradient(theta)
        ahead = target.log_density(jax.tree.map(lambda x, d: x + step * d, theta, way))
        behind = target.log_density(jax.tree.map(lambda x, d: x - step * d, theta, way))
        slope = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, way)))
        change = jnp.sum(terms - target.log_density(theta))
        return slope, jnp.sum(ahead - behind) / (2.0 * step), change

    def way_of():
        drawn = world.draw_theta(rng, world.posterior, state.mu)
        return jax.tree.map(lambda x: x / np.sqrt(max(x.size, 1)), drawn)

    rows = np.array([compare(away, way_of()) for _ in range(8)], np.float64)
    slopes, differences, changes = rows.T
    np.testing.assert_allclose(slopes, differences, atol=0.03 * np.abs(differences).max())
    assert np.abs(changes).max() < 1e-2
