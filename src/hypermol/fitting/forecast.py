"""What a fit will cost before it is run: memory from a formula, seconds from one measured sweep."""

import time
from dataclasses import dataclass
from typing import NamedTuple, final

import jax
import numpy as np

from hypermol.data.particles import ParticleSet
from hypermol.fitting.fit import FIRST_RADIUS, sweep_blocks
from hypermol.fitting.march import BLOCK, Level, carry, estimate_spectrum, first_state, make_level
from hypermol.fitting.sampler import ChainState, run_sweep
from hypermol.fitting.stages import Stage
from hypermol.molecule.protocol import LinearMolecule
from hypermol.recipe.design import Design, Grid, consensus
from hypermol.recipe.options import FitOptions
from hypermol.space.fourier import half_plane

#: Particles that the consensus and the timed sweep are made with.
SUBSET = 512
#: Bytes of a Fourier pixel: its complex64 value and its float32 CTF.
_PIXEL_BYTES = 12
#: Copies of the slicing grids (theta's and its gradient's) and of the coefficients (theta, and
#: the solver's right side, solution, residual, direction, image and preconditioned residual).
_GRID_COPIES, _COEFFICIENT_COPIES = 2, 7
_CONSENSUS_SWEEPS = 3


@final
@dataclass(frozen=True)
class Memory:
    """Bytes that a fit holds.

    Attributes:
        images: of every level of the march, for all of them stay: the particles filled up to
            blocks of 32, times the level's Fourier pixels, times 12 (complex64 and the CTF).
        grids: slicing grids of the last level, twice.
        coefficients: theta of the last level, seven times.
    """

    images: int
    grids: int
    coefficients: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.images + self.grids + self.coefficients


class Seconds(NamedTuple):
    """An estimate: of the last stage's sweep, of all sweeps of all chains; particles measured."""

    sweep: float
    fit: float
    measured_on: int


def final_molecule(
    design: Design, options: FitOptions, particles: ParticleSet, stage: Stage
) -> LinearMolecule:
    """The molecule of a stage, in the ball that is given or that the first map starts from."""
    return design.molecule(_grid(options, particles, stage.kmax), stage.n_terms)


def _grid(options: FitOptions, particles: ParticleSet, kmax: int) -> Grid:
    side = particles.box * particles.pixel_size_angstrom
    radius = options.radius_angstrom or FIRST_RADIUS * side
    return Grid(particles.box, particles.pixel_size_angstrom, kmax, radius)


def _bytes(shapes: object) -> int:
    leaves = jax.tree.leaves(shapes)
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def predict_memory(
    molecule: LinearMolecule, schedule: tuple[Stage, ...], box: int, n_particles: int
) -> Memory:
    """Memory of a fit from shapes alone; nothing is computed.

    Args:
        molecule: of the last stage.
        schedule: the stages.
        box: side of the images in pixels.
        n_particles: in the set.
    """
    filled = -(-n_particles // BLOCK) * BLOCK
    levels = {(stage.basis, stage.kmax, stage.n_terms) for stage in schedule}
    pixels = sum(len(half_plane(box, kmax).shells) for _, kmax, _ in levels)
    theta = jax.eval_shape(molecule.init, jax.random.key(0))
    prepared = jax.eval_shape(molecule.prepare, theta)
    return Memory(
        filled * pixels * _PIXEL_BYTES,
        _GRID_COPIES * _bytes(prepared),
        _COEFFICIENT_COPIES * _bytes(theta),
    )


def quick_consensus(
    particles: ParticleSet, options: FitOptions, stage: Stage
) -> tuple[Level, ChainState]:
    """A rigid map at the input's poses, from the first `SUBSET` particles spread over the set."""
    level = make_level(
        spread(particles, SUBSET),
        consensus(grid := _grid(options, particles, stage.kmax)),
        grid.voxels,
        options.prior,
    )
    state = first_state(level)
    blocks = tuple(b for b in sweep_blocks(stage, level) if b.name in ("molecule", "nuisance"))
    for key in jax.random.split(jax.random.key(options.seed), _CONSENSUS_SWEEPS):
        state, _ = run_sweep(key, blocks, state, level.data)
        state = estimate_spectrum(level, state)
    return level, state


def spread(particles: ParticleSet, n: int) -> ParticleSet:
    """At most n particles, evenly through the set."""
    if particles.n <= n:
        return particles
    return particles.select(np.linspace(0, particles.n - 1, n).astype(int))


def predict_seconds(
    particles: ParticleSet,
    options: FitOptions,
    schedule: tuple[Stage, ...],
    molecule: LinearMolecule,
    start: tuple[Level, ChainState],
) -> Seconds:
    """Time one sweep of the last stage on a few particles, once it is compiled, and scale it.

    The part of a sweep that does not grow with the particles (the solver's transforms) is scaled
    too, so that the estimate is high rather than low for large sets. The other stages are taken
    in proportion to `Stage.cost`, as the progress bar does.

    Args:
        particles: the whole set.
        options: of the fit.
        schedule: its stages.
        molecule: of the last stage.
        start: what `quick_consensus` gave.
    """
    some, last = spread(particles, SUBSET), schedule[-1]
    grid = _grid(options, particles, last.kmax)
    level = make_level(some, molecule, grid.voxels, options.prior)
    keys = jax.random.split(jax.random.key(options.seed), 3)
    state = carry(keys[0], start[1], start[0], level)
    blocks = sweep_blocks(last, level)
    state, _ = run_sweep(keys[1], blocks, state, level.data)
    began = time.perf_counter()
    jax.block_until_ready(run_sweep(keys[2], blocks, state, level.data))
    sweep = (time.perf_counter() - began) * particles.n / some.n
    costs = sum(stage.cost * stage.sweeps for stage in schedule)
    shared = sum(s.cost * s.sweeps for s in schedule if s.basis in ("constant", "subspace"))
    total = costs + (options.chains - 1) * (costs - shared)
    return Seconds(sweep, sweep * total / last.cost, some.n)
