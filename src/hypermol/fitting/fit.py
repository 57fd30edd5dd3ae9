"""The main job: from a particle set to posterior samples of a moving molecule.

Read this first. A run is a tuple of stages (`stages`), each a number of equal sweeps at one
resolution; a sweep draws every unknown in turn (`sweep`, `blocks`). Burn-in stages also adapt
their kernels; the sampling stage changes nothing but the unknowns and keeps samples. Stages are
the outer loop and chains the inner one, so that only one level's images are held. Between stages
a chain lives in its checkpoint alone, and the key of a sweep depends on its place alone: a
resumed run ends bit-identical.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from hypermol.data.half_sets import half_sets
from hypermol.data.particles import ParticleSet, ParticleSource
from hypermol.fitting import checkpoint, first_map
from hypermol.fitting.blocks.choice import sweep_blocks
from hypermol.fitting.half_maps import half_maps
from hypermol.fitting.level import FourierImages, Level
from hypermol.fitting.march import Form, carry, first_state, flatten_spectrum
from hypermol.fitting.record import check_finite, sample_arrays
from hypermol.fitting.run_info import begin_run, describe, end_run, start_clock
from hypermol.fitting.stages import Stage, make_plan, make_schedule, sweep_key
from hypermol.fitting.sweep import (
    ChainState,
    Sweep,
    Tunings,
    adapt_tunings,
    init_tunings,
    run_sweep,
    trace_numbers,
)
from hypermol.io.store import RunDirectory
from hypermol.molecule.protocol import SlicedMolecule
from hypermol.posterior.posterior import Posterior
from hypermol.recipe.density_priors import read_density_prior
from hypermol.recipe.design import AnyDesign, Grid, consensus
from hypermol.recipe.options import FitOptions, make_design
from hypermol.space.fourier import half_plane

#: Keys of the steps between stages start here, past those of any sweep.
_CARRIES = 1 << 30


@final
@dataclass(frozen=True)
class Progress:
    """What a sweep reports: where the chain is, and the record that trace.jsonl keeps."""

    chain: int
    chains: int
    stage: Stage
    sweep: int
    schedule: tuple[Stage, ...]
    images: int
    record: dict


Listener = Callable[[Progress], None]


def fit(
    source: ParticleSource,
    out: str,
    options: FitOptions,
    listener: Listener = lambda progress: None,
    resume: bool = False,
) -> RunDirectory:
    """Sample the posterior of eq. 29 for a particle set.

    Args:
        source: RELION STAR or cryoSPARC .cs file, and where its images are.
        out: run directory to write.
        options: the model and the schedule.
        listener: called after every sweep.
        resume: go on with the run in `out` from its checkpoints; more samples or chains may be
            asked for than before.

    Raises:
        InputError: names the file, row or option, and the remedy.
    """
    clock = start_clock()
    particles = source.load(options.invert_contrast)
    design = make_design(options, particles.box, particles.pixel_size_angstrom)
    schedule = make_schedule(options, make_plan(options, particles, design))
    directory = RunDirectory.open(out) if resume else RunDirectory.create(out)
    info = describe(particles, source, options, schedule, design)
    begin_run(directory, info, options, resume)
    job = _Job(particles, options, schedule, design, directory, listener)
    job.run()
    info["radius_angstrom"] = job.found.radius_angstrom
    end_run(directory, info, clock)
    return directory


@final
@dataclass(frozen=True)
class Found:
    """What the run's first calls learned from the data, and all chains go by.

    Attributes:
        radius_angstrom: of the molecule's support, None before the first map.
        log_gain: of a molecule of the user's own; see `molecule.by_fourier`.
        spectrum: of theta's Gaussian prior while sampling, [T, n_shells + 1] as lists.
    """

    radius_angstrom: float | None
    log_gain: float | None = None
    spectrum: list[list[float]] | None = None


@final
class _Job:
    """One fit in progress."""

    def __init__(
        self,
        particles: ParticleSet,
        options: FitOptions,
        schedule: tuple[Stage, ...],
        design: AnyDesign,
        directory: RunDirectory,
        listener: Listener,
    ):
        self.particles, self.options, self.schedule = particles, options, schedule
        self.design, self.directory, self.listener = design, directory, listener
        self.images = FourierImages(particles, max(stage.kmax for stage in schedule))
        size = (particles.box, particles.pixel_size_angstrom)
        self.density_prior = read_density_prior(options.density_prior, *size)
        self.found = Found(options.radius_angstrom)
        if directory.has("found.json"):
            self.found = Found(**directory.read_json("found.json"))

    def run(self) -> None:
        """All stages in turn, every chain through each that it has not finished."""
        first, before = 0, None
        for stage in self.schedule:
            last = first + stage.sweeps
            behind = [chain for chain in self._members(stage) if self._done(chain) < last]
            if behind:
                self._run_stage(stage, before, first, behind)
            first, before = last, stage

    def _members(self, stage: Stage) -> range:
        """The chains that run a stage: of a shared one, one for each start."""
        starts = min(self.options.starts, self.options.chains)
        return range(starts if stage.is_shared else self.options.chains)

    def _saved(self, chain: int) -> checkpoint.Checkpoint | None:
        """A chain's checkpoint, else the end of the start that it parts from."""
        own = checkpoint.load(self.directory, checkpoint.chain_name(chain))
        if own is not None:
            return own
        start = chain % self.options.starts
        return checkpoint.load(self.directory, checkpoint.branch_name(start))

    def _done(self, chain: int) -> int:
        saved = self._saved(chain)
        return 0 if saved is None else saved.done

    def _run_stage(
        self, stage: Stage, before: Stage | None, first: int, chains: list[int]
    ) -> None:
        """Chains that are behind, one after another, on one level's data."""
        level = self._level(stage)
        blocks = sweep_blocks(stage, level.posterior, self.options.start_steps)
        if not stage.burn_in and not all(block.is_exact for block in blocks):
            raise ValueError(f"stage {stage.name!r} keeps samples of sweeps that are not exact")
        if not stage.burn_in:
            self._share_spectrum(level, before, first)
        for chain in chains:
            state, tunings, done = self._enter(chain, stage, before, first, level, blocks)
            for sweep in range(done, first + stage.sweeps):
                state, tunings = self._sweep(chain, stage, sweep, first, level, blocks, state, tunings)
            self._end(chain, stage, first + stage.sweeps, level, state, tunings)
