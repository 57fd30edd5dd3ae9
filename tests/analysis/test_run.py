import numpy as np
import pytest

from hypermol.analysis.chains import aligned_states, iterate_samples, n_samples, sample_sweeps
from hypermol.analysis.run import load_run
from hypermol.io.errors import InputError
from runs import random_run, write_run


def test_samples_are_read_in_order(tmp_path):
    fake = random_run()
    run = load_run(write_run(tmp_path / "run", fake))
    assert run.chains == [0, 1] and n_samples(run) == 10
    assert sample_sweeps(run, 1) == [10, 12, 14, 16, 18]
    assert run.stacked("contrast").shape == (2, 5, 7)
    assert np.allclose(run.pooled("state"), fake.state.reshape(10, 7, 1))
    assert np.allclose(run.maps, fake.maps.reshape(10, 3, 12, 12, 12))
    places = [(s.chain, s.draw) for s in iterate_samples(run, "level")]
    assert places == [(c, d) for c in (0, 1) for d in range(5)]


def test_chains_of_unequal_length(tmp_path):
    run = load_run(write_run(tmp_path / "run", random_run()))
    (run.directory.path / run.directory.sample_names(1)[-1]).unlink()
    assert run.stacked("contrast").shape == (2, 4, 7) and n_samples(run) == 9


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        load_run(tmp_path)
    run = load_run(write_run(tmp_path / "run", random_run(state_space="point")))
    with pytest.raises(InputError, match="rigid fit"):
        aligned_states(run)
    name = run.directory.sample_names(0)[0]
    whole = (run.directory.path / name).read_bytes()
    for damaged in (b"PK not a zip", whole[: len(whole) // 2], b""):
        (run.directory.path / name).write_bytes(damaged)
        with pytest.raises(InputError, match=r"c00_000010.npz cannot be read"):
            list(iterate_samples(run, "maps"))
        with pytest.raises(InputError, match=r"c00_000010.npz cannot be read"):
            run.stacked("contrast")
    (run.directory.path / name).write_bytes(whole)
    with pytest.raises(InputError, match=r"c00_000010.npz has no warmth: .*place$") as caught:
        run.stacked("warmth")
    assert "cannot be read" not in str(caught.value)  # it is not damaged: not to be deleted
    for name in run.directory.sample_names(0) + run.directory.sample_names(1):
        (run.directory.path / name).unlink()
    with pytest.raises(InputError, match="no posterior samples yet"):
        list(iterate_samples(load_run(tmp_path / "run"), "maps"))
