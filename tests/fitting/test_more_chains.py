"""Chains are added until samples are worth enough, or the budget is spent."""

from dataclasses import replace

import numpy as np
import pytest

from hypermol.data.source import ParticleSource
from hypermol.fitting import more_chains
from hypermol.fitting.fit import fit
from hypermol.fitting.found import load_found
from hypermol.fitting.more_chains import is_enough, wanted_chains
from hypermol.fitting.stages import Stage
from hypermol.io.errors import InputError
from hypermol.io.store import RunDirectory
from hypermol.recipe.options import FitOptions
from small_data import write_pretzel

OPTIONS = FitOptions(
    n_terms=2,
    radius_angstrom=110.0,
    resolution_angstrom=64.0,
    burn_in=2,
    chains=2,
    samples=2,
    budget="16 sweeps",
)
STAGES = [
    Stage("map", "constant", 5, 1, 3, is_shared=True),
    Stage("fine", "whole", 5, 2, 2),
    Stage("sampling", "whole", 5, 2, 2, keep_every=1),
]


@pytest.fixture
def two_chains(tmp_path) -> RunDirectory:
    """100 s of both, 20 s of each."""
    directory = RunDirectory.create(tmp_path / "run")
    for chain, stage, seconds in (
        (0, "map", 60.0),
        (0, "fine", 12.0),
        (0, "sampling", 8.0),
        (1, "fine", 11.0),
        (1, "sampling", 9.0),
    ):
        directory.append_trace({"chain": chain, "sweep": 0, "stage": stage, "seconds": seconds})
    directory.write_json("run.json", {})
    return directory


@pytest.mark.parametrize(
    ("budget", "chains"),
    [
        (None, 2),
        ("4 sweeps", 2),
        ("7 sweeps", 3),
        ("100 sweeps", 4),  # no more than twice as many at a time
        ("1 minute", 2),
        ("2 minutes", 3),
        ("2.5 minutes", 4),
        ("60 minutes", 4),
    ],
)
def test_as_many_as_the_budget_is_enough_for(monkeypatch, two_chains, budget, chains):
    monkeypatch.setattr(more_chains, "worth", lambda run: {"rotation": 3.0, "shift": 30.0})
    options = replace(OPTIONS, budget=budget)
    assert wanted_chains(two_chains, options, STAGES, 2) == chains


def test_no_more_where_all_is_known_well(monkeypatch, two_chains):
    monkeypatch.setattr(more_chains, "worth", lambda run: {"rotation": 19.5, "shift": 30.0})
    assert wanted_chains(two_chains, OPTIONS, STAGES, 2) == 2
    assert not is_enough({}) and not is_enough({"rotation": 18.0, "shift": 30.0})


def test_a_run_grows_within_its_budget(tmp_path):
    """By itself, or when it goes on with a budget: the same samples, bit for bit."""
    source = ParticleSource(write_pretzel(tmp_path))
    rigid = replace(OPTIONS, basis="constant", n_terms=1, poses="fixed")
    options = replace(rigid, samples=1, budget="3 sweeps")
    added = fit(source, tmp_path / "added", options)
    assert load_found(added).chains == 3 and added.read_json("run.json")["chains"] == 3
    resumed = fit(source, tmp_path / "resumed", replace(options, budget=None))
    assert resumed.read_json("run.json")["chains"] == 2
    resumed = fit(source, tmp_path / "resumed", options, resume=True)
    for chain in range(3):
        (name,) = added.sample_names(chain)
        expected, got = added.read_arrays(name), resumed.read_arrays(name)
        for key in expected:
            np.testing.assert_array_equal(got[key], expected[key], err_msg=f"{name} {key}")
    again = fit(source, tmp_path / "resumed", replace(options, budget=None), resume=True)
    assert again.read_json("run.json")["chains"] == 3


def test_a_budget_that_is_not_enough_is_refused(tmp_path):
    source = ParticleSource(write_pretzel(tmp_path))
    with pytest.raises(InputError, match="3 sweeps, but chains x samples x thin are 4"):
        fit(source, tmp_path / "run", replace(OPTIONS, budget="3 sweeps"))
