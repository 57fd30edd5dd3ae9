"""A start at poses that are not the input's, for molecules whose poses a rigid map has found."""

import jax
import jax.numpy as jnp
import numpy as np

from hypermol.fitting.blocks.particles_on_nodes import particles_on_nodes
from hypermol.fitting.blocks.theta_by_adam import AdamPlan, theta_by_adam
from hypermol.molecule.state_basis import Cosine
from hypermol.posterior.priors import HyperPrior
from hypermol.space.rotation import random_quaternions
from simulated import draw_images, draw_prior, make_world


def test_particles_stay_where_they_are_and_theta_climbs_there() -> None:
    world = make_world(
        Cosine(2),
        HyperPrior(n_bins=4),
        box=10,
        kmax=4,
        radius_px=2.5,
        blocks=(64, 16),
        precision=0.1,
    )
    truth = draw_prior(np.random.default_rng(0), world)
    quiet = jnp.full_like(truth.mu.noise_variance, 0.5)
    shape = truth.latents.contrast.shape
    anywhere = random_quaternions(jax.random.key(1), truth.latents.contrast.size)
    latents = truth.latents._replace(quaternion=anywhere.reshape(*shape, 4))
    truth = truth._replace(mu=truth.mu._replace(noise_variance=quiet), latents=latents)
    data = draw_images(jax.random.key(2), world, truth)
    nodes = particles_on_nodes(world.posterior, 8)
    placed, _ = nodes.step(jax.random.key(3), truth, (), data)
    np.testing.assert_array_equal(placed.latents.quaternion, truth.latents.quaternion)
    np.testing.assert_array_equal(placed.latents.shift_px, truth.latents.shift_px)
    away = np.abs(np.asarray(placed.latents.state - truth.latents.state))
    assert away.mean() < 0.15  # a third, if states said nothing
    # at the true poses the true theta is worth more than at the input's, which are others
    climb = theta_by_adam(world.posterior, AdamPlan(1, 1, draws=1, rate=1e-6))
    losses = []
    for poses in (latents, latents._replace(quaternion=data.consensus.quaternion)):
        at = truth._replace(latents=poses)
        losses.append(
            float(climb.step(jax.random.key(4), at, climb.init(at, data), data)[1]["loss"])
        )
    assert losses[0] < losses[1] - 1.0
