"""How well runs of the same particles predict images that their molecules have not seen (6.1).

A tenth of the images is taken out of theta, which is solved for again from the others, where they
stand in the run. Each image left out then tells how likely it is, all of its own unknowns
integrated out (`held_out`), about the place that it has in the run, with widths that are the same
for every run: poses may have been given, or found from nothing. A model whose copies change places
with a turn has as many such places as there are turns, alike; they are counted.

Its place was found with its own image in theta, and so were those of the others: this is no cross
validation of poses. It tells models apart that describe the same particles.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from hypermol.analysis.equivalent_poses import equivalents
from hypermol.data import ParticleSet, inspect
from hypermol.data.latents import Consensus
from hypermol.fitting import checkpoint, maps
from hypermol.fitting.found import load_found
from hypermol.fitting.held_out import EFFORT, held_out_log_likelihood
from hypermol.fitting.level import BLOCK, Level, Levels
from hypermol.fitting.march import first_state
from hypermol.fitting.schedules import make_schedule
from hypermol.fitting.sweep import ChainState, Data
from hypermol.imaging.blocks import from_blocks, to_blocks
from hypermol.io.errors import InputError
from hypermol.io.run_input import kept_input
from hypermol.io.store import RunDirectory
from hypermol.molecule.composite import Composite
from hypermol.posterior.pose_priors import AboutConsensus
from hypermol.recipe.options import FitOptions, make_design
from hypermol.recipe.toml import read_recipe

#: One image of so many is left out of theta, and at most so many are.
_EVERY, _MOST = 10, 500
#: Widths about an image's place: radians, and as a share of the box.
_TURN_RAD, _SLIP = 0.17, 0.03
#: Points of the grid of states: of so many knobs and more, so many each, and at most so many.
_KNOBS, _POINTS, _MOST_POINTS = 3, 8, 2401
#: Where scores are kept in a run.
_FILE = "held_out.npz"


class HeldOut(NamedTuple):
    """What a run's molecule says of images that it has not seen.

    Attributes:
        images: str [n], number and stack of each.
        scores: float64 [n], log-likelihood in nats, up to a constant of the images.
    """

    images: np.ndarray
    scores: np.ndarray


class Difference(NamedTuple):
    """How much better a run predicts than another, in nats an image.

    Attributes:
        mean: of score less score.
        error: its standard error, over images.
    """

    mean: float
    error: float

    @property
    def is_clear(self) -> bool:
        """Whether it is beyond twice its error."""
        return abs(self.mean) > 2.0 * self.error


def difference(one: HeldOut, other: HeldOut) -> Difference:
    """How much better `one` predicts.

    Raises:
        InputError: they are of other images.
    """
    if not np.array_equal(one.images, other.images):
        raise InputError(
            "the runs are not of the same images in the same order: compare fits of one set"
        )
    gain = one.scores - other.scores
    return Difference(float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(len(gain))))


def left_out(n: int) -> np.ndarray:
    """Rows of the images that are taken out of theta, of n."""
    return np.arange(0, n, max(_EVERY, -(-n // _MOST)))


def check_comparable(runs: Sequence[Path]) -> None:
    """Refuse runs whose likelihoods are of other pixels.

    Raises:
        InputError: names the two, and what they differ in.
    """
    infos = [RunDirectory.open(run).read_json("run.json") for run in runs]
    for run, info in zip(runs, infos, strict=True):
        if not info["finished"]:
            raise InputError(f"{run} is not finished: let `hypermol fit --resume` go on with it")
        for key, words in (
            ("n_particles", "particles"),
            ("box", "pixels a side"),
            ("kmax", "as finest frequency in 1/box (--resolution)"),
        ):
            if info[key] != infos[0][key]:
                raise InputError(
                    f"{runs[0]} has {infos[0][key]} {words} and {run} has {info[key]}: their "
                    "scores are of other pixels, so that nothing can be compared"
                )


def held_out_of_run(run: str | Path) -> HeldOut:
    """How a finished run predicts the images left out; kept in the run for the next call.

    Raises:
        InputError: no such run, it is not finished, or its stacks are gone.
        ValueError: positions without bounds (free rigid bodies).
    """
    directory = RunDirectory.open(run)
    check_comparable([Path(run)])
    saved = checkpoint.load(directory, checkpoint.chain_name(0))
    if saved is None:
        raise InputError(f"{run} has no checkpoint of its first chain: run it again")
    if directory.has(_FILE):
        kept = directory.read_arrays(_FILE)
        if int(kept["done"]) == saved.done:
            return HeldOut(kept["images"], kept["scores"])
    options = read_recipe(directory.path / "recipe.toml")
    particles, _ = inspect(ParticleSet(kept_input(directory)), normalise=options.normalise)
    rows = left_out(particles.n)
    level, state = _final(directory, options, particles, saved)
    scores = _scores(level, *_of_others(directory, options, particles, level, state))
    found = HeldOut(_names(particles, rows), scores)
    directory.write_arrays(_FILE, {**found._asdict(), "done": np.asarray(saved.done)})
    return found


def _names(particles: ParticleSet, rows: np.ndarray) -> np.ndarray:
    """What tells images apart wherever their stacks are."""
    paths, places = particles.metadata.stack_paths[rows], particles.metadata.stack_indices[rows]
    return np.array([f"{i}@{Path(p).stem}" for i, p in zip(places, paths, strict=True)])


def _level(directory: RunDirectory, options: FitOptions, particles: ParticleSet) -> Level:
    """The level that a run samples at, of some of its particles."""
    design = make_design(options, particles.box, particles.pixel_size_angstrom)
    found = load_found(directory)
    last = make_schedule(options, particles, design)[-1].as_found(found.n_terms)
    return Levels(particles, options, design, last.kmax).level(last, found)


def _final(
    directory: RunDirectory,
    options: FitOptions,
    particles: ParticleSet,
    saved: checkpoint.Checkpoint,
) -> tuple[Level, ChainState]:
    """A run's last level, and its first chain's last draw there."""
    seen = particles if options.knows_poses else particles.without_poses()
    level = _level(directory, options, seen)
    return level, checkpoint.restored_state(saved, level.molecule, first_state(level))


def _of_others(
    directory: RunDirectory,
    options: FitOptions,
    particles: ParticleSet,
    level: Level,
    state: ChainState,
) -> tuple[ChainState, Data]:
    """theta from the images that stay, mu with the widths of a comparison, and the images left
    out about their places."""
    n, shape = particles.n, level.data.images.present.shape
    rows = left_out(n)
    stays = np.ones(shape[0] * shape[1], np.float32)
    stays[rows] = 0.0
    theta = maps.thetas_of_parts(level, state, [stays.reshape(shape)])[0]
    mu = state.mu._replace(
        pose_sd_rad=jnp.float32(_TURN_RAD), shift_sd_px=jnp.float32(_SLIP * particles.box)
    )
    few = _level(directory, options, particles.select(rows))
    places = [from_blocks(v, n)[rows] for v in (state.latents.quaternion, state.latents.shift_px)]
    count = few.data.images.present.shape[0]
    consensus = Consensus(*(to_blocks(place, BLOCK, count) for place in places))
    return state._replace(theta=theta, mu=mu), few.data._replace(consensus=consensus)


def _scores(level: Level, state: ChainState, data: Data) -> np.ndarray:
    """log-likelihood of the images of `data`, [n]."""
    posterior = replace(level.posterior, pose_prior=AboutConsensus())
    about = replace(level, posterior=posterior, data=data)
    knobs, effort = level.molecule.state_space.dim, EFFORT
    if knobs >= _KNOBS:
        effort = effort._replace(states=min(_POINTS**knobs, _MOST_POINTS))
    scores = held_out_log_likelihood(about, [state], effort)
    alike = len(equivalents(level.molecule)) if isinstance(level.molecule, Composite) else 1
    return scores + np.log(alike)
