"""How well a fitted model predicts images that it has not seen: held-out log-likelihood.

Given theta and mu, an image's latents are integrated out: contrast exactly, states on a grid,
rotation and shift by importance sampling about where a short chain on the image alone spent its
time. Hypotheses about a molecule are ordered by the mean over images (sec. 6.1): a model that is
too rigid cannot explain them, one that is too free has spread its prior too thin.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import Consensus, ImageBlocks
from hypermol.fitting.march import Level, first_state
from hypermol.fitting.sampler import ChainState, particle_block
from hypermol.fitting.stages import adapt
from hypermol.inference.ensemble import CandidateCounts, contrast_marginal
from hypermol.inference.target import Separable
from hypermol.posterior.conditional import particle_conditional
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Nuisance, pose_vector
from hypermol.space.fourier import FULL_PLANE_WEIGHT
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
    """

    burn_in: int = 20
    kept: int = 20
    rotations: int = 24
    shifts: int = 16
    states: int = 144


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


def _chain(level: Level, state: ChainState, effort: Effort) -> tuple[np.ndarray, np.ndarray]:
    """Rotation vectors [S, N', 3] and shifts [S, N', 2] from the consensus, all blocks in a row."""
    block = particle_block(level.posterior, CandidateCounts(5, 3, 36), 1)
    vectors, shifts = [], []
    for sweep in range(effort.burn_in + effort.kept):
        state, info = block.step(jax.random.key(sweep), state, level.data)
        if sweep < effort.burn_in:
            moved = info["moved_rotation"], info["moved_shift"]
            size = adapt(state.size, *moved, 0.3, state.nuisance.pose_sd_rad)
            state = state._replace(size=size)
            continue
        latents, consensus = state.latents, level.data.consensus
        vectors.append(np.asarray(pose_vector(latents.quaternion, consensus.quaternion)))
        shifts.append(np.asarray(latents.shift_px - consensus.shift_px))
    return (
        np.stack(vectors).reshape(effort.kept, -1, 3).astype(np.float64),
        np.stack(shifts).reshape(effort.kept, -1, 2).astype(np.float64),
    )


def _log_contrast_evidence(along: Array, power: Array, precision: Array) -> Array:
    """log of the integral of exp(a along - a^2 power / 2) N(a; 1, 1 / precision) over a."""
    return contrast_marginal(along, power, precision) + 0.5 * (jnp.log(precision) - precision)


def _block_evidence(
    posterior: Posterior,
    target: Separable,
    given: tuple[ImageBlocks, Consensus, Nuisance],
    proposals: tuple[_Proposal, _Proposal],
    key: Array,
    effort: Effort,
) -> Array:
    """log p(image | theta, mu) for one block, [B]."""
    images, consensus, nuisance = given
    keys = jax.random.split(key)
    turns = proposals[0].draw(keys[0], effort.rotations, nuisance.pose_sd_rad)
    slips = proposals[1].draw(keys[1], effort.shifts, nuisance.shift_sd_px)
    quaternions = quaternion_multiply(quaternion_from_vector(turns), consensus.quaternion[:, None])
    states = posterior.molecule.state_space.nodes(effort.states)
    places = jnp.zeros((*turns.shape[:2], states.shape[-1]))
    gram, linear = target.evidence(
        matrix_from_quaternion(quaternions), places, consensus.shift_px[:, None] + slips
    )
    weights = target.weights(states)
    along = jnp.einsum("bjsf,tf->bjst", linear, weights)
    power = jnp.einsum("tf,bjfg,tg->bjt", weights, gram, weights)[:, :, None]
    score = _log_contrast_evidence(along, power, target.contrast_precision)
    chance = target.log_state(states)
    score = score + (chance - jax.nn.logsumexp(chance))
    turn_sd, slip_sd = nuisance.pose_sd_rad, nuisance.shift_sd_px
    turned = log_normal(turns, turn_sd) - proposals[0].log_density(turns, turn_sd)
    slipped = log_normal(slips, slip_sd) - proposals[1].log_density(slips, slip_sd)
    score = jax.nn.logsumexp(score, axis=-1)
    score = score + turned[:, :, None] + slipped[:, None]
    score = jax.nn.logsumexp(score, axis=(1, 2)) - np.log(effort.rotations * effort.shifts)
    variance = nuisance.noise_variance[posterior.plane.shells]
    noise = jnp.sum(0.5 * FULL_PLANE_WEIGHT * jnp.abs(images.pixels) ** 2 / variance, axis=-1)
    return score - noise - jnp.sum(jnp.log(variance))


def _evidence(level: Level, state: ChainState, number: int, effort: Effort) -> np.ndarray:
    """log p(image | theta, mu) of all images under one sample, float64 [N]."""
    posterior, data = level.posterior, level.data
    shape = data.images.present.shape
    vectors, shifts = _chain(level, state, effort)
    fitted = (
        _fitted(vectors, float(state.nuisance.pose_sd_rad)),
        _fitted(shifts, float(state.nuisance.shift_sd_px)),
    )
    proposals = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), fitted)

    def one(item) -> Array:
        images, consensus, proposal, key = item
        target = particle_conditional(posterior, state.prepared, state.nuisance, consensus, images)
        given = (images, consensus, state.nuisance)
        return _block_evidence(posterior, target, given, proposal, key, effort)

    keys = jax.random.split(jax.random.key(number), shape[0])
    evaluate = jax.jit(lambda items: jax.lax.map(one, items))
    values = evaluate((data.images, data.consensus, proposals, keys))
    return np.asarray(values, np.float64)[np.asarray(data.images.present) > 0]


def held_out_log_likelihood(
    level: Level, samples: list[ChainState], effort: Effort = EFFORT
) -> np.ndarray:
    """log predictive probability of every image of a level, averaged over posterior samples.

    Args:
        level: the molecule and posterior of the fit, with the held-out images as its data.
        samples: states of the fit of which theta and mu count; their latents belong to others.
        effort: see `Effort`. States that move what is sliced are not supported.

    Returns:
        float64 [N], in nats, up to a constant that is the same for every model of these images.

    Raises:
        ValueError: the model has trajectories.
    """
    if any(level.molecule.turning):
        raise ValueError("states of trajectories cannot be integrated on a grid of weights")
    start = first_state(level)
    found = []
    for number, sample in enumerate(samples):
        prepared = level.molecule.prepare(sample.theta)
        state = start._replace(theta=sample.theta, nuisance=sample.nuisance, prepared=prepared)
        found.append(_evidence(level, state, number, effort))
    stacked = np.stack(found)
    best = stacked.max(axis=0)
    return best + np.log(np.mean(np.exp(stacked - best), axis=0))
