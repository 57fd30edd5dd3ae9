"""The posterior of a molecule known only through `fourier`, and its gradients (sec. 3.6, eq. 29).

Nothing here knows how the molecule is made: images are slices `V-hat(R' k, tau)` taken point by
point, and every gradient, in theta as in poses and states, goes through that one call.
"""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.imaging.operator import Imaging, Microscope
from hypermol.inference.target import Differentiable, differentiable
from hypermol.molecule.protocol import Molecule
from hypermol.posterior.priors import HyperPrior, Nuisance, log_latents
from hypermol.space.fourier import FULL_PLANE_WEIGHT, HalfPlane
from hypermol.space.rotation import (
    matrix_from_quaternion,
    quaternion_from_vector,
    quaternion_multiply,
)

#: Prior standard deviation of the logarithm of the gain.
GAIN_SD = 1.0


class Tangent(NamedTuple):
    """A direction in the space of `Latents`: rotation vector [3], shift [2], contrast, state."""

    rotation: Array
    shift_px: Array
    contrast: Array
    state: Array


class Parameters(NamedTuple):
    """What all particles share: theta, and the logarithm of image units per molecule unit.

    The gain's prior is normal about `Problem.log_gain`, of standard deviation 1.
    """

    theta: Any
    log_gain: Array


@final
@dataclass(frozen=True, eq=False)
class Problem:
    """A molecule and how it is imaged.

    Attributes:
        molecule: anything with the four names of `molecule.protocol`.
        plane: Fourier pixels of the images.
        pixel_size_angstrom: of the images.
        prior: of the noise and of the widths of poses, shifts and contrasts.
        log_gain: prior mean of the logarithm of image units per molecule unit.
        imaging: the instrument.
    """

    molecule: Molecule
    plane: HalfPlane
    pixel_size_angstrom: float
    prior: HyperPrior = field(default_factory=lambda: HyperPrior(n_bins=1))
    log_gain: float = 0.0
    imaging: Imaging = Microscope()

    def with_gain(self, log_gain: float) -> "Problem":
        """The same with another prior mean of the gain."""
        return replace(self, log_gain=log_gain)

    def image(self, parameters: Parameters, latents: Latents, ctf: Array) -> Array:
        """One half-plane image [K]: `a g H(k) exp(-2 pi i k.s) V-hat(R' k, tau)` (eq. 6)."""
        k2 = jnp.asarray(
            self.plane.frequencies / (self.plane.box * self.pixel_size_angstrom), jnp.float32
        )
        # at full precision: on GPUs TF32 would move the slice
        rows = matrix_from_quaternion(latents.quaternion)[:2]
        k = jnp.matmul(k2, rows, precision=jax.lax.Precision.HIGHEST)
        values = self.molecule.fourier(parameters.theta, k, latents.state)
        scale = latents.contrast * jnp.exp(parameters.log_gain)
        transfer = self.imaging.transfer(ctf, self.plane)
        return scale * transfer * values * self.imaging.phases(self.plane, latents.shift_px)

    def misfit(self, parameters: Parameters, latents: Latents, data: tuple) -> Array:
        """|Y - image|^2 of one particle at every pixel, [K]; data is (pixels [K], ctf [K])."""
        difference = data[0] - self.image(parameters, latents, data[1])
        return difference.real**2 + difference.imag**2

    def log_likelihood(
        self, parameters: Parameters, nuisance: Nuisance, latents: Latents, data: tuple
    ) -> Array:
        """Eq. 10 of one particle, up to a constant of theta and the latents."""
        weight = 0.5 * FULL_PLANE_WEIGHT / nuisance.noise_variance[self.plane.shells]
        return -jnp.sum(weight * self.misfit(parameters, latents, data))

    def log_prior_latents(
        self, latents: Latents, consensus: Consensus, nuisance: Nuisance
    ) -> Array:
        """log P(R, tau, q | mu) of one particle."""
        return log_latents(latents, consensus, nuisance, self.molecule.state_space)

    def log_prior_parameters(self, parameters: Parameters) -> Array:
        """log P(theta) and the gain's."""
        away = (parameters.log_gain - self.log_gain) / GAIN_SD
        return self.molecule.log_prior(parameters.theta) - 0.5 * away**2


def retract(latents: Latents, move: Tangent) -> Latents:
    """Walk from `latents` along `move`: R' = exp(v) R, the rest by addition."""
    return Latents(
        quaternion_multiply(quaternion_from_vector(move.rotation), latents.quaternion),
        latents.shift_px + move.shift_px,
        latents.contrast + move.contrast,
        latents.state + move.state,
    )


def no_move(latents: Latents) -> Tangent:
    """The zero tangent vector."""
    return Tangent(
        jnp.zeros(3),
        jnp.zeros_like(latents.shift_px),
        jnp.zeros_like(latents.contrast),
        jnp.zeros_like(latents.state),
    )


def particle_target(
    problem: Problem,
    parameters: Parameters,
    nuisance: Nuisance,
    consensus: Consensus,
    data: tuple[Array, Array],
) -> Differentiable:
    """log P(R, s, a, tau | Y, theta, mu) of one particle, with tangent gradients.

    States may leave [0, 1]: the density is continued by reflection (`StateSpace.wrap`), so that a
    chain on the line, folded back, is a chain on the interval. Rotations count with Haar measure.
    """

    def log_density(latents: Latents) -> Array:
        folded = latents._replace(state=problem.molecule.state_space.wrap(latents.state))
        return problem.log_likelihood(
            parameters, nuisance, folded, data
        ) + problem.log_prior_latents(folded, consensus, nuisance)

    def value_and_gradient(latents: Latents) -> tuple[Array, Tangent]:
        return jax.value_and_grad(lambda move: log_density(retract(latents, move)))(
            no_move(latents)
        )

    return Differentiable(log_density, value_and_gradient)


def parameter_target(
    problem: Problem, nuisance: Nuisance, latents: Latents, images: ImageBlocks
) -> Differentiable:
    """log P(theta, gain | the rest): one term a particle and one of the prior."""

    def of_block(parameters: Parameters, latents: Latents, images: ImageBlocks) -> Array:
        one = jax.vmap(
            lambda lat, pixels, ctf: problem.log_likelihood(
                parameters, nuisance, lat, (pixels, ctf)
            )
        )
        return one(latents, images.pixels, images.ctf) * images.present

    def log_density(parameters: Parameters) -> Array:
        # checkpointed: the backward pass keeps one block at a time
        block = jax.checkpoint(lambda item: of_block(parameters, *item))
        terms = jax.lax.map(block, (latents, images))
        prior = problem.log_prior_parameters(parameters)
        return jnp.concatenate([terms.reshape(-1), prior[None]])

    return differentiable(log_density)


def particle_curvature(
    problem: Problem,
    parameters: Parameters,
    nuisance: Nuisance,
    latents: Latents,
    ctf: Array,
) -> Tangent:
    """Expected information of one image on each of its latents, the likelihood's diagonal only."""

    def image(move: Tangent) -> tuple[Array, Array]:
        values = problem.image(parameters, retract(latents, move), ctf)
        return values.real, values.imag

    weight = FULL_PLANE_WEIGHT / nuisance.noise_variance[problem.plane.shells]
    slopes = jax.jacfwd(image)(no_move(latents))

    def information(real: Array, imaginary: Array) -> Array:
        return jnp.einsum("k,k...->...", weight, real**2 + imaginary**2)

    return jax.tree.map(information, *slopes)


def residual_power(
    problem: Problem, parameters: Parameters, latents: Latents, images: ImageBlocks
) -> Array:
    """Sums of |Y - image|^2 over the half plane's shells, [n_blocks, n_shells]."""
    plane = problem.plane

    def block(item: tuple[Latents, ImageBlocks]) -> Array:
        lat, img = item
        misfit = jax.vmap(lambda one, *data: problem.misfit(parameters, one, data))
        total = jnp.sum(misfit(lat, img.pixels, img.ctf) * img.present[:, None], axis=0)
        return jnp.zeros(plane.n_shells).at[plane.shells].add(total)

    return jax.lax.map(block, (latents, images))
