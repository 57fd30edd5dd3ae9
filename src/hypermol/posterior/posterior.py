"""The posterior of eq. 29 with its four named terms, over any molecule.

P(theta, mu, {R, tau, q} | {Y}) ~ P(theta | mu) P(mu) prod_i P(Y_i | ...) P(R_i, tau_i, q_i | mu)
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.imaging.forward import predict
from hypermol.imaging.operator import Imaging, Microscope
from hypermol.molecule.protocol import SlicedMolecule
from hypermol.posterior.density_priors import DensityPrior, NoPrior
from hypermol.posterior.pose_priors import AboutConsensus, PosePrior
from hypermol.posterior.priors import (
    Hyperparameters,
    HyperPrior,
    log_contrast,
    log_hyperparameters,
    log_state,
)
from hypermol.space.fourier import FULL_PLANE_WEIGHT, HalfPlane


def residual_precision(noise_variance: Any) -> Any:
    """1 / variance of the real and of the imaginary part of half-plane residuals (eq. 10).

    A half-plane pixel stands for itself and its mirror image, so that its density is
    exp(-|r|^2 / sigma^2) / sigma^2 of a complex number.

    Args:
        noise_variance: sigma^2 of eq. 9, an array of JAX or NumPy.
    """
    return FULL_PLANE_WEIGHT / noise_variance


class Terms(NamedTuple):
    """The four terms of eq. 29; particle terms are [n_blocks, B]."""

    theta_prior: Array
    mu_prior: Array
    likelihood: Array
    particle_prior: Array


@final
@dataclass(frozen=True)
class Posterior:
    """A molecule, an image plane, priors and an instrument: all but the data and the unknowns.

    Attributes:
        molecule: V[theta]; one that only has `fourier` comes in `molecule.by_fourier`.
        plane: the Fourier pixels of the images.
        prior: P(mu).
        imaging: the instrument.
        density_prior: multiplies the Gaussian prior of theta; see `density_priors`.
        pose_prior: of rotations and shifts.
    """

    molecule: SlicedMolecule
    plane: HalfPlane
    prior: HyperPrior
    imaging: Imaging = Microscope()
    density_prior: DensityPrior = NoPrior()
    pose_prior: PosePrior = AboutConsensus()

    @property
    def n_bins(self) -> int:
        """Bins of the states' occupancy in all."""
        return self.molecule.state_space.n_bins(self.prior.n_bins)

    @property
    def shell_counts(self) -> np.ndarray:
        """Half-plane pixels per shell, [n_shells]."""
        return np.bincount(self.plane.shells, minlength=self.plane.n_shells)

    def by_shell(self, values: Array) -> Array:
        """Sums over the half plane's shells: [..., K] to [..., n_shells]."""
        total = jnp.zeros((*values.shape[:-1], self.plane.n_shells), values.dtype)
        return total.at[..., self.plane.shells].add(values)

    def predict(self, prepared: Any, latents: Latents, ctf: Array) -> Array:
        """Noiseless images of B particles, complex [B, K] (eq. 22)."""
        return predict(self.molecule, prepared, latents, ctf, self.plane, self.imaging)

    def pixel_precision(self, mu: Hyperparameters) -> Array:
        """Of each residual of the half plane, [K]; see `residual_precision`."""
        return residual_precision(mu.noise_variance)[self.plane.shells]

    def log_likelihood(self, pixels: Array, predicted: Array, mu: Hyperparameters) -> Array:
        """Eq. 10: log P(Y | image, mu) of images [..., K], up to a constant, [...]."""
        precision = self.pixel_precision(mu)
        residual = pixels - predicted
        misfit = residual.real**2 + residual.imag**2
        return jnp.sum(-0.5 * precision * misfit + jnp.log(0.5 * precision), axis=-1)

    def prior_energy(self, theta: Any, spectrum: Array) -> Array:
        """theta' K theta at level 1, per term [T]; empty where mu has no spectrum of theta."""
        return self.molecule.prior_energy(theta, spectrum)

    def log_prior_theta(self, theta: Any, mu: Hyperparameters) -> Array:
        """log P(theta | mu): the Gaussian of mu's spectrum and levels, what the molecule says
        beside it, and the density prior."""
        energy = self.prior_energy(theta, mu.spectrum)
        dimension = jnp.asarray(self.molecule.term_sizes, jnp.float32)
        gaussian = jnp.sum(-0.5 * mu.level * energy + 0.5 * dimension * jnp.log(mu.level))
        beside = self.molecule.log_prior_beside(theta)
        if not self.density_prior.members:
            return gaussian + beside
        molecule: Any = self.molecule
        return gaussian + beside + self.density_prior.log_density(molecule, theta)

    def log_prior_mu(self, mu: Hyperparameters) -> Array:
        """log P(mu)."""
        return log_hyperparameters(mu, self.prior) + self.pose_prior.log_mu(mu, self.prior)

    def log_prior_latents(
        self, latents: Latents, consensus: Consensus, mu: Hyperparameters
    ) -> Array:
        """log P(R_i, tau_i, q_i | mu), per particle."""
        return (
            self.pose_prior.log_rotation(latents.quaternion, consensus.quaternion, mu)
            + self.pose_prior.log_shift(latents.shift_px, consensus.shift_px, mu)
            + log_contrast(latents.contrast, mu.contrast_sd)
            + log_state(latents.state, mu.occupancy, self.molecule.state_space)
        )

    def terms(
        self,
        theta: Any,
        mu: Hyperparameters,
        latents: Latents,
        consensus: Consensus,
        images: ImageBlocks,
    ) -> Terms:
        """Evaluate the four terms (up to constants that depend on nothing unknown)."""
        prepared = self.molecule.prepare(theta)

        def block(item: tuple[Latents, ImageBlocks]) -> Array:
            lat, img = item
            predicted = self.predict(prepared, lat, img.ctf)
            return self.log_likelihood(img.pixels, predicted, mu) * img.present

        return Terms(
            self.log_prior_theta(theta, mu),
            self.log_prior_mu(mu),
            jax.lax.map(block, (latents, images)),
            self.log_prior_latents(latents, consensus, mu) * images.present,
        )
