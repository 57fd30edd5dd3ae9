"""Data simulated from a model's own prior: the ground of the Geweke and calibration tests."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import Array
from scipy.spatial.transform import Rotation

from hypermol.data.latents import Consensus, ImageBlocks, Latents
from hypermol.fitting.sweep import ChainState, Data
from hypermol.imaging.blocks import image_blocks, to_blocks
from hypermol.molecule.composite import Composite, expansion
from hypermol.molecule.parts import Part
from hypermol.molecule.protocol import Coefficients
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import StateBasis
from hypermol.posterior.pose_priors import APART
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters, HyperPrior
from hypermol.posterior.theta_conditional import full_block_count
from hypermol.space.fourier import half_plane
from hypermol.space.normal import Gaussian
from hypermol.space.product import Product
from hypermol.space.rotation import quaternion_from_vector, quaternion_multiply, random_quaternions
from hypermol.space.state_space import StateSpace

#: (generator, posterior, mu) -> theta ~ P(theta | mu), beside the density prior.
ThetaPrior = Callable[[np.random.Generator, Posterior, Hyperparameters], Any]


@dataclass(frozen=True)
class World:
    """A posterior with everything that is given: consensus poses, CTFs, which images exist.

    Attributes:
        posterior: the model.
        spectrum: [T, n_shells + 1] prior precision per shell at level 1.
        consensus: in blocks.
        blank: images without pixels: CTFs and which particles are present.
        draw_theta: of the Gaussian prior, or of a black box's own.
    """

    posterior: Posterior
    spectrum: Array
    consensus: Consensus
    blank: ImageBlocks
    draw_theta: ThetaPrior

    @cached_property
    def log_tilt(self) -> Callable[[Any], Array]:
        """What the density prior adds to theta's log prior, compiled."""
        posterior = self.posterior
        return jax.jit(lambda theta: posterior.density_prior.log_density(posterior.molecule, theta))


def prior_roots(part: Part, spectrum: Array) -> np.ndarray:
    """float64 [terms, M, M]: white noise to the unit prior of a part's M voxels in its support."""
    basis: Any = part.basis
    where = np.flatnonzero(basis.support)
    eye = np.zeros((len(where), basis.support.size), np.float32)
    eye[np.arange(len(where)), where] = 1.0
    units = jnp.asarray(eye.reshape(-1, 1, *basis.support.shape))
    roots = []
    for weights in spectrum:
        dense = jax.lax.map(lambda unit, w=weights: basis.precision(unit, w[None]), units)
        matrix = np.asarray(dense, np.float64).reshape(len(where), -1)[:, where]
        lower = np.linalg.cholesky(0.5 * (matrix + matrix.T))
        roots.append(scipy.linalg.solve_triangular(lower.T, np.eye(len(where)), lower=False))
    return np.stack(roots)


def linear_theta(molecule: Composite, spectrum: Array) -> ThetaPrior:
    """Draws by dense linear algebra; trajectories' parameters are standard normal."""
    starts = np.cumsum([0] + [part.state_basis.n_terms for part in molecule.parts])
    rows = {
        p.name: slice(a, b) for p, a, b in zip(molecule.parts, starts, starts[1:], strict=False)
    }
    roots = {part.name: prior_roots(part, spectrum[rows[part.name]]) for part in molecule.parts}
    still = molecule.init(jax.random.key(0)).motion

    def draw(rng: np.random.Generator, posterior: Posterior, mu: Hyperparameters) -> Coefficients:
        maps = {}
        for part in molecule.parts:
            basis: Any = part.basis
            root, level = roots[part.name], np.asarray(mu.level)[rows[part.name]]
            white = rng.standard_normal(root.shape[:2])
            values = np.zeros((len(root), basis.support.size), np.float32)
            drawn = np.einsum("fij,fj->fi", root, white) / np.sqrt(level)[:, None]
            values[:, np.flatnonzero(basis.support)] = drawn
            maps[part.name] = jnp.asarray(values.reshape(len(root), *basis.support.shape))
        return Coefficients(maps, normal_like(rng, still))

    return draw


def normal_like(rng: np.random.Generator, tree: Any) -> Any:
    """Standard normal numbers in the shape of a pytree."""
    return jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape), jnp.float32), tree)


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
    molecule = expansion(Voxels(box, 1.0, kmax, radius_px), state_basis)
    posterior = Posterior(molecule, half_plane(box, kmax), prior)
    spectrum = falling_spectrum(molecule, precision)
    return given(posterior, spectrum, linear_theta(molecule, spectrum), blocks, seed)


def falling_spectrum(molecule: Composite, precision: float) -> Array:
    """Prior precision per term and shell [T, n_shells]: `precision` and above."""
    shells = np.arange(molecule.parts[0].basis.n_shells)
    orders = np.concatenate([part.state_basis.frequencies for part in molecule.parts])
    falling = (1.0 + (shells / 3.0) ** 2) * (1.0 + orders[:, None] ** 2 / 2.0)
    return jnp.asarray(precision * falling, jnp.float32)


def given(
    posterior: Posterior,
    spectrum: Array,
    draw_theta: ThetaPrior,
    blocks: tuple[int, int],
    seed: int = 0,
) -> World:
    """A world about any posterior; see `make_world`."""
    n, block = blocks
    n_blocks = full_block_count(-(-n // block))
    rng = np.random.default_rng(seed)
    frequency = np.linalg.norm(posterior.plane.frequencies, axis=-1) / posterior.plane.kmax
    ctf = np.cos(rng.uniform(0.5, 2.5, (n, 1)) * frequency**2).astype(np.float32)
    pixels = np.zeros(ctf.shape, np.complex64)
    quaternion = np.asarray(random_quaternions(jax.random.key(seed), n))
    shift = rng.normal(size=(n, 2)).astype(np.float32)
    return World(
        posterior,
        spectrum,
        Consensus(*(to_blocks(values, block, n_blocks) for values in (quaternion, shift))),
        image_blocks(pixels, ctf, block, n_blocks),
        draw_theta,
    )


def draw_mu_prior(rng: np.random.Generator, world: World) -> Hyperparameters:
    """mu ~ P(mu)."""
    prior, molecule = world.posterior.prior, world.posterior.molecule
    n_shells = world.posterior.plane.n_shells
    n_bins = world.posterior.n_bins
    occupancy = np.full(n_bins, 1.0 / n_bins)
    if molecule.state_space.has_occupancy:
        occupancy = rng.dirichlet(np.full(n_bins, prior.occupancy))

    misplaced, wide = np.zeros(2), world.posterior.pose_prior.misplaced_shift
    if wide is not None:
        misplaced = rng.beta(*prior.misplaced_beta, size=2)

    def width(variance) -> Array:
        return jnp.asarray(np.sqrt(variance.draw(rng, 0.0, 0.0)), jnp.float32)

    mu = Hyperparameters(
        jnp.asarray(prior.noise.draw(rng, np.zeros(n_shells), np.zeros(n_shells)), jnp.float32),
        world.spectrum,
        jnp.asarray(
            rng.gamma(prior.level_shape, size=len(molecule.term_sizes)) / prior.level_rate,
            jnp.float32,
        ),
        width(prior.pose) if world.posterior.pose_prior.has_width else jnp.float32(1.0),
        width(prior.shift),
        width(prior.contrast),
        jnp.asarray(occupancy, jnp.float32),
        jnp.asarray(misplaced, jnp.float32),
        jnp.float32(1.0) if wide is None else width(wide),
    )
    while wide is not None and mu.misplaced_shift_sd_px < APART * mu.shift_sd_px:
        mu = mu._replace(shift_sd_px=width(prior.shift), misplaced_shift_sd_px=width(wide))
    return mu


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


def draw_latents_prior(rng: np.random.Generator, world: World, mu: Hyperparameters) -> Latents:
    """{R, tau, q} ~ P(R, tau, q | mu) of every particle."""
    shape = world.blank.present.shape
    space = world.posterior.molecule.state_space
    vector = float(mu.pose_sd_rad) * rng.standard_normal((*shape, 3))
    moved = float(mu.shift_sd_px) * rng.standard_normal((*shape, 2))
    contrast = 1.0 + float(mu.contrast_sd) * rng.standard_normal(shape)
    if space.has_occupancy:
        chance = np.asarray(mu.occupancy, np.float64)
        bins = rng.choice(len(chance), size=shape, p=chance / chance.sum())
        state = states_in_bins(rng, space, bins, len(chance))
    elif isinstance(space, Gaussian):
        state = rng.standard_normal((*shape, space.dim))
    else:
        state = np.zeros((*shape, 0))
    pose_prior = world.posterior.pose_prior
    anywhere = Rotation.from_quat(rng.standard_normal((*shape, 4))).as_rotvec()
    if pose_prior.misplaced_shift is not None:
        far, wide = (rng.uniform(size=shape) < float(share) for share in mu.misplaced)
        vector = np.where(far[..., None], anywhere, vector)
        wide_px = float(mu.misplaced_shift_sd_px) * rng.standard_normal((*shape, 2))
        moved = np.where(wide[..., None], wide_px, moved)
    elif not pose_prior.has_width:
        vector = anywhere
    centred = Latents(*(np.asarray(x, np.float32) for x in (vector, moved, contrast, state)))
    return _posed(centred, world.consensus)


@jax.jit
def _posed(centred: Latents, consensus: Consensus) -> Latents:
    """Latents whose poses are given as deviations: rotation vectors and shifts."""
    turned = quaternion_multiply(quaternion_from_vector(centred.quaternion), consensus.quaternion)
    return centred._replace(quaternion=turned, shift_px=consensus.shift_px + centred.shift_px)


def clean_images(world: World, theta: Any, latents: Latents) -> Array:
    """Noiseless half-plane images, complex [n_blocks, B, K]."""
    posterior = world.posterior
    prepared = posterior.molecule.prepare(theta)

    def block(item: tuple[Latents, Array]) -> Array:
        return posterior.predict(prepared, *item)

    return jax.lax.map(block, (latents, world.blank.ctf))


def draw_images(key: Array, world: World, state: ChainState) -> Data:
    """{Y} ~ P(Y | everything): complex noise of variance sigma_k^2 on each half-plane pixel."""
    clean = clean_images(world, state.theta, state.latents)
    white = jax.random.normal(key, (2, *clean.shape))
    sd = jnp.sqrt(0.5 * state.mu.noise_variance[world.posterior.plane.shells])
    pixels = clean + sd * jax.lax.complex(white[0], white[1])
    return Data(world.blank._replace(pixels=pixels), world.consensus)


def draw_prior(rng: np.random.Generator, world: World) -> ChainState:
    """All unknowns from the prior, without a density prior."""
    mu = draw_mu_prior(rng, world)
    theta = world.draw_theta(rng, world.posterior, mu)
    return ChainState(theta, mu, draw_latents_prior(rng, world, mu))


def draw_tilted_prior(rng: np.random.Generator, world: World, most: float) -> ChainState:
    """All unknowns under a density prior whose log density is `most` at most: by rejection.

    mu and theta are refused together, for the density prior multiplies their joint law.
    """
    while True:
        mu = draw_mu_prior(rng, world)
        theta = world.draw_theta(rng, world.posterior, mu)
        if np.log(rng.uniform()) < float(world.log_tilt(theta)) - most:
            return ChainState(theta, mu, draw_latents_prior(rng, world, mu))
