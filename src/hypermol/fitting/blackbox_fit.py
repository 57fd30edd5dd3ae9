"""Fitting a molecule of the user's own from particles to a run directory (sec. 3.6).

The counterpart of `fit` for molecules that only have `fourier`: one resolution, an inexact start
that all chains share (it fixes the gauge of their states), then sweeps by gradients
(`blackbox_sampler`). The run it leaves has the files of any other; its maps are the molecule's
densities tabulated over the states, its own coefficients are kept beside them.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from hypermol.data.latents import Consensus, ImageBlocks
from hypermol.data.particles import ParticleSet, load_particles
from hypermol.fitting.blackbox_sampler import Schedule, State, Sweep, begin, make_sweep, state_form
from hypermol.fitting.blackbox_start import ROUNDS, Start
from hypermol.fitting.checkpoint import BRANCH, checkpoint_name, motion_arrays
from hypermol.fitting.fit import FIRST_RADIUS, Listener, Progress
from hypermol.fitting.march import BLOCK
from hypermol.fitting.run_info import begin_run, describe, end_run, start_clock
from hypermol.fitting.stages import Stage, sweep_key
from hypermol.imaging.blocks import (
    consensus_poses,
    from_blocks,
    image_blocks,
    particle_ctf,
    read_half_plane,
)
from hypermol.inference.ensemble import CandidateCounts
from hypermol.io.errors import InputError
from hypermol.io.store import RunDirectory
from hypermol.molecule.tabulation import shown_states, tabulate
from hypermol.posterior.black_box import Problem
from hypermol.recipe.design import Grid
from hypermol.recipe.options import FitOptions, check_counts, finest_shell
from hypermol.recipe.own_class import load_model
from hypermol.recipe.part_tables import read_parts
from hypermol.space.fourier import half_plane

#: Largest number of state nodes a start averages over, for one knob and for more.
_LATTICE, _LATTICE_OF_SEVERAL = 8, 25
#: The start's key: past those of any sweep.
_START = 1 << 30


class _Given(NamedTuple):
    """What a chain is given."""

    images: ImageBlocks
    consensus: Consensus


def fit_black_box_run(
    particles_path: str | Path,
    out: str | Path,
    options: FitOptions,
    listener: Listener = lambda progress: None,
    resume: bool = False,
    image_dir: str | Path | None = None,
    beside: str | Path | None = None,
) -> RunDirectory:
    """Sample the posterior of eq. 29 for `options.type`, known only through `fourier`.

    Args:
        particles_path, out, options, listener, resume, image_dir: as `fit.fit` takes them.
        beside: a folder where the class' module is looked for: the recipe's. A resumed run looks
            where its first call did.

    Raises:
        InputError: names the file, row or option, and the remedy.
    """
    clock = start_clock()
    particles = load_particles(
        particles_path, image_dir=image_dir, invert_contrast=options.invert_contrast
    )
    particles.check()
    directory = RunDirectory.open(out) if resume else RunDirectory.create(out)
    if resume and beside is None:
        beside = directory.read_json("run.json").get("beside")
    job = _Job(particles, options, directory, listener, beside)
    info = describe(
        particles, particles_path, options, job.stages, job.problem.molecule.state_space
    )
    info |= {"shown": job.shown, "radius_angstrom": job.grid.radius_angstrom}
    info["beside"] = None if beside is None else str(Path(beside).resolve())
    begin_run(directory, info, options, particles.metadata, resume)
    for chain in range(options.chains):
        job.run_chain(chain)
    end_run(directory, info, clock)
    return directory


def stages(options: FitOptions, kmax: int, n_terms: int) -> tuple[Stage, ...]:
    """The start's rounds, burn-in and sampling, as the stages that progress and trace name.

    Args:
        options: how many sweeps.
        kmax: spatial frequencies that are modelled.
        n_terms: of the state basis that the molecule is shown in.
    """
    still = CandidateCounts(1, 1, 1)
    return (
        Stage("start by Adam", "start", kmax, n_terms, ROUNDS, still),
        Stage("burn-in", "black box", kmax, n_terms, options.burn_in, still),
        Stage(
            "sampling",
            "black box",
            kmax,
            n_terms,
            options.samples * options.thin,
            still,
            keep_every=options.thin,
        ),
    )


@final
class _Job:
    """One fit in progress: data and compiled sweeps are shared by its chains."""

    def __init__(
        self,
        particles: ParticleSet,
        options: FitOptions,
        directory: RunDirectory,
        listener: Listener,
        beside: str | Path | None,
    ):
        if options.type is None:
            raise ValueError("options.type names no class: use fit.fit")
        check_counts(options)
        if options.density_prior:
            raise InputError(
                f"prior.{next(iter(options.density_prior))} is for molecules that recipes describe:"
                f" put it into the log_prior of {options.type}"
            )
        self.particles, self.options = particles, options
        self.directory, self.listener = directory, listener
        size = (particles.box, particles.pixel_size_angstrom)
        kmax = finest_shell(options, particles)
        radius = options.radius_angstrom or FIRST_RADIUS * size[0] * size[1]
        self.grid = Grid(*size, kmax, radius)
        plane = half_plane(particles.box, kmax)
        molecule = load_model(options.type, options.arguments, beside)
        region = {"radius_angstrom": radius}
        self.shown = [{"name": "whole", "region": region, **shown_states(molecule.state_space)}]
        form = read_parts(tuple(self.shown), *size)
        self.form = form.molecule(self.grid, form.n_terms)
        self.stages = stages(options, kmax, form.n_terms)
        self.problem = Problem(molecule, plane, size[1], options.prior)
        images = read_half_plane(particles, plane)
        self.given = _Given(
            image_blocks(images, particle_ctf(particles, plane), BLOCK),
            consensus_poses(particles, BLOCK),
        )
        several = len(molecule.state_space.simple_spaces) > 1
        lattice = _LATTICE_OF_SEVERAL if several else _LATTICE
        self.schedule = Schedule(
            Start(options.start_steps, lattice=lattice),
            options.burn_in,
            options.samples * options.thin,
            move_poses=options.poses == "refine",
        )
        self._sweep: Sweep | None = None  # compiled once for all chains, when the gain is known
        voxels = self.grid.voxels
        self._tabulate = jax.jit(lambda theta: tabulate(molecule, theta, self.form, voxels))

    def run_chain(self, chain: int) -> None:
        """Take one chain from its checkpoint, or from the start that all share, to its end."""
        done, state = self._load(chain)
        if state is None:
            done, state = self._start(chain)
        if self._sweep is None:
            self._sweep = make_sweep(self.problem, *self.given, self.schedule)
        total = sum(stage.sweeps for stage in self.stages)
        for number in range(done, total):
            began = time.time()
            key = sweep_key(self.options.seed, chain, number)
            state, accepted = self._sweep(key, number - ROUNDS, state)
            stage = self.stages[1 if number < ROUNDS + self.options.burn_in else 2]
            first = ROUNDS + self.options.burn_in
            kept = not stage.burn_in and (number - first + 1) % stage.keep_every == 0
            if kept:
                name = self.directory.sample_name(chain, number)
                self.directory.write_arrays(name, self._sample(state))
            record = self._numbers(state) | {
                "accepted_particles": float(accepted[0]),
                "accepted_molecule": float(accepted[1]),
            }
            if (number + 1) % self.options.checkpoint_every == 0 or number + 1 == total:
                self._save(chain, number + 1, state)
            self._tell(chain, stage, number, kept, record | {"seconds": time.time() - began})

    def _start(self, chain: int) -> tuple[int, State]:
        """Adam and the lattice: once, for all chains."""
        began = time.time()

        def on_round(number: int) -> None:
            seconds = (time.time() - began) / (number + 1)
            self._tell(chain, self.stages[0], number, False, {"seconds": seconds})

        key = sweep_key(self.options.seed, 0, _START)
        self.problem, state = begin(key, self.problem, *self.given, self.schedule, on_round)
        self._save(BRANCH, ROUNDS, state)
        return ROUNDS, state

    def _tell(self, chain: int, stage: Stage, number: int, kept: bool, numbers: dict) -> None:
        """A line of the trace, and the listener."""
        record = {"chain": chain, "sweep": number, "stage": stage.name, "kept": kept, **numbers}
        self.directory.append_trace(record)
        chains, images = self.options.chains, self.particles.n
        self.listener(Progress(chain, chains, stage, number, self.stages, images, record))

    def _numbers(self, state: State) -> dict[str, float]:
        noise = np.asarray(state.nuisance.noise_variance, np.float64)
        return {
            "noise": float(noise[1:].mean()),
            "pose_sd_deg": float(np.degrees(state.nuisance.pose_sd_rad)),
            "shift_sd_px": float(state.nuisance.shift_sd_px),
            "contrast_sd": float(state.nuisance.contrast_sd),
        }

    def _sample(self, state: State) -> dict[str, np.ndarray]:
        """The maps that show theta, theta itself, mu and every particle's latents."""
        latents = {
            name: from_blocks(value, self.particles.n)
            for name, value in state.latents._asdict().items()
        }
        nuisance = {name: np.asarray(value) for name, value in state.nuisance._asdict().items()}
        gain = jnp.exp(state.parameters.log_gain)
        maps = np.asarray(gain * self._tabulate(state.parameters.theta))
        own = motion_arrays({"own": state.parameters.theta})
        return {"maps": maps, **own, **latents, **nuisance}

    def _save(self, chain: int, done: int, state: State) -> None:
        leaves = {f"state.{i:04d}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(state))}
        numbers = {"done": np.asarray(done), "log_gain": np.asarray(self.problem.log_gain)}
        self.directory.write_arrays(checkpoint_name(chain), leaves | numbers)

    def _load(self, chain: int) -> tuple[int, State | None]:
        """Sweeps done and the state, from the chain's checkpoint or the shared start."""
        found = next((c for c in (chain, BRANCH) if self.directory.has(checkpoint_name(c))), None)
        if found is None:
            self.directory.truncate_trace(chain, 0)
            return 0, None
        arrays: dict[str, Any] = self.directory.read_arrays(checkpoint_name(found))
        done = int(arrays["done"])
        self.problem = self.problem.with_gain(float(arrays["log_gain"]))
        leaves = [jnp.asarray(arrays[name]) for name in sorted(arrays) if name.startswith("state.")]
        self.directory.truncate_trace(chain, done)
        self.directory.drop_samples_from(chain, done)
        return done, jax.tree.unflatten(state_form(self.problem.molecule), leaves)
