"""How well a fitted model predicts images that it has not seen: held-out log-likelihood.

Given theta and mu, an image's latents are integrated out: contrast exactly, states on a grid,
rotation, shift and the states that are positions by importance sampling about where a short chain
on the image alone spent its time. Hypotheses about a molecule are ordered by the mean over images
(sec. 6.1): a model that is too rigid cannot explain them, one that is too free has spread its
prior too thin.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import Consensus, ImageBlocks
from hypermol.fitting.blocks.particles_by_candidates import particles_by_candidates
from hypermol.fitting.level import Level
from hypermol.fitting.march import first_state
from hypermol.fitting.sweep import Block, ChainState
from hypermol.inference.ensemble import CandidateCounts, contrast_marginal
from hypermol.inference.target import Separable
from hypermol.posterior.particle_conditional import particles_separable
from hypermol.posterior.pose_priors import pose_vector
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters
from hypermol.runtime import BlockLoop, block_loop
from hypermol.space.rotation import (
    matrix_from_quaternion,
    quaternion_from_vector,
    quaternion_multiply,
)

#: Proposals are wider than the chain's scatter by this factor.
_WIDER = 1.5
#: Smallest proposal widths, as shares of the priors'.
_FLOOR = 0.05


class Effort(NamedTuple):
    """How much work an image gets.

    Attributes:
        burn_in, kept: sweeps of its own chain.
        rotations, shifts: importance draws; all pairs are weighed.
        states: points of the grid of states.
        positions: draws of positions for each rotation, where any state is one.
    """

    burn_in: int = 20
    kept: int = 20
    rotations: int = 24
    shifts: int = 16
    states: int = 144
    positions: int = 8


EFFORT = Effort()


def log_normal(values: Array, sd: Array) -> Array:
    """log N(values; 0, sd^2) [...] of [..., d], without (2 pi)^(-d/2)."""
    return -0.5 * jnp.sum((values / sd) ** 2, -1) - values.shape[-1] * jnp.log(sd)


class _Proposal(NamedTuple):
    """Half a Gaussian per image, half the prior, which bounds the weights.

    The Gaussian has mean [B, d] and the root of its covariance [B, d, d].
    """

    mean: Array
    root: Array

    def draw(self, key: Array, n: int, prior_sd: Array) -> Array:
        """[B, n, d], as many from either half."""
        white = jax.random.normal(key, (self.mean.shape[0], n, self.mean.shape[1]))
        fitted = self.mean[:, None] + jnp.einsum("bij,bnj->bni", self.root, white)
        return jnp.where((jnp.arange(n) % 2 == 0)[:, None], fitted, prior_sd * white)

    def log_density(self, values: Array, prior_sd: Array) -> Array:
        """[B, n], without (2 pi)^(-d/2)."""
        both = jnp.stack([self._log_fitted(values), log_normal(values, prior_sd)])
        return jax.nn.logsumexp(both, axis=0) - np.log(2.0)

    def _log_fitted(self, values: Array) -> Array:
        white = jnp.linalg.solve(self.root, (values - self.mean[:, None]).swapaxes(1, 2))
        determinant = jnp.sum(jnp.log(jnp.abs(jnp.diagonal(self.root, axis1=1, axis2=2))), -1)
        return -0.5 * jnp.sum(white**2, axis=1) - determinant[:, None]


def _fitted(draws: np.ndarray, prior_sd: float) -> _Proposal:
    """The proposal about draws [S, B, d] of a chain."""
    mean = draws.mean(axis=0)
    away = draws - mean
    covariance = _WIDER**2 * np.einsum("sbi,sbj->bij", away, away) / max(len(draws) - 1, 1)
    covariance += (_FLOOR * prior_sd) ** 2 * np.eye(draws.shape[-1])
    return _Proposal(
        jnp.asarray(mean, jnp.float32), jnp.asarray(np.linalg.cholesky(covariance), jnp.float32)
    )


class _Visited(NamedTuple):
    """Where an image's own chain was: rotation vectors [S, N', 3] and shifts [S, N', 2] from the
    consensus, states [S, N', dim]."""

    vectors: np.ndarray
    shifts: np.ndarray
    states: np.ndarray


class _Kernels(NamedTuple):
    """What is compiled once for all samples: the steps of an image's chain, and its evidence."""

    steps: Block
    evidence: BlockLoop


def _kernels(posterior: Posterior, effort: Effort) -> _Kernels:
    def shared(given: tuple[Any, Hyperparameters]) -> Callable[[_Item], Array]:
        theta, mu = given
        prepared = posterior.molecule.prepare(theta)
        return lambda item: _block_evidence(posterior, prepared, mu, item, effort)

    steps = particles_by_candidates(posterior, CandidateCounts(5, 3, 36))
    return _Kernels(steps, block_loop(shared))


def _chain(level: Level, state: ChainState, block: Block, effort: Effort) -> _Visited:
    """A short chain of every image on its own."""
    tuning = block.init(state, level.data)
    found = []
    for sweep in range(effort.burn_in + effort.kept):
        state, info = block.step(jax.random.key(sweep), state, tuning, level.data)
        if sweep < effort.burn_in:
            tuning = block.adapt(tuning, info)
            continue
        latents, consensus = state.latents, level.data.consensus
        visited = (
            pose_vector(latents.quaternion, consensus.quaternion),
            latents.shift_px - consensus.shift_px,
            latents.state,
        )
        found.append(jax.device_get(visited))
    shapes, n = (3, 2, level.molecule.state_space.dim), level.data.images.present.size
    return _Visited(
        *(
            np.stack(values).reshape(effort.kept, n, size).astype(np.float64)
            for values, size in zip(zip(*found, strict=True), shapes, strict=True)
        )
    )


def _shares(level: Level, states: np.ndarray, n: int) -> np.ndarray:
    """Share of a chain's states [S, N', dim] that each of about n nodes is nearest to, [N', T]."""
    space = level.molecule.state_space
    nodes = np.asarray(space.nodes(n), np.float64)
    away = np.sum(space.difference(states[:, :, None], nodes) ** 2, axis=-1)
    nearest = np.argmin(away, axis=-1)
    return np.mean(nearest[..., None] == np.arange(len(nodes)), axis=0)


def _log_contrast_evidence(along: Array, power: Array, precision: Array) -> Array:
    """log of the integral of exp(a along - a^2 power / 2) N(a; 1, 1 / precision) over a."""
    return contrast_marginal(along, power, precision) + 0.5 * (jnp.log(precision) - precision)


def _weighed_states(
    posterior: Posterior, target: Separable, shares: Array, key: Array, shape: tuple[int, int, int]
) -> tuple[Array, Array]:
    """States that every view is paired with, and the logarithms of their weights.

    All nodes with their prior's; of molecules some of whose states are positions, one node a view,
    drawn half by where the image's chain was and half evenly, with prior over chance.

    Args:
        posterior, target: of a block.
        shares: [B, T] of the chain's visits to the nodes.
        key: of the draws.
        shape: (B, J, about T).

    Returns:
        states [B, J, T or 1, dim] and log weights [B, J, T or 1].
    """
    block, views, n = shape
    nodes = posterior.molecule.state_space.nodes(n)
    prior = jax.nn.log_softmax(target.log_state(nodes))
    if not any(target.is_position):
        every = (block, views, len(nodes))
        return jnp.broadcast_to(nodes, (*every, nodes.shape[-1])), jnp.broadcast_to(prior, every)
    chance = jnp.log(0.5 * shares + 0.5 / len(nodes))
    chosen = jax.random.categorical(key, chance, shape=(views, block)).T
    weight = prior[chosen] - jnp.take_along_axis(chance, chosen, axis=1)
    return nodes[chosen][:, :, None], weight[:, :, None]


class _Item(NamedTuple):
    """What the evidence of one block is made from."""

    images: ImageBlocks
    consensus: Consensus
    turns: _Proposal
    slips: _Proposal
    shares: Array
    key: Array


def _block_evidence(
    posterior: Posterior, prepared: Any, mu: Hyperparameters, item: _Item, effort: Effort
) -> Array:
    """log p(image | theta, mu) for one block, [B]."""
    images, consensus = item.images, item.consensus
    target = particles_separable(posterior, prepared, mu, consensus, images)
    keys = jax.random.split(item.key, 3)
    n_views = effort.rotations * (effort.positions if any(target.is_position) else 1)
    turns = item.turns.draw(keys[0], n_views, mu.pose_sd_rad)
    slips = item.slips.draw(keys[1], effort.shifts, mu.shift_sd_px)
    quaternions = quaternion_multiply(quaternion_from_vector(turns), consensus.quaternion[:, None])
    states, weight = _weighed_states(
        posterior, target, item.shares, keys[2], (len(turns), n_views, effort.states)
    )
    gram, linear = target.evidence(
        matrix_from_quaternion(quaternions), states[:, :, 0], consensus.shift_px[:, None] + slips
    )
    weights = target.weights(states)
    along = jnp.einsum("bjsf,bjtf->bjst", linear, weights)
    power = jnp.einsum("bjtf,bjfg,bjtg->bjt", weights, gram, weights)[:, :, None]
    score = _log_contrast_evidence(along, power, target.contrast_precision)
    score = jax.nn.logsumexp(score + weight[:, :, None], axis=-1)
    turn_sd, slip_sd = mu.pose_sd_rad, mu.shift_sd_px
    turned = log_normal(turns, turn_sd) - item.turns.log_density(turns, turn_sd)
    slipped = log_normal(slips, slip_sd) - item.slips.log_density(slips, slip_sd)
    score = score + turned[:, :, None] + slipped[:, None]
    score = jax.nn.logsumexp(score, axis=(1, 2)) - np.log(n_views * effort.shifts)
    return score + posterior.log_likelihood(images.pixels, jnp.zeros_like(images.pixels), mu)


def _evidence(
    level: Level, state: ChainState, number: int, kernels: _Kernels, effort: Effort
) -> np.ndarray:
    """log p(image | theta, mu) of all images under one sample, float64 [N]."""
    data = level.data
    shape = data.images.present.shape
    visited = _chain(level, state, kernels.steps, effort)
    fitted = (
        _fitted(visited.vectors, float(state.mu.pose_sd_rad)),
        _fitted(visited.shifts, float(state.mu.shift_sd_px)),
        jnp.asarray(_shares(level, visited.states, effort.states), jnp.float32),
    )
    turns, slips, shares = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), fitted)
    keys = jax.random.split(jax.random.key(number), shape[0])
    items = _Item(data.images, data.consensus, turns, slips, shares, keys)
    values = kernels.evidence(items, (state.theta, state.mu))
    return np.asarray(values, np.float64)[np.asarray(data.images.present) > 0]


def held_out_log_likelihood(
    level: Level, samples: list[ChainState], effort: Effort = EFFORT
) -> np.ndarray:
    """log predictive probability of every image of a level, averaged over posterior samples.

    Args:
        level: the molecule and posterior of the fit, with the held-out images as its data.
        samples: states of the fit of which theta and mu count; their latents belong to others.
        effort: see `Effort`.

    Returns:
        float64 [N], in nats, up to a constant that is the same for every model of these images.

    Raises:
        ValueError: positions without bounds (free rigid bodies), which no grid covers.
    """
    spaces = level.molecule.state_space.simple_spaces
    unbounded = any(space.dim and not space.has_occupancy for space in spaces)
    if any(level.molecule.is_position) and unbounded:
        raise ValueError("positions without bounds, of rigid bodies, cannot be laid on a grid")
    start, kernels = first_state(level), _kernels(level.posterior, effort)
    found = []
    for number, sample in enumerate(samples):
        state = start._replace(theta=sample.theta, mu=sample.mu)
        found.append(_evidence(level, state, number, kernels, effort))
    stacked = np.stack(found)
    best = stacked.max(axis=0)
    return best + np.log(np.mean(np.exp(stacked - best), axis=0))
