"""The strongest true type of target for each variable, given the rest.

Poses, states and contrasts of a block: `Separable`. theta of a linear molecule: `Quadratic`, or
`Tilted` under a prior that is not (and `Differentiable`, for comparison). Noise: sums of squared
residuals, conjugate.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.inference.target import (
    Differentiable,
    Quadratic,
    RotationPrior,
    Separable,
    Tilted,
    differentiable,
)
from hypermol.molecule.protocol import Coefficients
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Nuisance, log_shift, log_state
from hypermol.space.fourier import FULL_PLANE_WEIGHT


def _as_reals(values: Array) -> Array:
    """[..., K] complex to [..., 2 K] real: inner products become one real matrix product."""
    return jnp.concatenate([values.real, values.imag], axis=-1)


def particle_conditional(
    posterior: Posterior,
    prepared: Any,
    nuisance: Nuisance,
    consensus: Consensus,
    images: ImageBlocks,
) -> Separable:
    """Poses, states and contrasts of one block of B particles given theta and mu."""
    molecule, plane, imaging = posterior.molecule, posterior.plane, posterior.imaging
    frequencies = jnp.asarray(plane.frequencies, jnp.float32)
    whiten = jnp.sqrt(FULL_PLANE_WEIGHT / nuisance.noise_variance[plane.shells])

    def evidence(rotations: Array, states: Array, shifts_px: Array) -> tuple[Array, Array]:
        block, n_rotations = rotations.shape[:2]
        places = (rotations.reshape(-1, 3, 3), states.reshape(block * n_rotations, -1))
        features = molecule.features(prepared, *places, frequencies)
        features = features.reshape(block, n_rotations, *features.shape[1:])
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
        turning=molecule.turning,
        rotation_prior=RotationPrior(consensus.quaternion, nuisance.pose_sd_rad),
        log_shift=lambda s: log_shift(s, consensus.shift_px[:, None], nuisance.shift_sd_px),
        log_state=lambda tau: log_state(tau, nuisance.occupancy, molecule.state_space),
        contrast_precision=1.0 / nuisance.contrast_sd**2,
    )


def _forward(
    posterior: Posterior, latents: Latents, images: ImageBlocks, theta: Coefficients
) -> Array:
    """All predicted images [n_blocks, B, K], linear in theta's maps."""
    prepared = posterior.molecule.prepare(theta)

    def block(item: tuple[Latents, ImageBlocks]) -> Array:
        lat, img = item
        return posterior.predict(prepared, lat, img)

    return jax.lax.map(block, (latents, images))


def _data_weight(posterior: Posterior, nuisance: Nuisance, images: ImageBlocks) -> Array:
    """[n_blocks, B, K] weight of |residual|^2 / 2 in the negative log-likelihood."""
    per_pixel = FULL_PLANE_WEIGHT / nuisance.noise_variance[posterior.plane.shells]
    return per_pixel * images.present[..., None]


def _shell_normal(
    posterior: Posterior, nuisance: Nuisance, latents: Latents, images: ImageBlocks
) -> Array:
    """The normal operator's mean over each shell as a Fourier multiplier, [n_shells + 1, T, T].

    Features seen from different directions meet different coefficients, so that only those of
    one place couple.
    """
    molecule, plane = posterior.molecule, posterior.plane
    weights = latents.contrast[..., None] * molecule.weights(latents.state)
    transfer = posterior.imaging.transfer(images.ctf, plane)
    power = (
        jnp.zeros((*images.present.shape, plane.n_shells))
        .at[..., plane.shells]
        .add(transfer**2 * _data_weight(posterior, nuisance, images))
    )
    total = jnp.einsum("nbs,nbf,nbg->sfg", power, weights, weights)
    places = molecule.feature_places
    total = total * jnp.asarray(places[:, None] == places, total.dtype)
    gain = np.sqrt(molecule.slice_gain[: plane.n_shells])
    shown = jnp.asarray(np.eye(gain.shape[1])[molecule.feature_terms], total.dtype)
    total = jnp.einsum("sfg,ft,gu->stu", total, shown, shown) * gain[:, :, None] * gain[:, None]
    # the ball blurs Fourier space over about a shell (and fills the unobserved k = 0): halves
    # the iterations
    below, above = jnp.maximum(jnp.arange(plane.n_shells) - 1, 1), jnp.arange(plane.n_shells) + 1
    above = jnp.minimum(above, plane.kmax)
    here = jnp.maximum(jnp.arange(plane.n_shells), 1)
    smooth = 0.25 * total[below] + 0.5 * total[here] + 0.25 * total[above]
    return jnp.concatenate([smooth, jnp.zeros_like(total[:1])])


def shell_precision(
    posterior: Posterior, nuisance: Nuisance, latents: Latents, images: ImageBlocks
) -> Array:
    """Posterior precision of the maps as if it were one matrix a shell, [n_shells + 1, T, T]."""
    prior = jax.vmap(jnp.diag)((nuisance.level[:, None] * nuisance.spectrum).T)
    if posterior.density_prior.members:
        prior = prior + posterior.density_prior.shell_precision(posterior.molecule, len(prior))
    return _shell_normal(posterior, nuisance, latents, images) + prior


def _add(first: Any, second: Any) -> Any:
    return jax.tree.map(jnp.add, first, second)


def molecule_quadratic(
    posterior: Posterior,
    nuisance: Nuisance,
    latents: Latents,
    images: ImageBlocks,
    theta: Coefficients,
) -> Quadratic:
    """theta's maps given the rest, its trajectories included: Gaussian.

    Of the density prior the quadratic part; `molecule_target` says what is left.
    """
    molecule, density_prior = posterior.molecule, posterior.density_prior
    precision = nuisance.level[:, None] * nuisance.spectrum
    weight = _data_weight(posterior, nuisance, images)
    zero = jax.tree.map(jnp.zeros_like, theta.maps)

    def operator(maps: Any) -> Array:
        return _forward(posterior, latents, images, theta._replace(maps=maps))

    def back(values: Array) -> Any:
        # JAX's complex cotangents are unconjugated, hence conj
        return jax.vjp(operator, zero)[1](jnp.conj(values))[0]

    def prior_matrix(maps: Any) -> Any:
        given = density_prior.precision(molecule, theta._replace(maps=maps))
        return _add(molecule.precision(maps, precision), given)

    def apply(maps: Any) -> Any:
        predicted, transpose = jax.vjp(operator, maps)
        (data,) = transpose(jnp.conj(weight * predicted))
        return _add(data, prior_matrix(maps))

    def perturbed_residual(key: Array, maps: Any) -> Any:
        keys = jax.random.split(key, 4)
        white = jax.lax.complex(
            jax.random.normal(keys[0], weight.shape), jax.random.normal(keys[1], weight.shape)
        )
        predicted, transpose = jax.vjp(operator, maps)
        misfit = weight * (images.pixels - predicted) + jnp.sqrt(weight) * white
        own = density_prior.precision_root(keys[3], molecule, theta)
        noise = _add(molecule.precision_root(keys[2], precision), own)
        shrink = prior_matrix(jax.tree.map(jnp.negative, maps))
        return _add(_add(transpose(jnp.conj(misfit))[0], noise), shrink)

    inverse = jnp.linalg.inv(shell_precision(posterior, nuisance, latents, images))
    return Quadratic(
        apply=apply,
        linear=back(weight * images.pixels),
        perturbed_residual=perturbed_residual,
        precondition=lambda residual: molecule.multiply_shells(residual, inverse),
        dimension=int(np.sum(molecule.term_sizes)),
    )


def molecule_tilted(
    posterior: Posterior,
    nuisance: Nuisance,
    latents: Latents,
    images: ImageBlocks,
    theta: Coefficients,
) -> Tilted:
    """theta's maps given the rest: a Gaussian times what of the density prior is not quadratic."""

    def log_density(maps: Any) -> Array:
        return posterior.density_prior.tilt(posterior.molecule, theta._replace(maps=maps))

    gaussian = molecule_quadratic(posterior, nuisance, latents, images, theta)
    return Tilted(gaussian, differentiable(log_density))


def molecule_target(
    posterior: Posterior,
    nuisance: Nuisance,
    latents: Latents,
    images: ImageBlocks,
    theta: Coefficients,
) -> Quadratic | Tilted:
    """The strongest true type of theta's maps given the rest, its trajectories included."""
    exact = posterior.density_prior.is_quadratic
    find = molecule_quadratic if exact else molecule_tilted
    return find(posterior, nuisance, latents, images, theta)


def molecule_differentiable(
    posterior: Posterior, nuisance: Nuisance, latents: Latents, images: ImageBlocks
) -> Differentiable:
    """theta given the rest as a log density with gradient: what MALA and black boxes need.

    The log density comes as one term a particle and one for the prior, so that a kernel can sum
    differences of terms: a sum over all images is larger than float32 resolves.
    """
    weight = _data_weight(posterior, nuisance, images)

    def log_density(theta: Coefficients) -> Array:
        predicted = _forward(posterior, latents, images, theta)
        misfit = jnp.sum(weight * jnp.abs(images.pixels - predicted) ** 2, axis=-1)
        prior = posterior.log_prior_theta(theta, nuisance)
        return jnp.concatenate([-0.5 * misfit.reshape(-1), prior[None]])

    return differentiable(log_density)


def residual_power(
    posterior: Posterior, theta: Coefficients, latents: Latents, images: ImageBlocks
) -> Array:
    """Sums of |residual|^2 over the half plane's shells, [n_blocks, n_shells]."""
    plane = posterior.plane
    prepared = posterior.molecule.prepare(theta)

    def block(item: tuple[Latents, ImageBlocks]) -> Array:
        lat, img = item
        predicted = posterior.predict(prepared, lat, img)
        misfit = jnp.abs(img.pixels - predicted) ** 2 * img.present[:, None]
        return jnp.zeros(plane.n_shells).at[plane.shells].add(jnp.sum(misfit, axis=0))

    return jax.lax.map(block, (latents, images))


def shell_counts(posterior: Posterior) -> np.ndarray:
    """Half-plane pixels per shell, [n_shells]."""
    return np.bincount(posterior.plane.shells, minlength=posterior.plane.n_shells)


#: Finite difference for curvatures, in the parameters' own prior standard deviations.
_STEP = 0.02


def motion_information(
    posterior: Posterior,
    nuisance: Nuisance,
    latents: Latents,
    images: ImageBlocks,
    theta_at: Callable[[Array], Coefficients],
) -> Callable[[Array], Array]:
    """Fisher information of trajectories' parameters [P] from these images: x -> [P, P]."""
    weight = _data_weight(posterior, nuisance, images)

    def image(values: Array) -> Array:
        return jnp.sqrt(weight) * _forward(posterior, latents, images, theta_at(values))

    def information(values: Array) -> Array:
        # slices have a hand-written reverse rule, hence no forward one
        columns = jax.lax.map(
            lambda step: (image(values + step) - image(values - step)) / (2.0 * _STEP),
            _STEP * jnp.eye(values.size),
        )
        flat = columns.reshape(values.size, -1)
        return (jnp.conj(flat) @ flat.T).real

    return information
