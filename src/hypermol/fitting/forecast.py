"""What a fit will cost before it is run: memory from shapes, seconds from one measured sweep."""

import time
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, final

import jax
import numpy as np

from hypermol.data.particles import ParticleSet
from hypermol.fitting.blocks.choice import sweep_blocks
from hypermol.fitting.found import Found
from hypermol.fitting.level import BLOCK, Level, Levels
from hypermol.fitting.march import carry, first_state
from hypermol.fitting.stages import Stage
from hypermol.fitting.sweep import ChainState, adapt_tunings, init_tunings, run_sweep
from hypermol.molecule.protocol import SlicedMolecule
from hypermol.posterior.theta_conditional import full_block_count
from hypermol.posterior.theta_convolution import is_worthwhile, n_numbers
from hypermol.recipe.budget import read_budget
from hypermol.recipe.design import AnyDesign
from hypermol.recipe.options import FitOptions
from hypermol.space.fourier import half_plane

#: Particles that the consensus and the timed sweep are made with.
SUBSET = 512
#: Bytes of a Fourier pixel, its complex64 value and its float32 CTF, and of a float32.
_PIXEL_BYTES, _NUMBER_BYTES = 12, 4
#: Copies of the slicing grids (theta's, its gradient's, and that of the images at hand), and of the
#: coefficients (theta, and
#: the solver's right side, solution, residual, direction, image and preconditioned residual).
_GRID_COPIES, _COEFFICIENT_COPIES = 3, 7
_CONSENSUS_SWEEPS = 3


@final
@dataclass(frozen=True)
class Memory:
    """Bytes that a fit holds beside the program and what it compiles.

    Attributes:
        images: the finest level's blocks: Fourier pixels times 12 (complex64 and the CTF).
        grids: slicing grids of the last level, three times.
        coefficients: theta of the last level, seven times.
        kernels: of its normal operator as a convolution, where that is used.
    """

    images: int
    grids: int
    coefficients: int
    kernels: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.images + self.grids + self.coefficients + self.kernels


class Seconds(NamedTuple):
    """An estimate.

    Attributes:
        sweep: of the last stage.
        fit: all sweeps of all chains.
        longest: the same if state terms rise as far as they may, and if chains are added for all
            of the budget.
        measured_on: particles.
    """

    sweep: float
    fit: float
    longest: float
    measured_on: int


def _bytes(shapes: object) -> int:
    leaves = jax.tree.leaves(shapes)
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def predict_memory(
    molecule: SlicedMolecule, schedule: tuple[Stage, ...], box: int, n_particles: int
) -> Memory:
    """Memory of a fit from shapes alone; nothing is computed.

    Args:
        molecule: of the last stage.
        schedule: the stages.
        box: side of the images in pixels.
        n_particles: in the set.
    """
    blocks = full_block_count(-(-n_particles // BLOCK))
    pixels = len(half_plane(box, max(stage.kmax for stage in schedule)).shells)
    theta = jax.eval_shape(molecule.init, jax.random.key(0))
    prepared = jax.eval_shape(molecule.prepare, theta)
    linear: Any = molecule
    convolves = is_worthwhile(molecule, blocks * BLOCK * pixels)
    return Memory(
        blocks * BLOCK * pixels * _PIXEL_BYTES,
        _GRID_COPIES * _bytes(prepared),
        _COEFFICIENT_COPIES * _bytes(theta),
        _NUMBER_BYTES * n_numbers(linear) if convolves else 0,
    )


def risen(schedule: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The stages that are run if images tell every state term that they are asked for."""
    most = max((stage.n_terms for stage in schedule if stage.rises), default=None)
    if most is None:
        return schedule
    return tuple(
        replace(stage, n_terms=most if stage.follows else stage.n_terms, rises=False)
        for stage in schedule
    )


def most_chains(options: FitOptions) -> int:
    """Chains that a run may come to have: those asked for, or all that its sweeps allow."""
    sweeps = read_budget(options.budget).sweeps if options.budget else None
    return max(options.chains, (sweeps or 0) // (options.samples * options.thin))


@final
class Trial:
    """The first particles of a fit, to draw a consensus of and to time a sweep on."""

    def __init__(
        self,
        particles: ParticleSet,
        options: FitOptions,
        design: AnyDesign,
        schedule: tuple[Stage, ...],
    ):
        self.particles, self.options, self.schedule = particles, options, schedule
        some = spread(particles, SUBSET)
        if not options.knows_poses:
            some = some.without_poses()
        self.levels = Levels(some, options, design, schedule[-1].kmax)

    def consensus(self) -> tuple[Level, ChainState]:
        """A rigid map at the input's poses."""
        stage = self.schedule[0]
        level = self.levels.level(stage, Found())
        state = first_state(level)
        blocks = sweep_blocks(stage, level.posterior)
        tunings = init_tunings(blocks, state, level.data)
        for key in jax.random.split(jax.random.key(self.options.seed), _CONSENSUS_SWEEPS):
            state, infos = run_sweep(key, blocks, state, tunings, level.data)
            tunings = adapt_tunings(blocks, tunings, infos)
        return level, state

    def memory(self) -> Memory:
        """Of the fit, in the ball that is given or that the first map starts from."""
        return self._memory(self.schedule)

    def largest_memory(self) -> Memory:
        """The same if state terms rise as far as they may."""
        return self._memory(risen(self.schedule))

    def _memory(self, schedule: tuple[Stage, ...]) -> Memory:
        molecule = self.levels.form(schedule[-1], Found()).molecule
        return predict_memory(molecule, schedule, self.particles.box, self.particles.n)

    def seconds(self, start: tuple[Level, ChainState]) -> Seconds:
        """Time one sweep of the last stage, once it is compiled, and scale it.

        The part of a sweep that does not grow with the particles (the solver's transforms) is
        scaled too, so that the estimate is high rather than low for large sets. The other stages
        are taken in proportion to `Stage.cost`, as the progress bar does.

        Args:
            start: what `consensus` gave.
        """
        last, options = self.schedule[-1], self.options
        level = self.levels.level(last, Found())
        keys = jax.random.split(jax.random.key(options.seed), 3)
        state = carry(keys[0], start[1], start[0].form, level)
        blocks = sweep_blocks(last, level.posterior)
        tunings = init_tunings(blocks, state, level.data)
        state, _ = run_sweep(keys[1], blocks, state, tunings, level.data)
        began = time.perf_counter()
        jax.block_until_ready(run_sweep(keys[2], blocks, state, tunings, level.data)[0])
        measured = self.levels.particles.n
        sweep = (time.perf_counter() - began) * self.particles.n / measured
        each = sweep / last.cost(self.particles.n)
        all_of_them = each * self._cost(self.schedule, options.chains)
        longest = each * self._cost(risen(self.schedule), most_chains(options))
        minutes = read_budget(options.budget).minutes if options.budget else None
        return Seconds(sweep, all_of_them, max(longest, 60.0 * (minutes or 0.0)), measured)

    def _cost(self, schedule: tuple[Stage, ...], chains: int) -> float:
        """Of all sweeps of so many chains, in the units of `Stage.cost`."""
        options, n = self.options, self.particles.n
        members = {True: min(options.starts, chains), False: chains}
        return sum(
            stage.cost(n)
            * stage.sweeps
            * (options.trials if stage.is_trial else members[stage.is_shared])
            for stage in schedule
            if not (stage.is_repair or stage.rises)
        )


def spread(particles: ParticleSet, n: int) -> ParticleSet:
    """At most n particles, evenly through the set."""
    if particles.n <= n:
        return particles
    return particles.select(np.linspace(0, particles.n - 1, n).astype(int))
