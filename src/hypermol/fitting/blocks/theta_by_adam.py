"""A start for molecules that are not linear: Adam on the likelihood averaged over states.

    maximise  sum_i log mean_t P(Y_i | theta, t) + log P(theta),   t on a lattice of states

at the particles' present poses. Averaging over states needs no guess of any; states separate as
theta learns them. Several draws of theta climb in the first sweep, and the best of them goes on: a
motion that begins folded stays so. Not a sample of anything.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from hypermol.data.latents import Consensus, ImageBlocks
from hypermol.fitting.blocks.particles_on_nodes import at_own_poses, node_scores
from hypermol.fitting.sweep import Block, ChainState, Data, Info
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters
from hypermol.posterior.theta_conditional import prior_precision

#: The last steps' learning rate, as a share of the first's.
_LAST_RATE = 0.1


@final
@dataclass(frozen=True)
class AdamPlan:
    """How a start by Adam runs.

    Attributes:
        sweeps: of the stage; the noise is drawn again after each.
        steps: of Adam in all.
        rate: its learning rate, in the prior's standard deviations.
        batch: images of a step.
        nodes: states averaged over.
        draws: first thetas that are tried.
    """

    sweeps: int = 4
    steps: int = 1000
    rate: float = 0.05
    batch: int = 32
    nodes: int = 8
    draws: int = 4


class AdamTuning(NamedTuple):
    """Thetas that climb and Adam's memories, a leading axis each [draws]; the best one's number,
    and how many sweeps were made."""

    thetas: Any
    memories: Any
    best: Array
    sweeps: Array


def _loss(
    posterior: Posterior,
    plan: AdamPlan,
    n: Array,
    theta: Any,
    mu: Hyperparameters,
    batch: tuple[ImageBlocks, Consensus],
) -> Array:
    """Mean of -log mean_t P(Y | theta, t) over a batch, less the prior's share of an image."""
    images, consensus = batch
    nodes = posterior.molecule.state_space.nodes(plan.nodes)
    prepared = posterior.molecule.prepare(theta)
    scores, _, _ = node_scores(posterior, prepared, mu, consensus, images, nodes)
    score = jax.nn.logsumexp(scores, axis=-1) * images.present
    mean = jnp.sum(score) / jnp.maximum(jnp.sum(images.present), 1.0)
    return -mean - posterior.log_prior_theta(theta, mu) / n


@final
class _Climber:
    """Adam on one theta, and the loss of all images; compiled once."""

    def __init__(self, posterior: Posterior, plan: AdamPlan):
        self.posterior, self.plan = posterior, plan
        self.steps = max(plan.steps // plan.sweeps, 1)
        rate = optax.cosine_decay_schedule(plan.rate, plan.sweeps * self.steps, _LAST_RATE)
        self.optimizer = optax.adam(rate, b2=0.99)
        self.climb, self.loss = jax.jit(self._climb), jax.jit(self._whole_loss)

    def _climb(self, key: Array, theta: Any, memory: Any, mu: Hyperparameters, data: Data) -> Any:
        """(theta, memory) after a sweep's steps."""
        posterior, plan = self.posterior, self.plan
        n = jnp.sum(data.images.present)
        scale = jax.tree.map(lambda c: c**-0.5, prior_precision(posterior, theta, mu))

        def one(carried: tuple, key: Array) -> tuple[tuple, None]:
            theta, memory = carried
            batch = _batch(key, data, plan.batch)
            gradient = jax.grad(lambda t: _loss(posterior, plan, n, t, mu, batch))(theta)
            change, memory = self.optimizer.update(gradient, memory)
            change = jax.tree.map(jnp.multiply, change, scale)
            return (optax.apply_updates(theta, change), memory), None

        return jax.lax.scan(one, (theta, memory), jax.random.split(key, self.steps))[0]

    def _whole_loss(self, theta: Any, mu: Hyperparameters, data: Data) -> Array:
        n = jnp.sum(data.images.present)
        terms = jax.lax.map(
            lambda batch: _loss(self.posterior, self.plan, n, theta, mu, batch),
            (data.images, data.consensus),
        )
        return jnp.mean(terms)


def _batch(key: Array, data: Data, size: int) -> tuple[ImageBlocks, Consensus]:
    """Some of the images, all different."""
    present = data.images.present.reshape(-1)
    size = min(size, present.shape[0])
    chance = present / jnp.sum(present)
    index = jax.random.choice(key, present.shape[0], (size,), replace=False, p=chance)
    given = (data.images, data.consensus)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[index], given)


def theta_by_adam(posterior: Posterior, plan: AdamPlan) -> Block:
    """Adam from several draws of theta; the best goes on after the first sweep."""
    climber = _Climber(posterior, plan)

    def init(state: ChainState, data: Data) -> AdamTuning:
        keys = jax.random.split(jax.random.key(plan.draws), plan.draws)
        thetas = [state.theta, *(posterior.molecule.init(key) for key in keys[1:])]
        memories = [climber.optimizer.init(theta) for theta in thetas]
        return AdamTuning(_stack(thetas), _stack(memories), jnp.zeros((), jnp.int32), jnp.zeros(()))

    def step(
        key: Array, state: ChainState, tuning: AdamTuning, data: Data
    ) -> tuple[ChainState, Info]:
        climbing = range(plan.draws) if not int(tuning.sweeps) else [int(tuning.best)]
        thetas, memories = _rows(tuning.thetas, plan.draws), _rows(tuning.memories, plan.draws)
        losses, given = np.full(plan.draws, np.inf), at_own_poses(state, data)
        for i in climbing:
            thetas[i], memories[i] = climber.climb(key, thetas[i], memories[i], state.mu, given)
            loss = float(climber.loss(thetas[i], state.mu, given))
            losses[i] = loss if np.isfinite(loss) else np.inf
        best = int(np.argmin(losses))
        after = AdamTuning(_stack(thetas), _stack(memories), jnp.int32(best), tuning.sweeps + 1.0)
        return state._replace(theta=thetas[best]), {"after": after, "loss": losses[best]}

    return Block(
        "theta",
        step,
        init,
        lambda tuning, info: info["after"],
        numbers=lambda info: {"adam_loss": float(info["loss"])},
        is_exact=False,
    )


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _rows(tree: Any, n: int) -> list[Any]:
    return [jax.tree.map(lambda x, i=i: x[i], tree) for i in range(n)]
