"""The inexact start of a black-box fit: Adam, then states drawn from a lattice.

Nothing here is a sample of the posterior: it brings theta near enough for the sweeps of
`blackbox_sampler`, and guesses the scales that they are preconditioned with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.posterior.black_box import Parameters, Problem, residual_power
from hypermol.posterior.priors import Nuisance

#: Times at which the noise is estimated again.
ROUNDS = 4
#: The last steps' learning rate, as a share of the first's.
_LAST_RATE = 0.1
#: Precision of an entry of theta whose prior has no curvature: its unit is taken as its scale.
_FLAT_PRECISION = 1.0


@final
@dataclass(frozen=True)
class Start:
    """How long the start runs.

    Attributes:
        adam_steps: steps of Adam.
        adam_rate: its learning rate, in the prior's standard deviations.
        batch: images of a step.
        lattice: states averaged over.
        draws: first thetas that are tried.
    """

    adam_steps: int = 1000
    adam_rate: float = 0.05
    batch: int = 32
    lattice: int = 8
    draws: int = 4


def _particles(consensus: Consensus, state: Array) -> Latents:
    """Latents at the consensus pose with contrast 1, for one particle or many."""
    shape = consensus.quaternion.shape[:-1]
    return Latents(consensus.quaternion, consensus.shift_px, jnp.ones(shape), state)


def first_guess(
    problem: Problem, theta: Any, images: ImageBlocks, consensus: Consensus
) -> tuple[Problem, Nuisance]:
    """Noise that explains every image's power, and the gain that would explain it as signal.

    The outer quarter of the shells is taken as noise alone; what is above it inside is signal.
    """
    plane, prior = problem.plane, problem.prior
    dim = problem.molecule.state_space.dim
    shape = images.present.shape
    middle = problem.molecule.state_space.nodes(3)[-1 // 2]
    at_rest = _particles(consensus, jnp.broadcast_to(middle, (*shape, dim)))
    total = jax.jit(partial(residual_power, problem))
    unit = Parameters(theta, jnp.zeros(()))
    data = np.asarray(
        total(Parameters(theta, jnp.asarray(-jnp.inf)), at_rest, images), np.float64
    ).sum(0)
    empty = images._replace(pixels=jnp.zeros_like(images.pixels))
    model = np.asarray(total(unit, at_rest, empty), np.float64).sum(0)
    count = np.bincount(plane.shells, minlength=plane.n_shells) * float(images.present.sum())
    power = data / np.maximum(count, 1.0)
    floor = power[-max(plane.kmax // 4, 1) :].min()
    signal = max(np.sum(np.maximum(power - floor, 0.0) * count), 0.01 * data.sum())
    n_bins = problem.molecule.state_space.n_bins(prior.n_bins)
    nuisance = Nuisance(
        noise_variance=jnp.asarray(np.maximum(power, 1e-12), jnp.float32),
        spectrum=jnp.zeros((0, plane.n_shells + 1)),
        level=jnp.zeros(0),
        pose_sd_rad=jnp.asarray(np.sqrt(prior.pose.scale / (prior.pose.shape + 1)), jnp.float32),
        shift_sd_px=jnp.asarray(np.sqrt(prior.shift.scale / (prior.shift.shape + 1)), jnp.float32),
        contrast_sd=jnp.asarray(
            np.sqrt(prior.contrast.scale / (prior.contrast.shape + 1)), jnp.float32
        ),
        occupancy=jnp.full(n_bins, 1.0 / n_bins),
    )
    return problem.with_gain(float(0.5 * np.log(signal / model.sum()))), nuisance


def lattice_log_likelihood(
    problem: Problem,
    parameters: Parameters,
    nuisance: Nuisance,
    consensus: Consensus,
    data: tuple[Array, Array],
    n: int,
) -> Array:
    """Log-likelihood [about n] of one particle at the nodes of the state space."""
    return jax.vmap(
        lambda tau: problem.log_likelihood(parameters, nuisance, _particles(consensus, tau), data)
    )(problem.molecule.state_space.nodes(n))


def lattice_start(
    problem: Problem,
    key: Array,
    parameters: Parameters,
    nuisance: Nuisance,
    images: ImageBlocks,
    consensus: Consensus,
    *,
    n: int,
) -> Latents:
    """Every particle at its consensus pose and at a node drawn by its likelihood."""
    nodes = problem.molecule.state_space.nodes(n)

    def block(item: tuple[Array, ImageBlocks, Consensus]) -> Latents:
        key, img, given = item
        scores = jax.vmap(
            lambda one, *data: lattice_log_likelihood(problem, parameters, nuisance, one, data, n)
        )(given, img.pixels, img.ctf)
        return _particles(given, nodes[jax.random.categorical(key, scores)])

    keys = jax.random.split(key, images.present.shape[0])
    return jax.lax.map(block, (keys, images, consensus))


def adam_start(
    key: Array,
    problem: Problem,
    first: Parameters,
    given: tuple[ImageBlocks, Consensus, Nuisance],
    start: Start,
    on_round: Callable[[int], None] = lambda number: None,
) -> tuple[Parameters, Nuisance, Parameters]:
    """Climb `sum_i log mean_t P(Y_i | theta, t) + log P(theta)`, states on a lattice. Inexact.

    Averaging over states needs no guess of any; states separate as theta learns them. Several
    draws of theta climb for the first of `ROUNDS`, and the best of them goes on: a motion that
    begins folded stays so.

    Returns:
        parameters, mu with the noise of their residuals, and a guess of their posterior variance
        from the spread of the gradients, for the sampler's preconditioner.
    """
    images, consensus, nuisance = given
    climber = _Climber(problem, images, consensus, start, first)
    draw = jax.jit(partial(lattice_start, problem, n=start.lattice))
    total = jax.jit(partial(residual_power, problem))
    count = climber.n * np.bincount(problem.plane.shells, minlength=problem.plane.n_shells)
    keys = jax.random.split(key, ROUNDS)
    drawn = [first.theta]
    for draw_key in jax.random.split(keys[0], start.draws)[1:]:
        drawn.append(problem.molecule.init(draw_key))
    tried = [
        climber.climb(keys[0], climber.begin(first._replace(theta=theta)), nuisance)
        for theta in drawn
    ]
    carried = min(tried, key=lambda found: float(climber.loss(found[0], nuisance)))
    for number, round_key in enumerate(keys):
        if number:
            carried = climber.climb(round_key, carried, nuisance)
        latents = draw(round_key, carried[0], nuisance, images, consensus)
        power = np.asarray(total(carried[0], latents, images), np.float64).sum(0)
        noise = np.maximum(power, 1e-12) / np.maximum(count, 1)
        nuisance = nuisance._replace(noise_variance=jnp.asarray(noise, jnp.float32))
        on_round(number)
    squared_gradient = carried[1][0].nu
    factor = climber.n * climber.batch
    return carried[0], nuisance, _variance(problem, carried[0], squared_gradient, factor)


@final
class _Climber:
    """Adam on the likelihood averaged over states, compiled once."""

    def __init__(
        self,
        problem: Problem,
        images: ImageBlocks,
        consensus: Consensus,
        start: Start,
        like: Parameters,
    ):
        present = np.flatnonzero(np.asarray(images.present).reshape(-1))
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[present], (images, consensus))
        self.n, self.batch = len(present), min(start.batch, len(present))
        steps = max(start.adam_steps // ROUNDS, 1)
        rate = optax.cosine_decay_schedule(start.adam_rate, ROUNDS * steps, _LAST_RATE)
        optimizer = optax.adam(rate, b2=0.99)
        scale = jax.tree.map(lambda c: 1.0 / jnp.sqrt(c), _prior_precision(problem, like))

        def mean_score(parameters: Parameters, nuisance: Nuisance, chosen: Any) -> Array:
            img, poses = chosen
            scores = jax.vmap(
                lambda one, *data: lattice_log_likelihood(
                    problem, parameters, nuisance, one, data, start.lattice
                )
            )(poses, img.pixels, img.ctf)
            return jnp.mean(jax.nn.logsumexp(scores, axis=-1))

        def loss(parameters: Parameters, nuisance: Nuisance, chosen: Any) -> Array:
            prior = problem.log_prior_parameters(parameters) / self.n
            return -mean_score(parameters, nuisance, chosen) - prior

        def climb(key: Array, carried: tuple, nuisance: Nuisance) -> tuple:
            def one(carried: tuple, step_key: Array) -> tuple[tuple, None]:
                parameters, memory = carried
                index = jax.random.choice(step_key, self.n, (self.batch,), replace=False)
                chosen = jax.tree.map(lambda x: x[index], flat)
                gradient = jax.grad(loss)(parameters, nuisance, chosen)
                change, memory = optimizer.update(gradient, memory)
                change = jax.tree.map(jnp.multiply, change, scale)
                return (optax.apply_updates(parameters, change), memory), None

            return jax.lax.scan(one, carried, jax.random.split(key, steps))[0]

        def whole_loss(parameters: Parameters, nuisance: Nuisance) -> Array:
            # blocks are filled up with images that are there: all weigh almost the same
            terms = jax.lax.map(
                lambda chosen: loss(parameters, nuisance, chosen), (images, consensus)
            )
            return jnp.mean(terms)

        self.begin = lambda parameters: (parameters, optimizer.init(parameters))
        self.climb, self.loss = jax.jit(climb), jax.jit(whole_loss)


def _variance(
    problem: Problem, parameters: Parameters, squared_gradient: Parameters, factor: float
) -> Parameters:
    """1 / (empirical Fisher information + the prior's precision), entry by entry.

    A mean gradient of b images of N varies by 1 / (N b) of the summed information.
    """
    precision = _prior_precision(problem, parameters)
    return jax.tree.map(lambda nu, c: 1.0 / (factor * nu + c), squared_gradient, precision)


def _prior_precision(problem: Problem, parameters: Parameters) -> Parameters:
    """The prior's precision of every entry"""
    gradient = jax.grad(problem.log_prior_parameters)
    ones = jax.tree.map(jnp.ones_like, parameters)
    # exact for independent priors: their Hessian's row sums are its diagonal
    curvature = jax.jvp(gradient, (parameters,), (ones,))[1]
    return jax.tree.map(lambda c: jnp.where(c < 0.0, -c, _FLAT_PRECISION), curvature)
