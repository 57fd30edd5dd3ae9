"""The trajectories' step: it leaves the posterior as it is, and is caught when it does not.

Trajectories are drawn from their prior, images from them, and the step moves on from the truth. A
step that is exact leaves every marginal as it was (Gandy and Scott 2020; Geweke 2004): parameters
are still standard normal, and the images as likely as before.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from hypermol.data.latents import Consensus, Latents
from hypermol.fitting.blocks import trajectories as module
from hypermol.fitting.blocks.trajectories import trajectories
from hypermol.fitting.sweep import ChainState, Data, init_tunings
from hypermol.imaging.blocks import image_blocks, to_blocks
from hypermol.molecule.composite import Composite, composite
from hypermol.molecule.parts import Part
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import Chebyshev, Constant
from hypermol.molecule.trajectory import Translation
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters, HyperPrior
from hypermol.space.fourier import half_plane
from hypermol.space.rotation import random_quaternions
from hypermol.space.state_space import Interval

BOX, KMAX, N, BLOCK = 10, 4, 12, 6
REPETITIONS, STEPS = 400, 3


def two_parts(scale_angstrom: float) -> Composite:
    """A body at rest and an arm on a straight path."""
    basis = Voxels(BOX, 1.0, KMAX, 3.0)
    path = Translation(Chebyshev(2, Interval("arm")), scale_angstrom)
    return composite((Part("body", basis, Constant()), Part("arm", basis, Constant(), path)))


def given(molecule: Composite) -> tuple[Posterior, ChainState, Data]:
    """Maps, particles and CTFs, with empty images."""
    posterior = Posterior(molecule, half_plane(BOX, KMAX), HyperPrior(n_bins=3))
    plane, rng = posterior.plane, np.random.default_rng(0)
    theta = molecule.init(jax.random.key(0))
    grid = (1, *molecule.parts[0].basis.coefficient_shape)
    maps = {name: jnp.asarray(rng.normal(size=grid), jnp.float32) for name in theta.maps}
    quaternion = to_blocks(np.asarray(random_quaternions(jax.random.key(1), N)), BLOCK)
    shift = to_blocks(np.zeros((N, 2), np.float32), BLOCK)
    shape = quaternion.shape[:2]
    states = jnp.asarray(rng.uniform(size=(*shape, 1)), jnp.float32)
    latents = Latents(quaternion, shift, jnp.ones(shape), states)
    mu = Hyperparameters(
        jnp.full(plane.n_shells, 4.0),
        jnp.ones((2, molecule.parts[0].basis.n_shells)),
        jnp.ones(2),
        *(jnp.asarray(x) for x in (0.1, 1.0, 0.1)),
        jnp.full(posterior.n_bins, 1.0 / posterior.n_bins),
        jnp.zeros(2),
        jnp.float32(1.0),
    )
    theta = theta._replace(maps=maps)
    state = ChainState(theta, mu, latents)
    pixels = np.zeros((N, len(plane.shells)), np.complex64)
    ctf = np.ones(pixels.shape, np.float32)
    return posterior, state, Data(image_blocks(pixels, ctf, BLOCK), Consensus(quaternion, shift))


def moved(
    posterior: Posterior, state: ChainState, data: Data
) -> Callable[[Array], tuple[Array, Array, Array]]:
    """key -> (parameters after, gain in log likelihood, acceptance), the truth from the prior."""
    (block,) = trajectories(posterior)
    tuning = init_tunings((block,), state, data)[block.name]
    sd = jnp.sqrt(0.5 * state.mu.noise_variance[posterior.plane.shells])

    def clean(theta) -> Array:
        prepared = posterior.molecule.prepare(theta)

        def one(item) -> Array:
            return posterior.predict(prepared, *item)

        return jax.lax.map(one, (state.latents, data.images.ctf))

    def misfit(theta, pixels: Array) -> Array:
        return 0.5 * jnp.sum(jnp.abs((pixels - clean(theta)) / sd) ** 2)

    def run(key: Array) -> tuple[Array, Array, Array]:
        draw, noise, step = jax.random.split(key, 3)
        still = state.theta.motion
        path = jax.random.normal(draw, still["arm"].shape)
        truth = state.theta._replace(motion={**still, "arm": path})
        exact = clean(truth)
        white = jax.random.normal(noise, (2, *exact.shape))
        pixels = exact + sd * jax.lax.complex(white[0], white[1])
        seen = data._replace(images=data.images._replace(pixels=pixels))
        chain, accepted = state._replace(theta=truth), []
        for number in range(STEPS):
            chain, info = block.step(jax.random.fold_in(step, number), chain, tuning, seen)
            accepted.append(info["acceptance"])
        gain = misfit(truth, pixels) - misfit(chain.theta, pixels)
        return chain.theta.motion["arm"].reshape(-1), gain, jnp.mean(jnp.stack(accepted))

    return run


def deviations(scale_angstrom: float) -> tuple[np.ndarray, float]:
    """|z| of the parameters' means and squares and of the gain in likelihood; acceptance."""
    run = moved(*given(two_parts(scale_angstrom)))
    keys = jax.random.split(jax.random.key(2), REPETITIONS)
    after, gain, accepted = (np.asarray(x, np.float64) for x in jax.jit(jax.vmap(run))(keys))
    found = np.column_stack([after, after**2 - 1.0, gain])
    z = found.mean(axis=0) / (found.std(axis=0) / np.sqrt(len(found)))
    return np.abs(z), float(accepted.mean())


@pytest.mark.parametrize("scale_angstrom", [0.3, 1.0])
def test_the_step_leaves_the_posterior_as_it_is(scale_angstrom: float):
    z, accepted = deviations(scale_angstrom)
    assert z.max() < 4.0, z
    assert 0.3 < accepted < 0.999, accepted


def test_a_step_that_weighs_images_wrongly_is_caught(monkeypatch):
    whole = module.theta_differentiable

    def halved(posterior, given):
        noisier = given.mu._replace(noise_variance=2.0 * given.mu.noise_variance)
        return whole(posterior, given._replace(mu=noisier))

    monkeypatch.setattr(module, "theta_differentiable", halved)
    z, _ = deviations(1.0)
    assert z.max() > 6.0, z


def test_nothing_to_learn_is_no_block():
    basis = Voxels(BOX, 1.0, KMAX, 3.0)
    still = composite((Part("body", basis, Constant()),))
    assert trajectories(Posterior(still, half_plane(BOX, KMAX), HyperPrior(n_bins=3))) == ()
