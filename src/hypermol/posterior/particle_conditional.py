"""Poses, states and contrasts of particles given theta and mu, in the forms that kernels ask for.

`Separable` serves draws from candidates; `Differentiable`, in the tangent space of poses, serves
MALA; plain `Density` serves random walks. All hold for any molecule.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.inference.target import Density, Differentiable, Separable
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters, log_state
from hypermol.space.rotation import quaternion_from_vector, quaternion_multiply


def _as_reals(values: Array) -> Array:
    """[..., K] complex to [..., 2 K] real: inner products become one real matrix product."""
    return jnp.concatenate([values.real, values.imag], axis=-1)


def particles_separable(
    posterior: Posterior,
    prepared: Any,
    mu: Hyperparameters,
    consensus: Consensus,
    images: ImageBlocks,
) -> Separable:
    """One block of B particles: linear in contrast x weights(state) at a known view."""
    molecule, plane, imaging = posterior.molecule, posterior.plane, posterior.imaging
    prior, frequencies = posterior.pose_prior, jnp.asarray(plane.frequencies, jnp.float32)
    whiten = jnp.sqrt(posterior.pixel_precision(mu))

    def evidence(rotations: Array, states: Array, shifts_px: Array) -> tuple[Array, Array]:
        block, n_views = rotations.shape[:2]
        views = (rotations.reshape(-1, 3, 3), states.reshape(block * n_views, -1))
        features = molecule.features(prepared, *views, frequencies)
        features = features.reshape(block, n_views, *features.shape[1:])
        transfer = (imaging.transfer(images.ctf, plane) * whiten)[:, None, None]
        phases = imaging.phases(plane, shifts_px)
        shifted = images.pixels[:, None] * jnp.conj(phases) * whiten
        model = _as_reals(features * transfer)
        linear = jnp.einsum("bjfk,bsk->bjsf", model, _as_reals(shifted))
        return jnp.einsum("bjfk,bjgk->bjfg", model, model), linear

    return Separable(
        evidence=evidence,
        weights=molecule.weights,
        lattice=molecule.lattice,
        is_position=molecule.is_position,
        rotation_prior=prior.rotations(consensus.quaternion, mu),
        log_rotation=lambda q: prior.log_rotation(q, consensus.quaternion[:, None], mu),
        log_shift=lambda s: prior.log_shift(s, consensus.shift_px[:, None], mu),
        log_state=lambda tau: log_state(tau, mu.occupancy, molecule.state_space),
        contrast_precision=1.0 / mu.contrast_sd**2,
    )


class Templates(NamedTuple):
    """All that an image is matched with.

    Attributes:
        pixels: real [G, 2 K], the molecule seen from every rotation, without CTF.
        power: [G, K], of these pixels.
        phases: complex [S, K], of every shift, conjugated.
    """

    pixels: Array
    power: Array
    phases: Array


def seen_from(posterior: Posterior, prepared: Any, rotations: Array, states: Array) -> Array:
    """The molecule in states [G, dim] from rotations [G, 3, 3], without CTF: real [G, 2 K]."""
    molecule, plane = posterior.molecule, posterior.plane
    frequencies = jnp.asarray(plane.frequencies, jnp.float32)
    features = molecule.features(prepared, rotations, states, frequencies)
    weights = molecule.weights(states).astype(features.dtype)
    return _as_reals(jnp.einsum("gfk,gf->gk", features, weights))


def match_evidence(
    posterior: Posterior, mu: Hyperparameters, templates: Templates, pixels: Array, ctf: Array
) -> tuple[Array, Array]:
    """One image [K] with its CTF [K] against all templates: (gram [G], linear [G, S]); see
    `inference.exhaustive.draw_match`."""
    whiten = jnp.sqrt(posterior.pixel_precision(mu))
    transfer = posterior.imaging.transfer(ctf[None], posterior.plane)[0] * whiten
    shifted = _as_reals((pixels * whiten * transfer) * templates.phases)
    return templates.power @ transfer**2, templates.pixels @ shifted.T


class Tangent(NamedTuple):
    """A direction in the space of `Latents`: rotation vector [3], shift [2], contrast, state."""

    rotation: Array
    shift_px: Array
    contrast: Array
    state: Array


def retract(latents: Latents, move: Tangent) -> Latents:
    """Walk from `latents` along `move`: R' = exp(v) R, the rest by addition."""
    return Latents(
        quaternion_multiply(quaternion_from_vector(move.rotation), latents.quaternion),
        latents.shift_px + move.shift_px,
        latents.contrast + move.contrast,
        latents.state + move.state,
    )


def no_move(latents: Latents) -> Tangent:
    """The zero tangent vector of one particle."""
    return Tangent(
        jnp.zeros(3),
        jnp.zeros_like(latents.shift_px),
        jnp.zeros_like(latents.contrast),
        jnp.zeros_like(latents.state),
    )


def one_image(posterior: Posterior, prepared: Any, ctf: Array, latents: Latents) -> Array:
    """The noiseless image [K] of one particle."""
    batch = jax.tree.map(lambda x: x[None], latents)
    return posterior.predict(prepared, batch, ctf[None])[0]


def _log_density(
    posterior: Posterior,
    prepared: Any,
    mu: Hyperparameters,
    consensus: Consensus,
    data: tuple[Array, Array],
) -> Callable[[Latents], Array]:
    """log P(R, s, a, tau | Y, theta, mu) of one particle; `data` is (pixels [K], ctf [K]).

    -inf of states beyond an end (`StateSpace.holds`). Rotations count with Haar measure.
    """
    space = posterior.molecule.state_space

    def log_density(latents: Latents) -> Array:
        # finite beyond an end too: a gradient of what is left out must not be nan
        inside = latents._replace(state=space.wrap(latents.state))
        predicted = one_image(posterior, prepared, data[1], inside)
        likelihood = posterior.log_likelihood(data[0], predicted, mu)
        density = likelihood + posterior.log_prior_latents(inside, consensus, mu)
        return jnp.where(space.holds(latents.state), density, -jnp.inf)

    return log_density


def particle_density(
    posterior: Posterior,
    prepared: Any,
    mu: Hyperparameters,
    consensus: Consensus,
    data: tuple[Array, Array],
) -> Density:
    """One particle's log density; `data` is (pixels [K], ctf [K])."""
    return Density(_log_density(posterior, prepared, mu, consensus, data))


def particle_differentiable(
    posterior: Posterior,
    prepared: Any,
    mu: Hyperparameters,
    consensus: Consensus,
    data: tuple[Array, Array],
) -> Differentiable:
    """One particle's log density with tangent gradients; `data` is (pixels [K], ctf [K])."""
    log_density = _log_density(posterior, prepared, mu, consensus, data)

    def value_and_gradient(latents: Latents) -> tuple[Array, Tangent]:
        return jax.value_and_grad(lambda move: log_density(retract(latents, move)))(
            no_move(latents)
        )

    return Differentiable(log_density, value_and_gradient)


#: Half of the differences that an image's slopes are taken from: radians, pixels, contrast, state.
_SLOPE_STEPS = (0.01, 0.05, 0.05, 0.01)


def particle_information(
    posterior: Posterior, prepared: Any, mu: Hyperparameters, latents: Latents, ctf: Array
) -> Array:
    """Expected information [D, D] of one image on its latents, flattened as `Tangent` is.

    Of the likelihood alone. From differences, since slices have a hand-written reverse rule and
    hence no forward one.
    """
    steps = [jnp.full(jnp.shape(x), s) for x, s in zip(no_move(latents), _SLOPE_STEPS, strict=True)]
    flat, rebuild = ravel_pytree(Tangent(*steps))

    def image(move: Array) -> Array:
        return one_image(posterior, prepared, ctf, retract(latents, rebuild(move)))

    moves = jnp.diag(flat)
    slopes = (jax.vmap(image)(moves) - jax.vmap(image)(-moves)) / (2.0 * flat[:, None])
    weighed = slopes * posterior.pixel_precision(mu)
    return (jnp.conj(slopes) @ weighed.T).real
