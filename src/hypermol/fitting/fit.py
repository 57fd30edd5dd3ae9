"""The main job: from a particle set to posterior samples of a moving molecule.

Read this first. `fit` runs every chain through the stages of a schedule; a stage is a number of
equal sweeps at one resolution; a sweep draws every unknown in turn (`sampler`). Burn-in stages
also adapt proposal widths and the prior's spectrum; the sampling stage changes nothing but the
unknowns and keeps samples. Everything needed to go on is in the checkpoint, and the key of a
sweep depends on its place alone, so a resumed run ends bit-identical.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from hypermol.data.particles import ParticleSet, load_particles
from hypermol.fitting.blocks.moving_frame import moving_frame_block
from hypermol.fitting.checkpoint import (
    BRANCH,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    with_theta,
)
from hypermol.fitting.march import (
    Level,
    carry,
    check_contrast,
    estimate_spectrum,
    first_state,
    half_set_maps,
    make_level,
    support_radius_angstrom,
)
from hypermol.fitting.record import sample_arrays, trace_numbers
from hypermol.fitting.run_info import begin_run, describe, end_run, start_clock
from hypermol.fitting.sampler import (
    ChainState,
    Info,
    Sweep,
    molecule_block,
    motion_blocks,
    nuisance_block,
    particle_block,
    run_sweep,
)
from hypermol.fitting.stages import Stage, adapt, default_schedule, make_plan, sweep_key
from hypermol.io.store import RunDirectory
from hypermol.molecule.protocol import LinearMolecule
from hypermol.posterior.priors import draw_nuisance, draw_pose_widths
from hypermol.recipe.density_priors import read_density_prior
from hypermol.recipe.design import Grid, consensus
from hypermol.recipe.options import FitOptions, make_design

#: Error of theta's draws in posterior standard deviations: adds 1 % to their variance at most.
_TOLERANCE = 0.1
_MAX_ITERATIONS = 100
_STATE_STEPS = 2
_ADAPT_GAIN = 0.3
#: Keys of the steps between stages start here, past those of any sweep.
_CARRIES = 1 << 30
#: Radius of the first map's support as a fraction of the box.
FIRST_RADIUS = 0.45


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
    particles_path: str | Path,
    out: str | Path,
    options: FitOptions,
    listener: Listener = lambda progress: None,
    resume: bool = False,
    image_dir: str | Path | None = None,
) -> RunDirectory:
    """Sample the posterior of eq. 29 for a particle set.

    Args:
        particles_path: RELION STAR or cryoSPARC .cs file.
        out: run directory to write.
        options: the model and the schedule.
        listener: called after every sweep.
        resume: go on with the run in `out` from its checkpoints; more samples or chains may be
            asked for than before.
        image_dir: folder of the image stacks, where they are not beside the particle file.

    Raises:
        InputError: names the file, row or option, and the remedy.
    """
    clock = start_clock()
    particles = load_particles(
        particles_path, image_dir=image_dir, invert_contrast=options.invert_contrast
    )
    particles.check()
    schedule = default_schedule(make_plan(options, particles))
    directory = RunDirectory.open(out) if resume else RunDirectory.create(out)
    design = make_design(options, particles.box, particles.pixel_size_angstrom)
    space = design.state_space(particles.box, particles.pixel_size_angstrom)
    info = describe(particles, particles_path, options, schedule, space)
    begin_run(directory, info, options, particles.metadata, resume)
    job = _Job(particles, options, schedule, directory, listener)
    for chain in range(options.chains):
        job.run_chain(chain)
    info["radius_angstrom"] = job.radius
    end_run(directory, info, clock)
    return directory


def sweep_blocks(stage: Stage, level: Level) -> Sweep:
    """All blocks of a stage's sweep: particles, the moving frame, the molecule, mu.

    Where the frame is free, its step stands between poses and theta: after theta, the old map
    would pull the poses back.
    """
    free = level.molecule.frame_is_free
    draws = (draw_nuisance, draw_pose_widths) if stage.learn_widths else (draw_nuisance,)
    return (
        particle_block(level.posterior, stage.candidates, _STATE_STEPS),
        *((moving_frame_block(level.posterior),) if free else ()),
        molecule_block(level.posterior, _TOLERANCE, _MAX_ITERATIONS),
        *motion_blocks(level.posterior),
        nuisance_block(level.posterior, draws),
    )


@final
class _Job:
    """One fit in progress: levels and compiled sweeps are shared by its chains."""

    def __init__(
        self,
        particles: ParticleSet,
        options: FitOptions,
        schedule: tuple[Stage, ...],
        directory: RunDirectory,
        listener: Listener,
    ):
        self.particles, self.options, self.schedule = particles, options, schedule
        self.directory, self.listener = directory, listener
        self.radius = options.radius_angstrom
        size = (particles.box, particles.pixel_size_angstrom)
        self.design = make_design(options, *size)
        self.density_prior = read_density_prior(options.density_prior, *size)
        self._levels: dict[tuple, Level] = {}
        self._sweeps: dict[tuple, Sweep] = {}

    def run_chain(self, chain: int) -> None:
        """Take one chain from its checkpoint, its branch or its start through all stages."""
        state, done = self._load(chain)
        level: Level | None = None
        first = 0
        for stage in self.schedule:
            last = first + stage.sweeps
            if done <= last:
                key = sweep_key(self.options.seed, chain, _CARRIES + first)
                new = self._level(stage)
                if state is None:
                    state = first_state(new)
                elif level is None:
                    state = with_theta(state, new.molecule)
                elif done == first and level is not None:
                    state = carry(key, state, level, new)
                level = new
                for sweep in range(max(done, first), last):
                    state = self._sweep(chain, stage, sweep, first, state, level)
                if done < last:
                    self._end_stage(chain, stage, last, state, level)
            first, done = last, max(done, last)
        if chain == 0 and state is not None and level is not None:
            self.directory.write_arrays("halves.npz", half_set_maps(level, state, self._halves()))

    def _sweep(
        self, chain: int, stage: Stage, sweep: int, first: int, state: ChainState, level: Level
    ) -> ChainState:
        """One sweep, its adaptation while burning in, its sample while sampling, its record."""
        began = time.time()
        blocks = self._blocks(stage, level)
        if sweep == first and stage.burn_in:
            blocks = blocks[1:]  # a new level's theta first, given what is known of the particles
        key = sweep_key(self.options.seed, chain, sweep)
        state, info = run_sweep(key, blocks, state, level.data)
        if stage.burn_in:
            state = self._adapt(stage, state, info, level)
        kept = not stage.burn_in and (sweep - first + 1) % stage.keep_every == 0
        if kept:
            name = self.directory.sample_name(chain, sweep)
            arrays = sample_arrays(level.molecule, state, self.particles.n)
            self.directory.write_arrays(name, arrays)
        record = {"chain": chain, "sweep": sweep, "stage": stage.name, "kept": kept}
        record |= {**trace_numbers(state, info), "seconds": time.time() - began}
        self.directory.append_trace(record)
        if (sweep + 1) % self.options.checkpoint_every == 0:
            self._save(chain, sweep + 1, state)
        chains, images = self.options.chains, self.particles.n
        self.listener(Progress(chain, chains, stage, sweep, self.schedule, images, record))
        return state

    def _adapt(self, stage: Stage, state: ChainState, info: Info, level: Level) -> ChainState:
        """Burn-in only: the prior's spectrum, and the widths of the proposals that moved."""
        state = estimate_spectrum(level, state)
        if stage.candidates.rotations == 1 or "particles.moved_rotation" not in info:
            return state
        rotation, shift = info["particles.moved_rotation"], info["particles.moved_shift"]
        widest = state.nuisance.pose_sd_rad
        return state._replace(size=adapt(state.size, rotation, shift, _ADAPT_GAIN, widest))

    def _end_stage(
        self, chain: int, stage: Stage, last: int, state: ChainState, level: Level
    ) -> None:
        """Leave what later stages and chains start from."""
        if chain == 0 and stage is self.schedule[0]:
            first_map = level.molecule.mean(state.theta)
            check_contrast(level, first_map)
            if self.radius is None:
                self.radius = support_radius_angstrom(level, first_map)
        self._save(chain, last, state)
        if chain == 0 and last == self._branch():
            self._save(BRANCH, last, state)

    def _branch(self) -> int:
        """The sweep after which chains part: the subspace fixes the gauge of their states."""
        shared = [stage for stage in self.schedule if stage.basis in ("constant", "subspace")]
        if len(shared) == len(self.schedule):
            shared = shared[:1]
        return sum(stage.sweeps for stage in shared)

    def _level(self, stage: Stage) -> Level:
        """The stage's posterior with its data, read once for all chains."""
        first = stage is self.schedule[0]
        radius = self.radius
        if radius is None or (first and self.options.radius_angstrom is None):
            radius = FIRST_RADIUS * self.particles.box * self.particles.pixel_size_angstrom
        key = (stage.basis, stage.kmax, stage.n_terms, radius)
        if key not in self._levels:
            grid = Grid(self.particles.box, self.particles.pixel_size_angstrom, stage.kmax, radius)
            if stage.basis == "constant":
                molecule: LinearMolecule = consensus(grid)
            elif stage.basis == "subspace":
                molecule = self.design.subspace(grid, stage.n_terms - 1)
            else:
                molecule = self.design.molecule(grid, stage.n_terms)
            self._levels[key] = make_level(
                self.particles, molecule, grid.voxels, self.options.prior, self.density_prior
            )
        return self._levels[key]

    def _blocks(self, stage: Stage, level: Level) -> Sweep:
        """The stage's sweep, compiled once for all chains."""
        key = (id(level), stage.candidates, stage.learn_widths)
        if key not in self._sweeps:
            self._sweeps[key] = sweep_blocks(stage, level)
        settles = stage.burn_in and stage.candidates.rotations > 1
        return tuple(block for block in self._sweeps[key] if settles or block.name != "frame")

    def _halves(self) -> np.ndarray:
        """Half sets [N] of 1 and 2: the input's, or odd and even particles."""
        given = self.particles.half_set
        return given if np.all(given > 0) else 1 + np.arange(self.particles.n) % 2

    def _save(self, chain: int, done: int, state: ChainState) -> None:
        save_checkpoint(self.directory, chain, Checkpoint(state, done, self.radius))

    def _load(self, chain: int) -> tuple[ChainState | None, int]:
        """The chain's checkpoint, else the branch point, else nothing; with sweeps done."""
        found = load_checkpoint(self.directory, chain)
        if found is None and chain > 0:
            found = load_checkpoint(self.directory, BRANCH)
        if found is None:
            self.directory.truncate_trace(chain, 0)
            return None, 0
        self.radius = found.radius
        self.directory.truncate_trace(chain, found.done)
        self.directory.drop_samples_from(chain, found.done)
        return found.state, found.done
