"""The posterior of eq. 29 with its four named terms.

P(theta, mu, {R, tau, q} | {Y}) ~ P(theta | mu) P(mu) prod_i P(Y_i | ...) P(R_i, tau_i, q_i | mu)
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.imaging.forward import predict
from hypermol.imaging.operator import Imaging, Microscope
from hypermol.molecule.protocol import Coefficients, LinearMolecule
from hypermol.posterior.density_priors import DensityPrior, NoPrior
from hypermol.posterior.priors import HyperPrior, Nuisance, log_latents
from hypermol.space.fourier import HalfPlane


class Terms(NamedTuple):
    """The four terms of eq. 29; particle terms are [n_blocks, block]."""

    molecule_prior: Array
    nuisance_prior: Array
    likelihood: Array
    particle_prior: Array


@final
@dataclass(frozen=True)
class Posterior:
    """A molecule, an image plane, priors and an instrument: all but the data and the unknowns.

    `density_prior` multiplies the Gaussian prior of theta; see `density_priors`.
    """

    molecule: LinearMolecule
    plane: HalfPlane
    prior: HyperPrior
    imaging: Imaging = Microscope()
    density_prior: DensityPrior = NoPrior()

    @property
    def n_bins(self) -> int:
        """Bins of the states' occupancy in all."""
        return self.molecule.state_space.n_bins(self.prior.n_bins)

    def terms(
        self,
        theta: Coefficients,
        nuisance: Nuisance,
        latents: Latents,
        consensus: Consensus,
        images: ImageBlocks,
    ) -> Terms:
        """Evaluate the four terms (up to constants that depend on nothing unknown)."""
        prepared = self.molecule.prepare(theta)

        def block(item: tuple[Latents, ImageBlocks]) -> Array:
            lat, img = item
            misfit = jnp.abs(img.pixels - self.predict(prepared, lat, img)) ** 2
            return jnp.sum(self._log_noise(misfit, nuisance), axis=-1) * img.present

        likelihood = jax.lax.map(block, (latents, images))
        return Terms(
            self.log_prior_theta(theta, nuisance),
            self.log_prior_nuisance(nuisance),
            likelihood,
            self.log_prior_latents(latents, consensus, nuisance) * images.present,
        )

    def predict(self, prepared: Any, latents: Latents, images: ImageBlocks) -> Array:
        """Noiseless images of one block of B particles, complex [B, K] (eq. 22)."""
        return predict(self.molecule, prepared, latents, images.ctf, self.plane, self.imaging)

    def _log_noise(self, misfit: Array, nuisance: Nuisance) -> Array:
        """log density of half-plane residuals: exp(-|r|^2 / sigma^2) / sigma^2 (eq. 10)."""
        variance = nuisance.noise_variance[self.plane.shells]
        return -misfit / variance - jnp.log(variance)

    def prior_energy(self, theta: Coefficients, spectrum: Array) -> Array:
        """theta' K theta at level 1, per term [T]."""
        applied = self.molecule.precision(theta.maps, spectrum)
        return self.molecule.term_products(theta.maps, applied)

    def log_prior_theta(self, theta: Coefficients, nuisance: Nuisance) -> Array:
        """log P(theta | mu): Gaussian with the spectrum's shape and a level per term, times the
        density prior."""
        energy = self.prior_energy(theta, nuisance.spectrum)
        dimension = jnp.asarray(self.molecule.term_sizes, jnp.float32)
        maps = jnp.sum(-0.5 * nuisance.level * energy + 0.5 * dimension * jnp.log(nuisance.level))
        given = self.density_prior.log_density(self.molecule, theta)
        return maps + given + self.molecule.log_prior_motion(theta.motion)

    def log_prior_nuisance(self, nuisance: Nuisance) -> Array:
        """log P(mu)."""
        prior = self.prior
        return (
            jnp.sum(prior.noise.log_density(nuisance.noise_variance[1:]))
            + prior.pose.log_density(nuisance.pose_sd_rad**2)
            + prior.shift.log_density(nuisance.shift_sd_px**2)
            + prior.contrast.log_density(nuisance.contrast_sd**2)
            + jnp.sum(
                (prior.level_shape - 1.0) * jnp.log(nuisance.level)
                - prior.level_rate * nuisance.level
            )
            + (prior.occupancy - 1.0) * jnp.sum(jnp.log(nuisance.occupancy))
        )

    def log_prior_latents(
        self, latents: Latents, consensus: Consensus, nuisance: Nuisance
    ) -> Array:
        """log P(R_i, tau_i, q_i | mu), per particle."""
        return log_latents(latents, consensus, nuisance, self.molecule.state_space)
