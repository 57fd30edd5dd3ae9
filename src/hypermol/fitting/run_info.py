"""run.json: what a run is of, the refusal to go on with another, and what the run took."""

import json
import platform
import time
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import numpy as np

from hypermol.data.particles import ParticleSet
from hypermol.data.source import ParticleSource
from hypermol.fitting.stages import Stage
from hypermol.io.errors import InputError
from hypermol.io.metadata import ParticleMetadata
from hypermol.io.run_input import keep_input
from hypermol.io.store import RunDirectory
from hypermol.recipe.design import AnyDesign
from hypermol.recipe.options import STATE_NAME, FitOptions
from hypermol.recipe.toml import write_recipe

#: Options that a resumed run may have more of, and the one that it may change.
_GROWING, _FREE = ("samples", "chains"), "budget"
#: Entries that a resumed run keeps until it ends.
_SPENT = ("radius_angstrom", "n_terms", "wall_seconds", "cpu_seconds")


class Clock(NamedTuple):
    """Wall and CPU time at which a call began."""

    wall: float
    cpu: float


def start_clock() -> Clock:
    """The time now."""
    return Clock(time.time(), time.process_time())


def describe(
    particles: ParticleSet,
    source: ParticleSource,
    options: FitOptions,
    schedule: tuple[Stage, ...],
    design: AnyDesign,
) -> dict:
    """run.json: what is run, on what, with what, and over which states."""
    last = schedule[-1]
    space = design.state_space(particles.box, particles.pixel_size_angstrom)
    return {
        "particles": str(source.path.resolve()),
        "source": source.as_json(),
        "data_hash": particles.data_hash(),
        "n_particles": particles.n,
        "box": particles.box,
        "pixel_size_angstrom": particles.pixel_size_angstrom,
        "kmax": last.kmax,
        "state_space": type(space).__name__.lower(),
        "state_names": list(space.names),
        "state_name": space.names[0] if space.names else options.state_name or STATE_NAME,
        "basis": design.kind,
        "shown": list(design.shown_parts),
        "n_terms": last.n_terms,
        "chains": options.chains,
        "poses": options.poses,
        "seed": options.seed,
        # as JSON gives it back (tuples become lists), for --resume compares the two
        "options": json.loads(json.dumps(asdict(options))),
        "stages": [asdict(stage) for stage in schedule],
        "versions": {
            "hypermol": version("hypermol"),
            "jax": jax.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "finished": False,
    }


def check_same_run(directory: RunDirectory, info: dict) -> None:
    """Refuse to resume with other data or options: the chain would not be one chain.

    Only `samples` and `chains` may grow, and the budget change: a longer run begins as the shorter
    one did.
    """
    before = directory.read_json("run.json")
    then, now = before["options"], info["options"]
    if "source" not in before or then.keys() != now.keys():
        raise InputError(
            f"--resume: {directory.path} was run by another version of hypermol "
            f"({before.get('versions', {}).get('hypermol', 'unknown')}), whose chains this one "
            "cannot go on with: run again into another --out"
        )
    for key in _GROWING:
        if now[key] < then[key]:
            raise InputError(
                f"--resume: {directory.path} was asked for {then[key]} {key}, this call for "
                f"{now[key]}: a run can only grow, so ask for as many or more"
            )
    grown = then | {key: now[key] for key in (*_GROWING, _FREE)}
    for key, same in (
        ("data_hash", before["data_hash"] == info["data_hash"]),
        ("options", grown == now),
    ):
        if not same:
            raise InputError(
                f"--resume: the {key.replace('_', ' ')} of {directory.path} differ from this "
                "call's: repeat the first call's particles and options (but for --samples and "
                "--chains, which may grow, and --budget), or choose another --out"
            )


def begin_run(
    directory: RunDirectory,
    info: dict,
    options: FitOptions,
    particles: ParticleMetadata,
    resume: bool,
) -> None:
    """Write run.json, recipe.toml and the run's own copy of its particles.

    Of a run that goes on, after a look at what it was.

    Raises:
        InputError: the run to go on with is of other data or options.
    """
    if resume:
        check_same_run(directory, info)
        before = directory.read_json("run.json")
        info = info | {key: before[key] for key in _SPENT if key in before}
    keep_input(directory, particles)
    directory.write_json("run.json", info)
    write_recipe(directory.path / "recipe.toml", options)


def amend(directory: RunDirectory, **entries: Any) -> None:
    """Change entries of run.json."""
    directory.write_json("run.json", directory.read_json("run.json") | entries)


def end_run(directory: RunDirectory, info: dict, clock: Clock) -> None:
    """Mark the run as finished, with what all its calls took together."""
    before = directory.read_json("run.json")
    wall, cpu = time.time() - clock.wall, time.process_time() - clock.cpu
    spent = {
        "wall_seconds": before.get("wall_seconds", 0.0) + wall,
        "cpu_seconds": before.get("cpu_seconds", 0.0) + cpu,
    }
    directory.write_json("run.json", {**info, **spent, "finished": True})
