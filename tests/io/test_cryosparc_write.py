"""Particles of cryoSPARC: rows come back as they were, and RELION's columns are there."""

from pathlib import Path

import numpy as np
import pytest
import starfile
from scipy.spatial.transform import Rotation

from hypermol.io.cryosparc import read_particles_cs
from hypermol.io.cryosparc_write import write_particles_cs
from hypermol.io.errors import InputError
from hypermol.io.star import read_particles_star, write_particles_star

N = 4
POSES = ("alignments3D/pose", "alignments3D/shift")
FIELDS = [
    ("uid", "u8"),
    ("blob/path", "S40"),
    ("blob/idx", "u4"),
    ("blob/shape", "u4", (2,)),
    ("blob/psize_A", "f4"),
    ("blob/sign", "f4"),
    ("ctf/accel_kv", "f4"),
    ("ctf/cs_mm", "f4"),
    ("ctf/amp_contrast", "f4"),
    ("ctf/df1_A", "f4"),
    ("alignments3D/shift", "f4", (2,)),
    ("alignments3D/pose", "f4", (3,)),
    ("alignments3D/psize_A", "f4"),
    ("alignments3D/error", "f4"),
]
LOCATIONS = [
    ("uid", "u8"),
    ("location/micrograph_path", "S40"),
    ("location/micrograph_shape", "u4", (2,)),
    ("location/center_x_frac", "f4"),
    ("location/center_y_frac", "f4"),
]


@pytest.fixture
def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    array = np.zeros(N, dtype=FIELDS)
    array["uid"] = 2**63 + np.arange(N, dtype=np.uint64)
    array["blob/path"] = b">J1/stack.mrc"
    array["blob/idx"] = np.arange(N)
    array["blob/shape"], array["blob/psize_A"], array["blob/sign"] = 8, 1.5, -1
    array["ctf/accel_kv"], array["ctf/cs_mm"], array["ctf/amp_contrast"] = 300, 2.7, 0.1
    array["ctf/df1_A"] = rng.uniform(1e4, 2e4, N)
    array["alignments3D/shift"] = rng.normal(size=(N, 2))
    array["alignments3D/pose"] = rng.normal(size=(N, 3))
    array["alignments3D/psize_A"], array["alignments3D/error"] = 3.0, 17.0
    return array


@pytest.fixture
def locations(rows: np.ndarray) -> np.ndarray:
    array = np.zeros(N, dtype=LOCATIONS)
    array["uid"] = rows["uid"]
    array["location/micrograph_path"] = b">J2/mic.mrc"
    array["location/micrograph_shape"] = (4000, 6000)
    array["location/center_x_frac"] = [0.1, 0.2, 0.3, 0.4]
    array["location/center_y_frac"] = [0.5, 0.25, 0.75, 1.0]
    return array


def save(path: Path, array: np.ndarray) -> Path:
    with open(path, "wb") as file:
        np.save(file, array)
    return path


def test_a_subset_keeps_types_uids_and_all_else(rows, tmp_path: Path):
    metadata = read_particles_cs(save(tmp_path / "a.cs", rows)).take(np.array([3, 1]))
    assert write_particles_cs(tmp_path / "b.cs", metadata) == [tmp_path / "b.cs"]
    again = np.load(tmp_path / "b.cs", allow_pickle=False)
    assert again.dtype == rows.dtype and np.array_equal(again, rows[[3, 1]])


def test_new_poses_are_read_back(rows, tmp_path: Path):
    """Beside the reader: cryoSPARC's rotation vector takes microscope to molecule coordinates."""
    metadata = read_particles_cs(save(tmp_path / "a.cs", rows))
    rotations = Rotation.random(N, random_state=1).as_matrix()
    shifts = np.random.default_rng(2).normal(size=(N, 2))
    write_particles_cs(tmp_path / "b.cs", metadata, rotations, shifts)
    again = np.load(tmp_path / "b.cs")
    back = Rotation.from_rotvec(again["alignments3D/pose"]).as_matrix()
    np.testing.assert_allclose(back.transpose(0, 2, 1), rotations, atol=1e-6)
    np.testing.assert_allclose(again["alignments3D/shift"], -shifts / 3.0, atol=1e-6)
    read = read_particles_cs(tmp_path / "b.cs")
    np.testing.assert_allclose(read.rotations, rotations, atol=1e-6)
    np.testing.assert_allclose(read.shifts_angstrom, shifts, atol=1e-6)
    others = [name for name in rows.dtype.names if name not in POSES]
    assert all(np.array_equal(again[name], rows[name]) for name in others)
    assert np.array_equal(np.load(tmp_path / "a.cs"), rows)


def test_the_passthrough_file_is_cut_alike(rows, locations, tmp_path: Path):
    other = save(tmp_path / "pass.cs", locations[::-1])
    metadata = read_particles_cs(save(tmp_path / "a.cs", rows), passthrough=other)
    written = write_particles_cs(tmp_path / "b.cs", metadata.take(np.array([2, 0])))
    assert [path.name for path in written] == ["b.cs", "b_passthrough.cs"]
    assert np.array_equal(np.load(written[1]), locations[[2, 0]])
    assert np.array_equal(np.load(written[0]), rows[[2, 0]])


def test_several_passthrough_files_and_another_pixel_size(rows, locations, tmp_path: Path):
    """Where the pixel size is overridden, shifts are in pixels that were stretched alike."""
    more = np.zeros(N, [("uid", "u8"), ("extra/class", "u4")])
    more["uid"], more["extra/class"] = rows["uid"], range(N)
    others = [save(tmp_path / "p.cs", locations), save(tmp_path / "q.cs", more[::-1])]
    metadata = read_particles_cs(
        save(tmp_path / "a.cs", rows), passthrough=others, pixel_size_angstrom=1.6
    )
    chosen = metadata.take(np.array([3, 0]))
    written = write_particles_cs(tmp_path / "b.cs", chosen, shifts_angstrom=chosen.shifts_angstrom)
    assert [path.stem for path in written] == ["b", "b_passthrough", "b_passthrough_2"]
    assert np.load(written[2])["extra/class"].tolist() == [3, 0]
    np.testing.assert_allclose(
        np.load(written[0])["alignments3D/shift"], rows["alignments3D/shift"][[3, 0]], rtol=1e-6
    )


def test_relion_gets_micrographs_and_coordinates(rows, locations, tmp_path: Path):
    metadata = read_particles_cs(
        save(tmp_path / "a.cs", rows), passthrough=save(tmp_path / "pass.cs", locations)
    )
    write_particles_star(tmp_path / "out.star", metadata)
    table = starfile.read(tmp_path / "out.star")["particles"]
    assert table["rlnMicrographName"].tolist() == ["J2/mic.mrc"] * N
    np.testing.assert_allclose(table["rlnCoordinateX"], [600, 1200, 1800, 2400], atol=1e-3)
    np.testing.assert_allclose(table["rlnCoordinateY"], [2000, 1000, 3000, 4000], atol=1e-3)
    assert table["rlnPhaseShift"].tolist() == [180.0] * N
    np.testing.assert_array_equal(
        read_particles_star(tmp_path / "out.star").contrast_sign, np.ones(N)
    )


def test_what_the_file_does_not_say_is_left_out(rows, tmp_path: Path):
    metadata = read_particles_cs(save(tmp_path / "a.cs", rows))
    assert list(metadata.table["cryosparc"].columns) == ["cryosparcUid"]
    assert metadata.table["cryosparc"]["cryosparcUid"][1] == str(2**63 + 1)


def test_particles_of_other_files_are_refused(rows, write_star, relion31, tmp_path: Path):
    star = read_particles_star(write_star(relion31))
    with pytest.raises(InputError, match=r"not from a cryoSPARC \.cs file: write a STAR file"):
        write_particles_cs(tmp_path / "b.cs", star)
    bare = rows[[name for name in rows.dtype.names if not name.startswith("alignments3D")]]
    metadata = read_particles_cs(save(tmp_path / "a.cs", bare), allow_missing=("poses",))
    with pytest.raises(InputError, match="has no field alignments3D/pose"):
        write_particles_cs(tmp_path / "b.cs", metadata, np.stack([np.eye(3)] * N))
    assert not (tmp_path / "b.cs").exists()
