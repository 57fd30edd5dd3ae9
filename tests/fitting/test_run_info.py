"""run.json: which runs may go on, and what they took."""

import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from hypermol.fitting.run_info import Clock, begin_run, end_run
from hypermol.io.errors import InputError
from hypermol.io.run_input import kept_input
from hypermol.io.store import RunDirectory
from hypermol.recipe.options import FitOptions
from hypermol.recipe.toml import read_recipe
from runs import particle_metadata

OPTIONS = FitOptions(samples=4, chains=2)
PARTICLES = particle_metadata(Path("/data"), np.eye(3)[None], np.zeros((1, 2)), 8)


def _info(options: FitOptions, data_hash: str = "a") -> dict:
    chosen = asdict(options) | {"part": []}
    return {"data_hash": data_hash, "source": {}, "options": chosen, "finished": False}


@pytest.fixture
def directory(tmp_path):
    found = RunDirectory.create(tmp_path / "run")
    begin_run(found, _info(OPTIONS), OPTIONS, PARTICLES, resume=False)
    return found


@pytest.mark.parametrize(
    ("options", "data_hash", "message"),
    [
        (replace(OPTIONS, samples=3), "a", "asked for 4 samples, this call for 3"),
        (replace(OPTIONS, chains=1), "a", "asked for 2 chains, this call for 1"),
        (replace(OPTIONS, thin=2), "a", "the options of .* differ"),
        (replace(OPTIONS, burn_in=99, samples=8), "a", "the options of .* differ"),
        (OPTIONS, "b", "the data hash of .* differ"),
    ],
)
def test_another_run_is_refused_and_left_alone(directory, options, data_hash, message):
    before = directory.read_json("run.json")
    (directory.path / "input.npz").write_bytes(b"as it was")
    with pytest.raises(InputError, match=message):
        begin_run(directory, _info(options, data_hash), options, PARTICLES, resume=True)
    assert directory.read_json("run.json") == before
    assert read_recipe(directory.path / "recipe.toml") == OPTIONS
    assert (directory.path / "input.npz").read_bytes() == b"as it was"


def test_samples_and_chains_may_grow_and_times_add_up(directory):
    now = time.time(), time.process_time()
    end_run(directory, _info(OPTIONS), Clock(now[0] - 100, now[1] - 10))
    assert directory.read_json("run.json")["finished"]
    more = replace(OPTIONS, samples=9, chains=3)
    begin_run(directory, _info(more), more, PARTICLES, resume=True)
    assert kept_input(directory).stack_paths.tolist() == PARTICLES.stack_paths.tolist()
    going = directory.read_json("run.json")
    assert not going["finished"] and going["wall_seconds"] == pytest.approx(100, abs=1)
    assert read_recipe(directory.path / "recipe.toml") == more
    end_run(directory, _info(more), Clock(now[0] - 20, now[1] - 2))
    ended = directory.read_json("run.json")
    assert ended["options"]["samples"] == 9
    assert ended["wall_seconds"] == pytest.approx(120, abs=2)
    assert ended["cpu_seconds"] == pytest.approx(12, abs=2)
