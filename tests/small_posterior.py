"""A posterior of six particles small enough for NumPy, and eq. 29's terms written in NumPy.

Nothing of hypermol's arithmetic enters the reference but the slicing grid that `prepare` returns:
interpolation, phases, full-plane sums and prior densities are written again in float64.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.molecule.composite import expansion
from hypermol.molecule.protocol import Coefficients
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import Cosine
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters, HyperPrior
from hypermol.space.fourier import half_plane
from one_part import one_part

BOX, KMAX, BLOCKS, BLOCK = 12, 4, 2, 3
N = BLOCKS * BLOCK


class Small(NamedTuple):
    """Everything a posterior is evaluated at; the last particle of the last block is absent."""

    posterior: Posterior
    theta: Coefficients
    mu: Hyperparameters
    latents: Latents
    consensus: Consensus
    images: ImageBlocks


def blocks(values: np.ndarray) -> jnp.ndarray:
    """[N, ...] to [BLOCKS, BLOCK, ...] in single precision."""
    single = np.complex64 if np.iscomplexobj(values) else np.float32
    return jnp.asarray(values.reshape(BLOCKS, BLOCK, *values.shape[1:]).astype(single))


def flat(values) -> np.ndarray:
    """[BLOCKS, BLOCK, ...] to float64 or complex128 [N, ...]."""
    values = np.asarray(values)
    wide = np.complex128 if np.iscomplexobj(values) else np.float64
    return values.reshape(N, *values.shape[2:]).astype(wide)


def quaternions(rotation: Rotation) -> np.ndarray:
    """(w, x, y, z)."""
    return rotation.as_quat()[:, [3, 0, 1, 2]]


def make_small(n_bins: int = 2) -> Small:
    """Random unknowns and data of unit size."""
    rng = np.random.default_rng(0)
    basis = Voxels(BOX, 1.0, KMAX, 5.0)
    posterior = Posterior(
        expansion(basis, Cosine(2)), half_plane(BOX, KMAX), HyperPrior(n_bins=n_bins)
    )
    k = len(posterior.plane.shells)
    maps = 0.5 * rng.normal(size=(2, *basis.coefficient_shape)) * basis.support
    centre = Rotation.random(N, random_state=0)
    turned = Rotation.from_rotvec(0.1 * rng.normal(size=(N, 3))) * centre
    shift = rng.normal(size=(N, 2))
    mu = Hyperparameters(
        noise_variance=jnp.asarray(rng.uniform(0.5, 2.0, KMAX + 1), jnp.float32),
        spectrum=jnp.asarray(rng.uniform(0.5, 2.0, (2, basis.n_shells)), jnp.float32),
        level=jnp.asarray([1.5, 0.7], jnp.float32),
        pose_sd_rad=jnp.float32(0.12),
        shift_sd_px=jnp.float32(0.8),
        contrast_sd=jnp.float32(0.2),
        occupancy=jnp.asarray(rng.dirichlet(np.ones(n_bins)), jnp.float32),
        misplaced=jnp.zeros(2),
        misplaced_shift_sd_px=jnp.float32(1.0),
    )
    latents = Latents(
        blocks(quaternions(turned)),
        blocks(shift + 0.7 * rng.normal(size=(N, 2))),
        blocks(1.0 + 0.2 * rng.normal(size=N)),
        blocks(rng.random((N, 1))),
    )
    pixels = rng.normal(size=(N, k)) + 1j * rng.normal(size=(N, k))
    images = ImageBlocks(
        blocks(pixels), blocks(rng.uniform(-1, 1, (N, k))), blocks(1.0 * (np.arange(N) < N - 1))
    )
    consensus = Consensus(blocks(quaternions(centre)), blocks(shift))
    return Small(posterior, one_part(maps), mu, latents,
                 consensus, images)  # fmt: skip


def reference_slices(grid: np.ndarray, rotation: np.ndarray, k: np.ndarray, step: float):
    """Complex [F, K] by SciPy's trilinear interpolation of the slicing grid [z, y, x >= 0, 2 F]."""
    points = step * k @ rotation[:2]
    folded = points[:, 0] < 0
    points = np.where(folded[:, None], -points, points)
    middle = grid.shape[0] // 2
    places = np.stack([points[:, 2] + middle, points[:, 1] + middle, points[:, 0]])
    channels = np.stack([map_coordinates(c, places, order=1) for c in np.moveaxis(grid, -1, 0)])
    real, imag = np.split(channels, 2)
    return real + 1j * np.where(folded, -imag, imag)


def reference_images(small: Small, grid: np.ndarray) -> np.ndarray:
    """Predicted half-plane images [N, K], eq. 22 in float64."""
    k = small.posterior.plane.frequencies.astype(np.float64)
    step = small.posterior.molecule.parts[0].basis.oversampling
    latents = [flat(x) for x in small.latents]
    turns = Rotation.from_quat(latents[0][:, [1, 2, 3, 0]]).as_matrix()
    out = []
    for i in range(N):
        slices = reference_slices(grid.astype(np.float64), turns[i], k, step)
        weights = np.array([1.0, np.sqrt(2) * np.cos(np.pi * latents[3][i, 0])])
        phase = np.exp(-2j * np.pi * k @ latents[1][i] / BOX)
        out.append(latents[2][i] * (weights @ slices) * phase * flat(small.images.ctf)[i])
    return np.stack(out)


def reference_likelihood(small: Small, grid: np.ndarray) -> np.ndarray:
    """Eq. 10 per particle [N]: the sum over the full plane of -|r|^2 / (2 s^2) - log(s^2) / 2."""
    plane = small.posterior.plane
    residual = flat(small.images.pixels) - reference_images(small, grid)
    full = np.concatenate([residual, residual.conj()], axis=1)
    shells = np.rint(np.hypot(*np.concatenate([plane.frequencies, -plane.frequencies]).T))
    variance = np.asarray(small.mu.noise_variance, np.float64)[shells.astype(int)]
    total = np.sum(-(np.abs(full) ** 2) / (2 * variance) - 0.5 * np.log(variance), axis=1)
    return total * flat(small.images.present)


def reference_particle_prior(small: Small) -> np.ndarray:
    """log P(R, tau, q | mu) per particle [N], up to constants."""
    mu, present = small.mu, flat(small.images.present)
    now, centre = ([flat(x) for x in part] for part in (small.latents, small.consensus))
    turn = Rotation.from_quat(now[0][:, [1, 2, 3, 0]])
    turn = turn * Rotation.from_quat(centre[0][:, [1, 2, 3, 0]]).inv()
    angle, sd = turn.magnitude(), float(mu.pose_sd_rad)
    haar = (np.sin(angle / 2) / (angle / 2)) ** 2
    pose = -(angle**2) / (2 * sd**2) - 3 * np.log(sd) - np.log(haar)
    sd = float(mu.shift_sd_px)
    moved = -np.sum((now[1] - centre[1]) ** 2, axis=1) / (2 * sd**2) - 2 * np.log(sd)
    sd = float(mu.contrast_sd)
    contrast = -((now[2] - 1) ** 2) / (2 * sd**2) - np.log(sd)
    chance = np.asarray(mu.occupancy, np.float64)
    bins = np.floor(now[3][:, 0] * len(chance)).astype(int)
    return (pose + moved + contrast + np.log(chance[bins] * len(chance))) * present


def reference_theta_prior(small: Small) -> float:
    """-level/2 theta' K theta + dimension/2 log level, K a Fourier multiplier within the ball."""
    basis = small.posterior.molecule.parts[0].basis
    maps = np.asarray(small.theta.maps[""], np.float64) * basis.support
    axis = np.fft.fftfreq(basis.n, 1.0 / basis.n)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    shell = np.minimum(np.rint(radius), KMAX + 1).astype(int)
    total = 0.0
    mu = small.mu
    for values, weights, level in zip(maps, mu.spectrum, mu.level, strict=True):
        power = np.abs(np.fft.fftn(values)) ** 2 / basis.n**3
        energy = np.sum(power * np.asarray(weights, np.float64)[shell])
        total += -0.5 * level * energy + 0.5 * basis.support.sum() * np.log(level)
    return float(total)


def reference_mu_prior(small: Small) -> float:
    """log P(mu): inverse gammas of the variances, gamma of the levels, Dirichlet of the bins."""
    mu, prior = small.mu, small.posterior.prior

    def inverse_gamma(law, variance) -> float:
        v = np.asarray(variance, np.float64)
        return float(np.sum(-(law.shape + 1) * np.log(v) - law.scale / v))

    level = np.asarray(mu.level, np.float64)
    return (
        inverse_gamma(prior.noise, mu.noise_variance[1:])
        + inverse_gamma(prior.pose, mu.pose_sd_rad**2)
        + inverse_gamma(prior.shift, mu.shift_sd_px**2)
        + inverse_gamma(prior.contrast, mu.contrast_sd**2)
        + float(np.sum((prior.level_shape - 1) * np.log(level) - prior.level_rate * level))
        + (prior.occupancy - 1) * float(np.sum(np.log(mu.occupancy)))
    )
