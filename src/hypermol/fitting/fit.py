"""The main job: from a particle set to posterior samples of a moving molecule.

Read this first. A run is a tuple of stages (`stages`), each a number of equal sweeps at one
resolution (`level`); a sweep draws every unknown in turn (`sweep`, `blocks`). Burn-in stages also
adapt their kernels; the sampling stage changes nothing but the unknowns and keeps samples. Stages
are the outer loop and chains the inner one, so that one level's images are held at a time. Between
stages a chain lives in its checkpoint alone (`chain`), and the key of a sweep depends on its number
alone: a resumed run ends bit-identical.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, final

import jax
import numpy as np

from hypermol.data import ParticleSet, ParticleSource, inspect
from hypermol.fitting import maps
from hypermol.fitting.blocks.choice import sweep_blocks
from hypermol.fitting.blocks.particles_by_search import trial_score
from hypermol.fitting.chain import MENDS, SCATTERS, ChainFiles, Standing
from hypermol.fitting.frames import turned, turned_onto
from hypermol.fitting.hands import begun_again, densities, hands_of
from hypermol.fitting.level import Level, Levels
from hypermol.fitting.march import placed, scattered
from hypermol.fitting.more_chains import wanted_chains
from hypermol.fitting.point_group import GroupStanding, judge_point_groups
from hypermol.fitting.run_info import amend, begin_run, describe, end_run, start_clock
from hypermol.fitting.schedules import make_schedule
from hypermol.fitting.stages import Stage, sweep_key
from hypermol.fitting.state_frequency import WORTH_NATS, highest_terms_tell
from hypermol.fitting.sweep import ChainState, Sweep, adapt_tunings, run_sweep, trace_numbers
from hypermol.fitting.tears import may_be_torn, mended
from hypermol.fitting.unfolding import may_be_folded, unfolded
from hypermol.io.store import RunDirectory
from hypermol.recipe.design import consensus
from hypermol.recipe.options import FitOptions, make_design
from hypermol.runtime import trim_memory


@final
@dataclass(frozen=True)
class Progress:
    """What a sweep reports.

    Attributes:
        stage, chain, sweep: where the run is.
        chains, images: how many there are.
        share: of the work that is done, 0 to 1.
        record: the line that trace.jsonl keeps.
    """

    stage: Stage
    chain: int
    sweep: int
    chains: int
    images: int
    share: float
    record: dict


Listener = Callable[[Progress], None]


def fit(
    source: ParticleSource,
    out: str | Path,
    options: FitOptions,
    listener: Listener = lambda progress: None,
    resume: bool = False,
    say: Callable[[str], None] = lambda remark: None,
) -> RunDirectory:
    """Sample the posterior of eq. 29 for a particle set.

    Args:
        source: RELION STAR or cryoSPARC .cs file, and where its images are.
        out: run directory to write.
        options: the model and the schedule.
        listener: called after every sweep.
        resume: go on with the run in `out` from its checkpoints; more samples or chains may be
            asked for than before.
        say: called with each remark on the particles, a sentence.

    Raises:
        InputError: names the file, row or option, and the remedy.
    """
    clock = start_clock()
    if not resume:
        RunDirectory(Path(out)).check_free()
    particles, remarks = inspect(
        source.load(invert_contrast=options.invert_contrast, allow_missing=options.needless),
        leave_out_outliers=options.leave_out_outliers,
        normalise=options.normalise,
    )
    design = make_design(options, particles.box, particles.pixel_size_angstrom)
    schedule = make_schedule(options, particles, design)
    directory = RunDirectory.open(out) if resume else RunDirectory.create(out)
    for remark in remarks:
        say(remark)
    info = describe(particles, source, options, schedule, design) | {"remarks": remarks}
    begin_run(directory, info, options, particles.metadata, resume)
    seen = particles if options.knows_poses else particles.without_poses()
    levels = Levels(seen, options, design, max(stage.kmax for stage in schedule))
    tries = any(stage.is_trial for stage in schedule)
    files = ChainFiles(directory, options.seed, options.starts, tries)
    job = _Job(particles, options, schedule, levels, files, listener)
    job.run()
    info |= {"radius_angstrom": files.found.radius_angstrom}
    found = {"n_terms": files.found.n_terms or info["n_terms"], "chains": job.chains}
    end_run(directory, info | found, clock)
    return directory


class _Bench(NamedTuple):
    """What a stage is run on: its level, and the blocks of its sweep."""

    stage: Stage
    level: Level
    blocks: Sweep


@final
@dataclass(frozen=True)
class _Job:
    """One fit in progress."""

    particles: ParticleSet
    options: FitOptions
    schedule: tuple[Stage, ...]
    levels: Levels
    files: ChainFiles
    listener: Listener

    @property
    def chains(self) -> int:
        """How many: more than were asked for where samples of those were worth too little."""
        return max(self.options.chains, self.files.found.chains or 0)

    def run(self) -> None:
        """All chains through all stages, and more chains as long as the budget wants them."""
        directory = self.files.directory
        self.files.tidy(range(max(self.chains, self.options.trials)))
        done = 0
        while done < self.chains:
            amend(directory, chains=self.chains)
            self._run_chains()
            done = self.chains
            wanted = wanted_chains(directory, self.options, self.schedule, done)
            if wanted > done:
                self.files.learn(chains=wanted)

    def _run_chains(self) -> None:
        """All stages in turn, every chain through each that it has not finished."""
        first, before = 0, None
        bench: _Bench | None = None
        for planned in self.schedule:
            stage = planned.as_found(self.files.found.n_terms)
            if self._is_needless(stage):
                continue
            last = first + stage.sweeps
            over = stage.is_trial and self.files.found.trial is not None
            members = range(0) if over else self._members(stage)
            behind = [chain for chain in members if self.files.done(chain) < last]
            if behind:
                if bench and bench.level.form.key != self.levels.key(stage, self.files.found):
                    bench = None  # its images are let go before others are taken
                bench = self._bench(stage, bench)
                self._run_stage(bench, before, first, behind)
            if self._ends_trials(stage) and self.files.found.trial is None:
                bench = self._bench(stage, bench)
                self._choose_trial(bench.level)
            first, before = last, stage

    def _ends_trials(self, stage: Stage) -> bool:
        """Whether a stage is the last of those that are tried several times."""
        trials = [stage for stage in self.schedule if stage.is_trial]
        return bool(trials) and stage == trials[-1]

    def _is_needless(self, stage: Stage) -> bool:
        """Whether what a stage is for has not come up."""
        found = self.files.found
        if stage.rises and stage.n_terms > (found.n_terms or 0):
            return True
        return stage.is_repair and not found.any_mixed

    def _choose_trial(self, level: Level) -> None:
        """Go on with the trial that predicts the images held out best."""
        scores = [
            trial_score(level.posterior, self.files.state(trial, level), level.data)
            for trial in range(self.options.trials)
        ]
        best = max(range(len(scores)), key=scores.__getitem__)
        self.files.adopt(best)
        self.files.learn(trial=best, trial_scores=scores)

    def _members(self, stage: Stage) -> Sequence[int]:
        """The chains that run a stage: of a shared one, one for each start; or the trials."""
        if stage.is_trial:
            return range(self.options.trials)
        members = range(self.chains)[: self.options.starts if stage.is_shared else None]
        if stage.is_repair:
            return [start for start in members if self.files.found.is_mixed(start)]
        return members

    def _bench(self, stage: Stage, last: _Bench | None) -> _Bench:
        """A stage's level and blocks; the last stage's, where that was of the same form."""
        if not stage.burn_in and self.files.found.spectrum is None:
            self.files.learn(spectrum=self.files.mean_spectrum(range(self.chains)))
        if last is not None:
            level = last.level
            if last.stage.kernels == stage.kernels and not stage.burn_in:
                return _Bench(stage, level, tuple(b for b in last.blocks if b.is_exact))
        else:
            level = self.levels.level(stage, self.files.found)
            if not level.molecule.is_linear and self.files.found.log_gain is None:
                self.files.learn(log_gain=maps.log_gain(level))
                level = self.levels.level(stage, self.files.found)
        blocks = sweep_blocks(stage, level.posterior, self.options.start_steps)
        if not stage.burn_in and not all(block.is_exact for block in blocks):
            raise ValueError(f"stage {stage.name!r} keeps samples of sweeps that are not exact")
        return _Bench(stage, level, blocks)

    def _run_stage(
        self, bench: _Bench, before: Stage | None, first: int, chains: list[int]
    ) -> None:
        """Chains that are behind, one after another, on one level's data."""
        stage, level, blocks = bench
        last = first + stage.sweeps
        for chain in chains:
            old = None if before is None else self.levels.form(before, self.files.found)
            at = self.files.enter(chain, first, old, level, blocks)
            if at.done == first:
                at = self._with_prior(stage, at)
                at = at._replace(state=self._begun(chain, bench, at.state))
            for _ in range(at.done, last):
                at = self._sweep(chain, bench, first, at)
            trim_memory()
            # what a stage leaves comes before its checkpoint, which says that the stage is over
            if stage.finds_axes:
                at = at._replace(state=self._by_own_axes(level, at.state))
            if stage.finds_frame:
                at = at._replace(state=self._in_frame_of_model(stage, level, at.state))
            if stage.finds_radius and chain == 0:
                self._learn_from_first_map(stage, level, at)
            if stage.tests_hands:
                at = at._replace(state=self._of_one_hand(chain, bench, at.state))
            if stage.mends_tears:
                at = at._replace(state=self._mended(chain, bench, at.state))
            if stage.tests_terms and chain == 0:
                self._learn_terms(stage, level, at.state)
            if stage.name == self.schedule[-1].name and chain == 0:
                maps.write_half_maps(self.files.directory, self.particles, level, at.state)
            if stage.is_shared and not stage.is_trial:
                self.files.branch(chain, at)
            self.files.save(chain, at)

    def _begun(self, chain: int, bench: _Bench, state: ChainState) -> ChainState:
        """A chain that enters a stage, where it is to stand there."""
        match bench.stage.begins:
            case "at the input":
                return placed(state, self.particles)
            case "anywhere":
                return scattered(sweep_key(self.options.seed, chain, SCATTERS), state)
            case "of one hand":
                return begun_again(bench.level, self.files.one_hand(chain))
        return state

    def _with_prior(self, stage: Stage, at: Standing) -> Standing:
        """A chain that enters a stage, with the spectrum of theta's prior that it is to have."""
        if not stage.burn_in and self.files.found.spectrum is not None:
            return at.with_spectrum(self.files.found.spectrum)
        return at.flattened() if self.options.spectrum == "flat" else at

    def _by_own_axes(self, level: Level, state: ChainState) -> ChainState:
        """A molecule found from nothing, turned to the axes of its point group."""
        axes = self.levels.design.axes
        wanted = None if axes == "C1" else axes
        known = self.files.found.point_groups
        if known is None:
            known = [asdict(standing) for standing in judge_point_groups(level, state, wanted)]
            self.files.learn(point_groups=known)
        best = GroupStanding(**known[0])
        return turned(level, state, best.frame) if wanted or best.is_clear else state

    def _in_frame_of_model(self, stage: Stage, level: Level, state: ChainState) -> ChainState:
        """A molecule found from nothing, turned onto the user's own before it has seen an image."""
        grid = self.levels.grid(stage, self.files.found)
        model = self.levels.design.molecule(grid, self.levels.design.n_terms)
        density = model.mean(model.init(jax.random.key(0)))
        state, standing = turned_onto(level, state, density)
        self.files.learn(frame=standing)
        return state

    def _of_one_hand(self, start: int, bench: _Bench, state: ChainState) -> ChainState:
        """Whether some states are mirror images of others; where they are, one is kept. Whether
        others were taken for mirror images; where they were, the motion is unfolded."""
        if self.files.found.is_mixed(start):
            return state  # it was interrupted after it had been told
        level, files = bench.level, self.files
        standing = hands_of(level, state)
        if standing.is_mixed:
            files.keep_hand(start, densities(level, state, np.array(standing.states[:1]))[0])
            files.learn(point_groups=None)  # its axes are looked for again
        elif standing.is_own_mirror and may_be_folded(level):
            rigid = consensus(self.levels.grid(bench.stage, files.found))
            state, unfolding = unfolded(level, state, rigid)
            files.learn(unfolding={**(files.found.unfolding or {}), str(start): unfolding})
        files.learn(hands={**(files.found.hands or {}), str(start): standing})
        return state

    def _mended(self, chain: int, bench: _Bench, state: ChainState) -> ChainState:
        """A motion that was put together in the wrong order, put right."""
        if not may_be_torn(bench.level):
            return state
        key = sweep_key(self.options.seed, chain, MENDS)
        state, done = mended(key, bench.level, bench.blocks, state)
        self.files.learn(tears={**(self.files.found.tears or {}), str(chain): done})
        return state

    def _learn_terms(self, stage: Stage, level: Level, state: ChainState) -> None:
        """Whether state terms are to rise: the next number of them, or those that there are."""
        told = highest_terms_tell(level, state, self.levels.design.rising)
        higher = [s.n_terms for s in self.schedule if s.rises and s.n_terms > stage.n_terms]
        least = max(stage.n_terms, self.levels.design.n_terms)
        terms = higher[0] if told > WORTH_NATS else least
        known = self.files.found.terms_tell or {}
        self.files.learn(n_terms=terms, terms_tell=known | {str(stage.n_terms): told})
        amend(self.files.directory, n_terms=terms)

    def _learn_from_first_map(self, stage: Stage, level: Level, at: Standing) -> None:
        density = level.molecule.mean(at.state.theta)
        if self.options.knows_poses or stage.anywhere:  # a walk from nothing may have any map yet
            maps.check_contrast(level, density)
        radius = self.options.radius_angstrom
        if radius is None:
            radius = maps.support_radius_angstrom(level, density)
        self.files.learn(radius_angstrom=radius)

    def _sweep(self, chain: int, bench: _Bench, first: int, at: Standing) -> Standing:
        """One sweep, its adaptation while burning in, its sample while sampling, its record."""
        stage, level, blocks = bench
        began, sweep = time.time(), at.done
        key = sweep_key(self.options.seed, chain, sweep)
        state, infos = run_sweep(key, blocks, at.state, at.tunings, level.data)
        tunings = adapt_tunings(blocks, at.tunings, infos) if stage.burn_in else at.tunings
        at = Standing(state, tunings, sweep + 1)
        at.check_finite(stage.name)
        kept = not stage.burn_in and (sweep - first + 1) % stage.keep_every == 0
        if kept:
            self.files.keep(chain, at, level, self.particles.n)
        record = {"chain": chain, "sweep": sweep, "stage": stage.name, "kept": kept}
        record |= {**trace_numbers(blocks, infos), "seconds": time.time() - began}
        self.files.directory.append_trace(record)
        if at.done % self.options.checkpoint_every == 0 and at.done < first + stage.sweeps:
            self.files.save(chain, at)
        chains, images = self.chains, self.particles.n
        share = self._share(stage, chain, sweep - first + 1)
        self.listener(Progress(stage, chain, sweep, chains, images, share, record))
        return at

    def _share(self, stage: Stage, chain: int, sweeps: int) -> float:
        """Share of the whole run's work that is done."""
        total, done, n = 0.0, 0.0, self.particles.n
        for other in self.schedule:
            if other.name == stage.name:
                done = total + stage.cost(n) * (chain * stage.sweeps + sweeps)
            other = other.as_found(self.files.found.n_terms)
            members = 0 if self._is_needless(other) else len(self._members(other))
            total += other.cost(n) * other.sweeps * members
        return done / total
