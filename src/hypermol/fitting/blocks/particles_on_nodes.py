"""A start: every particle at the pose that it has, its state a node drawn by likelihood. Not exact.

Poses are the input's, or those that a rigid map found where they may be anywhere.
"""

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.fitting.sweep import Block, ChainState, Data, Info, Tuning
from hypermol.inference import ensemble
from hypermol.posterior.particle_conditional import particles_separable
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters
from hypermol.space.rotation import matrix_from_quaternion


def at_own_poses(state: ChainState, data: Data) -> Data:
    """The data with every particle's present pose in place of the input's."""
    latents = state.latents
    return data._replace(consensus=Consensus(latents.quaternion, latents.shift_px))


def node_scores(
    posterior: Posterior,
    prepared: object,
    mu: Hyperparameters,
    consensus: Consensus,
    images: ImageBlocks,
    nodes: Array,
) -> tuple[Array, Array, Array]:
    """How well each node explains each image at a pose, contrast integrated out.

    Args:
        posterior, prepared, mu: of any molecule.
        consensus, images: of B particles, whose poses these are.
        nodes: [J, dim] states.

    Returns:
        log-likelihood [B, J] up to a constant of the image; and its contrast's linear and
        quadratic coefficients [B, J] (`inference.ensemble.contrast_marginal`).
    """
    block, n_nodes = len(images.present), len(nodes)
    target = particles_separable(posterior, prepared, mu, consensus, images)
    turned = jnp.broadcast_to(consensus.quaternion[:, None], (block, n_nodes, 4))
    states = jnp.broadcast_to(nodes, (block, *nodes.shape))
    gram, linear = target.evidence(
        matrix_from_quaternion(turned), states, consensus.shift_px[:, None]
    )
    weights = target.weights(nodes)
    along = jnp.einsum("bjf,jf->bj", linear[:, :, 0], weights)
    power = jnp.einsum("jf,bjfg,jg->bj", weights, gram, weights)
    scores = ensemble.contrast_marginal(along, power, target.contrast_precision)
    return scores, along, power


def particles_on_nodes(posterior: Posterior, n_nodes: int) -> Block:
    """Poses as they are, states from about `n_nodes` nodes, contrasts given them."""
    space = posterior.molecule.state_space

    @jax.jit
    def step(key: Array, state: ChainState, tuning: Tuning, data: Data) -> tuple[ChainState, Info]:
        nodes = space.nodes(n_nodes)
        prepared = posterior.molecule.prepare(state.theta)
        precision = 1.0 / state.mu.contrast_sd**2

        def block(item: tuple[Array, ImageBlocks, Consensus]) -> Latents:
            key, images, consensus = item
            keys = jax.random.split(key)
            scores, along, power = node_scores(
                posterior, prepared, state.mu, consensus, images, nodes
            )
            chosen = jax.random.categorical(keys[0], scores)
            row = jnp.arange(len(chosen))
            contrast = ensemble.draw_contrast(
                keys[1], along[row, chosen], power[row, chosen], precision
            )
            return Latents(consensus.quaternion, consensus.shift_px, contrast, nodes[chosen])

        keys = jax.random.split(key, data.images.present.shape[0])
        given = at_own_poses(state, data)
        latents = jax.lax.map(block, (keys, given.images, given.consensus))
        return state._replace(latents=latents), {}

    return Block("particles on nodes", step, is_exact=False)
