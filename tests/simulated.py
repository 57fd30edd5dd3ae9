"""Data simulated from a model's own prior: the ground of the Geweke and calibration tests."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from hypermol.fitting.sampler import ChainState, Data
from jax import Array

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.imaging.blocks import image_blocks, to_blocks
from hypermol.imaging.forward import predict
from hypermol.inference.ensemble import MoveSize
from hypermol.molecule.composite import expansion
from hypermol.molecule.protocol import Coefficients
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import StateBasis
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import HyperPrior, Nuisance
from hypermol.space.fourier import half_plane
from hypermol.space.normal import Gaussian
from hypermol.space.product import Product
from hypermol.space.rotation import quaternion_from_vector, quaternion_multiply, random_quaternions
from hypermol.space.state_space import StateSpace
from one_part import one_part


@dataclass(frozen=True)
class World:
    """A posterior with everything that is given: consensus poses, CTFs, which images exist.

    Attributes:
        posterior: the model.
        spectrum: [F, n_shells + 1] prior precision per shell at level 1.
        consensus: in blocks.
        blank: images without pixels: CTFs and which particles are present.
    """

    posterior: Posterior
    spectrum: Array
    consensus: Consensus
    blank: ImageBlocks

    @cached_property
    def prepare(self) -> Callable[[Coefficients], Array]:
        """The molecule's `prepare`, compiled."""
        return jax.jit(self.posterior.molecule.prepare)

    @cached_property
    def theta_roots(self) -> np.ndarray:
        """float64 [F, voxels in the ball, voxels in the ball]: white noise to the unit prior."""
        basis = self.posterior.molecule.parts[0].basis
        where = np.flatnonzero(basis.support)
        eye = np.zeros((len(where), basis.support.size), np.float32)
        eye[np.arange(len(where)), where] = 1.0
        units = jnp.asarray(eye.reshape(-1, 1, *basis.support.shape))
        roots = []
        for weights in self.spectrum:
            dense = jax.lax.map(lambda unit, w=weights: basis.precision(unit, w[None]), units)
            matrix = np.asarray(dense, np.float64).reshape(len(where), -1)[:, where]
            lower = np.linalg.cholesky(0.5 * (matrix + matrix.T))
            roots.append(scipy.linalg.solve_triangular(lower.T, np.eye(len(where)), lower=False))
        return np.stack(roots)


def make_world(
    state_basis: StateBasis,
    prior: HyperPrior,
    *,
    box: int,
    kmax: int,
    radius_px: float,
    blocks: tuple[int, int],
    precision: float,
    seed: int = 0,
) -> World:
    """A small world: random consensus poses, CTFs between flat and once reversed.

    Args:
        state_basis: of the molecule.
        prior: of mu.
        box: of images, in pixels (of one Angstrom).
        kmax: largest frequency in 1/box.
        radius_px: of the supporting ball.
        blocks: number of particles, and of particles in a block.
        precision: prior precision per voxel at level 1, frequency 0.
        seed: of the given quantities.
    """
    basis = Voxels(box, 1.0, kmax, radius_px)
    posterior = Posterior(expansion(basis, state_basis), half_plane(box, kmax), prior)
    shells = np.arange(basis.n_shells)
    falling = (1.0 + (shells / 3.0) ** 2) * (1.0 + state_basis.frequencies[:, None] ** 2 / 2.0)
    n, block = blocks
    rng = np.random.default_rng(seed)
    frequency = np.linalg.norm(posterior.plane.frequencies, axis=-1) / kmax
    ctf = np.cos(rng.uniform(0.5, 2.5, (n, 1)) * frequency**2).astype(np.float32)
    pixels = np.zeros(ctf.shape, np.complex64)
    quaternion = np.asarray(random_quaternions(jax.random.key(seed), n))
    shift = rng.normal(size=(n, 2)).astype(np.float32)
    return World(
        posterior,
        jnp.asarray(precision * falling, jnp.float32),
        Consensus(to_blocks(quaternion, block), to_blocks(shift, block)),
        image_blocks(pixels, ctf, block),
    )


def draw_nuisance_prior(rng: np.random.Generator, world: World) -> Nuisance:
    """mu ~ P(mu)."""
    prior, molecule = world.posterior.prior, world.posterior.molecule
    n_shells = world.posterior.plane.n_shells
    n_bins = world.posterior.n_bins
    occupancy = np.full(n_bins, 1.0 / n_bins)
    if molecule.state_space.has_occupancy:
        occupancy = rng.dirichlet(np.full(n_bins, prior.occupancy))

    def width(variance) -> Array:
        return jnp.asarray(np.sqrt(variance.draw(rng, 0.0, 0.0)), jnp.float32)

    return Nuisance(
        jnp.asarray(prior.noise.draw(rng, np.zeros(n_shells), np.zeros(n_shells)), jnp.float32),
        world.spectrum,
        jnp.asarray(
            rng.gamma(prior.level_shape, size=len(molecule.term_sizes)) / prior.level_rate,
            jnp.float32,
        ),
        width(prior.pose),
        width(prior.shift),
        width(prior.contrast),
        jnp.asarray(occupancy, jnp.float32),
    )


def draw_theta_prior(rng: np.random.Generator, world: World, nuisance: Nuisance) -> Coefficients:
    """theta ~ P(theta | mu), by dense linear algebra."""
    basis, roots = world.posterior.molecule.parts[0].basis, world.theta_roots
    white = rng.standard_normal(roots.shape[:2])
    values = np.einsum("fij,fj->fi", roots, white) / np.sqrt(np.asarray(nuisance.level))[:, None]
    maps = np.zeros((len(roots), basis.support.size), np.float32)
    maps[:, np.flatnonzero(basis.support)] = values
    return one_part(maps.reshape(len(roots), *basis.support.shape))


def states_in_bins(
    rng: np.random.Generator, space: StateSpace, bins: np.ndarray, n_bins: int
) -> np.ndarray:
    """Uniform states [..., dim] within given bins [...]; not for Gaussian factors."""
    factors = space.factors if isinstance(space, Product) else (space,)
    places = np.unravel_index(bins, space.bin_shape(n_bins))
    columns = [np.zeros((*bins.shape, 0))]
    for factor, place, size in zip(factors, places, space.bin_shape(n_bins), strict=True):
        if factor.dim:
            column = ((place + rng.uniform(size=bins.shape)) / size)[..., None]
            columns.append(np.asarray(factor.wrap(column)))
    return np.concatenate(columns, axis=-1)


def draw_latents_prior(rng: np.random.Generator, world: World, nuisance: Nuisance) -> Latents:
    """{R, tau, q} ~ P(R, tau, q | mu) of every particle."""
    shape = world.blank.present.shape
    space = world.posterior.molecule.state_space
    vector = float(nuisance.pose_sd_rad) * rng.standard_normal((*shape, 3))
    moved = float(nuisance.shift_sd_px) * rng.standard_normal((*shape, 2))
    contrast = 1.0 + float(nuisance.contrast_sd) * rng.standard_normal(shape)
    if space.has_occupancy:
        chance = np.asarray(nuisance.occupancy, np.float64)
        bins = rng.choice(len(chance), size=shape, p=chance / chance.sum())
        state = states_in_bins(rng, space, bins, len(chance))
    elif isinstance(space, Gaussian):
        state = rng.standard_normal((*shape, space.dim))
    else:
        state = np.zeros((*shape, 0))
    centred = Latents(*(np.asarray(x, np.float32) for x in (vector, moved, contrast, state)))
    return _posed(centred, world.consensus)


@jax.jit
def _posed(centred: Latents, consensus: Consensus) -> Latents:
    """Latents whose poses are given as deviations: rotation vectors and shifts."""
    turned = quaternion_multiply(quaternion_from_vector(centred.quaternion), consensus.quaternion)
    return centred._replace(quaternion=turned, shift_px=consensus.shift_px + centred.shift_px)


def clean_images(world: World, prepared: Array, latents: Latents) -> Array:
    """Noiseless half-plane images, complex [n_blocks, B, K]."""
    posterior = world.posterior

    def block(item: tuple[Latents, Array]) -> Array:
        return predict(posterior.molecule, prepared, item[0], item[1], posterior.plane)

    return jax.lax.map(block, (latents, world.blank.ctf))


def draw_images(key: Array, world: World, state: ChainState) -> Data:
    """{Y} ~ P(Y | everything): complex noise of variance sigma_k^2 on each half-plane pixel."""
    clean = clean_images(world, world.posterior.molecule.prepare(state.theta), state.latents)
    white = jax.random.normal(key, (2, *clean.shape))
    sd = jnp.sqrt(0.5 * state.nuisance.noise_variance[world.posterior.plane.shells])
    pixels = clean + sd * jax.lax.complex(white[0], white[1])
    return Data(world.blank._replace(pixels=pixels), world.consensus)


def draw_prior(rng: np.random.Generator, world: World, size: tuple[float, float]) -> ChainState:
    """All unknowns from the prior; `size` is the width of pose moves (radians, pixels)."""
    nuisance = draw_nuisance_prior(rng, world)
    theta = draw_theta_prior(rng, world, nuisance)
    latents = draw_latents_prior(rng, world, nuisance)
    shape = world.blank.present.shape
    widths = MoveSize(jnp.full(shape, size[0]), jnp.full(shape, size[1]))
    return ChainState(theta, nuisance, latents, widths, world.prepare(theta))
