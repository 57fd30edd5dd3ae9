"""Levels of the march: a stage's posterior, and its data.

The images are read and transformed once, up to the finest level's frequencies; every level's
pixels are a part of those.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import ImageBlocks
from hypermol.data.particles import ParticleSet
from hypermol.fitting.blocks.matching import SHIFT_SHARE
from hypermol.fitting.found import Found
from hypermol.fitting.stages import Stage
from hypermol.fitting.sweep import Data
from hypermol.imaging.blocks import consensus_poses, image_blocks, particle_ctf, read_half_plane
from hypermol.molecule.protocol import SlicedMolecule
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.posterior.pose_priors import AboutConsensus, PosePrior, SomeMisplaced, Uniform
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import InverseGamma
from hypermol.posterior.theta_conditional import full_block_count
from hypermol.recipe.density_priors import read_density_prior
from hypermol.recipe.design import AnyDesign, Grid, consensus
from hypermol.recipe.options import FitOptions
from hypermol.runtime import release_memory
from hypermol.space.fourier import HalfPlane, half_plane, plane_columns

#: Particles handled together; larger blocks fall out of the cache.
BLOCK = 32
#: Radius of the first map's support as a fraction of the box.
FIRST_RADIUS = 0.45


class Form(NamedTuple):
    """What a chain's unknowns are of: the molecule, the finest frequency it has seen, and the
    blocks of particles, None for all.

    Forms of one key are alike.
    """

    molecule: SlicedMolecule
    kmax: int
    key: tuple
    blocks: np.ndarray | None = None


@final
@dataclass(frozen=True)
class Level:
    """A posterior at one resolution, with its data and the grid of its maps."""

    form: Form
    posterior: Posterior
    data: Data
    grid: Voxels

    @property
    def molecule(self) -> SlicedMolecule:
        """The level's molecule."""
        return self.posterior.molecule

    @cached_property
    def shown(self) -> Callable[[Any], Array]:
        """Maps [G, n, n, n] that show a theta: compiled once, not for every sample."""
        return jax.jit(self.molecule.shown)

    @cached_property
    def shell_power(self) -> np.ndarray:
        """Mean |Y|^2 per shell, float64 [n_shells]: an upper bound of the noise to start from."""
        images = self.data.images
        pixels = np.asarray(_sum_of_power(images)) / float(np.asarray(images.present).sum())
        return self._shell_means(pixels)

    @cached_property
    def shell_transfer(self) -> np.ndarray:
        """Mean squared transfer function per shell, float64 [n_shells]."""
        imaging, plane = self.posterior.imaging, self.posterior.plane

        @jax.jit
        def mean(ctf: Array) -> Array:
            squares = jax.lax.map(lambda c: jnp.mean(imaging.transfer(c, plane) ** 2, axis=0), ctf)
            return jnp.mean(squares, axis=0)

        return self._shell_means(np.asarray(mean(self.data.images.ctf)))

    def _shell_means(self, pixels: np.ndarray) -> np.ndarray:
        """Means over shells of values [K]; the unobserved k = 0 has the first shell's."""
        shells, counts = self.posterior.plane.shells, np.maximum(self.posterior.shell_counts, 1)
        total = np.bincount(shells, pixels, len(counts)) / counts
        total[0] = total[1]
        return total


@jax.jit
def _sum_of_power(images: ImageBlocks) -> Array:
    """|Y|^2 summed over the images that are present, [K]."""

    def block(item: ImageBlocks) -> Array:
        return jnp.sum(jnp.abs(item.pixels) ** 2 * item.present[:, None], axis=0)

    return jnp.sum(jax.lax.map(block, images), axis=0)


def spread_blocks(particles: int, every: int) -> np.ndarray | None:
    """Of `every` block those, int [m], that hold about so many particles, spread evenly; None for
    all of them, where there are no more."""
    count = full_block_count(-(-particles // BLOCK))
    return np.linspace(0, every - 1, count).astype(int) if count < every else None


@final
@dataclass(frozen=True)
class FourierImages:
    """All particles' Fourier pixels up to one frequency, read when they are first asked for.

    Attributes:
        particles: whose images they are.
        kmax: largest spatial frequency, in 1/box.
    """

    particles: ParticleSet
    kmax: int

    @cached_property
    def _finest(self) -> HalfPlane:
        return half_plane(self.particles.box, self.kmax)

    @cached_property
    def _data(self) -> Data:
        particles, plane = self.particles, self._finest
        # absent blocks at the end, so that all blocks fall into groups of one size
        blocks = BLOCK, full_block_count(-(-particles.n // BLOCK))
        pixels, ctf = read_half_plane(particles, plane), particle_ctf(particles, plane)
        particles.close()
        return Data(image_blocks(pixels, ctf, *blocks), consensus_poses(particles, *blocks))

    def up_to(self, plane: HalfPlane, blocks: np.ndarray | None) -> Data:
        """Pixels of a plane that is not finer, with the input's poses, of some blocks or all."""
        data = self._data
        if blocks is not None:
            data = jax.tree.map(lambda x: x[blocks], data)
        if plane.n_shells == self._finest.n_shells:
            return data
        columns = plane_columns(self._finest, plane)
        pixels, ctf = _columns((data.images.pixels, data.images.ctf), columns)
        return data._replace(images=data.images._replace(pixels=pixels, ctf=ctf))


@jax.jit
def _columns(images: tuple[Array, Array], columns: Array) -> tuple[Array, Array]:
    return jax.tree.map(lambda values: jnp.take(values, columns, axis=-1), images)


def _pose_prior(poses: str, box: int) -> PosePrior:
    """What an option says of the input's poses."""
    if poses == "rescue":
        return SomeMisplaced(InverseGamma(2.0, (SHIFT_SHARE * box) ** 2))
    return Uniform() if poses in ("search", "start") else AboutConsensus()


@final
@dataclass(frozen=True)
class Levels:
    """Makes the levels of a run.

    Attributes:
        particles: all of them.
        options: of the fit.
        design: the model.
        kmax: the finest level's.
    """

    particles: ParticleSet
    options: FitOptions
    design: AnyDesign
    kmax: int

    @cached_property
    def _images(self) -> FourierImages:
        return FourierImages(self.particles, self.kmax)

    def grid(self, stage: Stage, found: Found) -> Grid:
        """Resolution of a stage, and the ball that holds everything."""
        box, pixel = self.particles.box, self.particles.pixel_size_angstrom
        radius = self.options.radius_angstrom
        if radius is None and not stage.finds_radius:
            radius = found.radius_angstrom
        return Grid(box, pixel, stage.kmax, radius or FIRST_RADIUS * box * pixel)

    def key(self, stage: Stage, found: Found) -> tuple:
        """What forms are alike by."""
        return stage.form, stage.n_terms, self.grid(stage, found), found.log_gain, stage.subset

    def _blocks(self, stage: Stage) -> np.ndarray | None:
        """The blocks that a stage is of, spread evenly over all particles; None for all of them."""
        if stage.subset is None:
            return None
        return spread_blocks(stage.subset, -(-self.particles.n // BLOCK))

    def form(self, stage: Stage, found: Found) -> Form:
        """The molecule of a stage."""
        grid = self.grid(stage, found)
        molecule: Any
        if stage.form == "constant":
            molecule = consensus(grid)
        elif stage.form == "subspace":
            molecule = self.design.subspace(grid, stage.n_terms - 1)
        else:
            molecule = self.design.molecule(grid, stage.n_terms)
            if found.log_gain is not None:
                molecule = molecule.with_gain(found.log_gain)
        return Form(molecule, stage.kmax, self.key(stage, found), self._blocks(stage))

    def level(self, stage: Stage, found: Found) -> Level:
        """The posterior of a stage with its data; the images are read at the first call.

        What earlier levels had compiled is let go.
        """
        release_memory()
        box, pixel = self.particles.box, self.particles.pixel_size_angstrom
        plane = half_plane(box, stage.kmax)
        form = self.form(stage, found)
        posterior = Posterior(
            form.molecule,
            plane,
            self.options.prior,
            density_prior=read_density_prior(self.options.density_prior, box, pixel),
            pose_prior=_pose_prior(self.options.poses, box),
        )
        return Level(
            form, posterior, self._images.up_to(plane, form.blocks), self.grid(stage, found).voxels
        )
