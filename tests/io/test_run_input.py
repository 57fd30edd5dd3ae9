"""The run's own copy of its particles: everything comes back, whatever the particles came from."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hypermol.io.errors import InputError
from hypermol.io.metadata import ParticleMetadata
from hypermol.io.run_input import keep_input, kept_input
from hypermol.io.star import read_particles_star
from hypermol.io.store import RunDirectory
from runs import particle_metadata


def assert_same(first: ParticleMetadata, second: ParticleMetadata) -> None:
    for name in (f.name for f in fields(first) if f.name not in ("table", "ctf")):
        a, b = getattr(first, name), getattr(second, name)
        assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b, name
        assert type(a) is type(b), name
    for name in vars(first.ctf):
        assert np.array_equal(getattr(first.ctf, name), getattr(second.ctf, name)), name
    assert list(first.table) == list(second.table)
    for name, block in first.table.items():
        if isinstance(block, pd.DataFrame):
            assert list(block.columns) == list(second.table[name].columns)
            assert (block.map(str).to_numpy() == second.table[name].to_numpy()).all()
        elif isinstance(block, np.ndarray):
            assert block.dtype == second.table[name].dtype
            assert (block == second.table[name]).all()
        else:
            assert block == second.table[name]


def test_a_star_file_comes_back_text_for_text(write_star, relion31, tmp_path: Path):
    relion31["particles"] |= {
        "rlnGroupName": ["Gruppe_ä", "'two words'", '""', "nan"],
        "rlnLogLikeliContribution": ["1e+06", "1.000000e+06", "0012", "-0.0"],
    }
    relion31["optics"]["rlnBeamTiltX"] = [0.3]
    relion31["other"] = {"rlnThing": ["1.50", "2.50"]}
    path = write_star(relion31)
    path.write_text(path.read_text() + "\ndata_single\n\n_rlnVersion 4.0\n\n")
    first = read_particles_star(path)
    first = replace(first, contrast_sign=-first.contrast_sign)
    directory = RunDirectory.create(tmp_path / "run")
    keep_input(directory, first)
    path.unlink()
    assert_same(first, kept_input(directory))
    assert kept_input(directory).remarks == first.remarks != ()


def test_rows_of_cryosparc_come_back(tmp_path: Path):
    rows = np.zeros(3, [("uid", "<u8"), ("blob/path", "S9"), ("alignments3D/pose", "<f4", (3,))])
    rows["uid"] = [2**63 + 1, 5, 2**64 - 1]
    rows["blob/path"] = [b">J1/a.mrc", b"", b"b.mrc"]
    base = particle_metadata(tmp_path, np.stack([np.eye(3)] * 3), np.zeros((3, 2)), 8)
    first = replace(
        base, table={"cs": rows, "cryosparc": pd.DataFrame({"cryosparcUid": list("abc")})}
    )
    directory = RunDirectory.create(tmp_path / "run")
    keep_input(directory, first)
    assert_same(first, kept_input(directory))
    keep_input(directory, base.take(np.array([2, 0])))
    assert_same(base.take(np.array([2, 0])), kept_input(directory))


def test_a_run_without_its_copy(tmp_path: Path):
    directory = RunDirectory.create(tmp_path / "run")
    with pytest.raises(InputError, match=r"has no input\.npz.*hypermol fit --resume"):
        kept_input(directory)
    (tmp_path / "run" / "input.npz").write_bytes(b"half")
    with pytest.raises(InputError, match=r"input\.npz cannot be read"):
        kept_input(directory)
