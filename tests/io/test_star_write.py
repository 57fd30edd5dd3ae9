"""Writing STAR files: what was not changed comes back as text, what was comes back as numbers."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hypermol.io.euler import rotation_from_euler
from hypermol.io.metadata import CtfParameters, ParticleMetadata
from hypermol.io.mrc import write_stack
from hypermol.io.star import read_particles_star, write_particles_star

POSE_COLUMNS = {"rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"}


def assert_same_tables(a: dict, b: dict, but: set[str] = frozenset()) -> None:
    assert list(a) == list(b)
    for name in a:
        left, right = pd.DataFrame(a[name]), pd.DataFrame(b[name])
        for column in left.columns:
            if column not in but:
                assert left[column].tolist() == right[column].tolist(), column


def random_poses(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    angles = rng.uniform(-180, 180, (3, n))
    angles[1] = np.abs(angles[1])
    return rotation_from_euler(*angles), rng.normal(size=(n, 2)) * 5


@pytest.mark.parametrize(
    "name",
    [
        "relion31.star",
        "relion31.v2.star",
        "relion5.star",
        "sample_particles_relion30.star",
        "sample_particles_relion31.star",
        "toy_projections.star",
        "empiar_10076_7.star",
    ],
)
def test_files_of_other_programs_come_back(shared_data: Path, tmp_path: Path, name: str):
    size = 1.0 if name == "toy_projections.star" else None  # which says none

    def read(path: Path) -> ParticleMetadata:
        return read_particles_star(path, pixel_size_angstrom=size, allow_missing=("poses",))

    first = read(shared_data / "formats" / name)
    write_particles_star(tmp_path / "out.star", first)
    again = read(tmp_path / "out.star")
    assert_same_tables(first.table, again.table, but={"rlnImageName"})
    assert again.particle_block == first.particle_block
    np.testing.assert_array_equal(again.rotations, first.rotations)
    present = [Path(path).is_file() for path in first.stack_paths]
    np.testing.assert_array_equal(again.stack_paths[present], first.stack_paths[present])
    np.testing.assert_array_equal(again.stack_indices, first.stack_indices)


def test_odd_text_comes_back(write_star: Callable, relion31: dict, tmp_path: Path):
    relion31["particles"] |= {
        "rlnGroupName": ["group_1", "'two words'", '""', "nan"],
        "rlnLogLikeliContribution": ["1e+06", "1.000000e+06", "0012", "-0.0"],
    }
    relion31["optics"]["rlnOddZernike"] = ["[0.1,0.2,-0.3]"]
    relion31["other"] = {"rlnThing": ["1.50", "2.50"]}
    first = read_particles_star(write_star(relion31))
    write_particles_star(tmp_path / "out.star", first)
    again = read_particles_star(tmp_path / "out.star")
    assert again.table["particles"]["rlnGroupName"].tolist()[:3] == ["group_1", "two words", ""]
    assert again.table["particles"]["rlnLogLikeliContribution"].tolist() == [
        "1e+06",
        "1.000000e+06",
        "0012",
        "-0.0",
    ]
    assert_same_tables(first.table, again.table, but={"rlnGroupName"})


@pytest.mark.parametrize("unit", ["Angst", ""])
def test_new_poses_keep_the_unit(write_star: Callable, relion31: dict, tmp_path: Path, unit: str):
    particles = relion31["particles"]
    if unit == "":
        for axis in "XY":
            particles[f"rlnOrigin{axis}"] = particles.pop(f"rlnOrigin{axis}Angst")
    first = read_particles_star(write_star(relion31))
    rotations, shifts = random_poses(4)
    extra = {"hypermolStateMean": np.linspace(0, 1, 4), "hypermolCluster": np.arange(4)}
    write_particles_star(tmp_path / "out.star", first, extra, rotations, shifts)
    again = read_particles_star(tmp_path / "out.star")
    np.testing.assert_allclose(again.rotations, rotations, atol=1e-7)
    np.testing.assert_allclose(again.shifts_angstrom, shifts, atol=1e-6)
    origin = {f"rlnOriginX{unit}", f"rlnOriginY{unit}"}
    assert set(again.table["particles"]) == set(first.table["particles"]) | set(extra)
    assert_same_tables(first.table, again.table, but=POSE_COLUMNS | origin)
    written = again.table["particles"]["hypermolStateMean"].astype(float)
    np.testing.assert_allclose(written, extra["hypermolStateMean"], rtol=1e-8)
    scale = 1.0 if unit else 1.5
    np.testing.assert_allclose(
        again.table["particles"][f"rlnOriginX{unit}"].astype(float),
        -shifts[:, 0] / scale,
        atol=1e-6,
    )


def test_both_units_are_kept_in_step(write_star: Callable, relion31: dict, tmp_path: Path):
    relion31["particles"] |= {"rlnOriginX": ["0"] * 4, "rlnOriginY": ["0"] * 4}
    first = read_particles_star(write_star(relion31))
    write_particles_star(tmp_path / "out.star", first, {}, None, np.full((4, 2), 3.0))
    table = read_particles_star(tmp_path / "out.star").table["particles"]
    assert table["rlnOriginXAngst"].tolist() == ["-3.000000"] * 4
    assert table["rlnOriginX"].tolist() == ["-2.000000"] * 4


def test_selection_writes_its_rows(write_star: Callable, relion31: dict, tmp_path: Path):
    first = read_particles_star(write_star(relion31)).take(np.array([3, 1]))
    write_particles_star(tmp_path / "out.star", first)
    again = read_particles_star(tmp_path / "out.star")
    np.testing.assert_array_equal(again.stack_indices, [3, 1])
    np.testing.assert_array_equal(again.ctf.defocus_u_angstrom, [18000.4, 16000.2])
    np.testing.assert_array_equal(first.row_numbers, [4, 2])


def test_stack_names_lead_to_the_stack_from_the_new_folder(
    write_star: Callable, relion31: dict, tmp_path: Path
):
    path = write_star(relion31, "project/Refine3D/job1/run_data.star")
    write_stack(tmp_path / "project" / "stack.mrcs", np.zeros((4, 8, 8)), 1.5)
    first = read_particles_star(path)

    def name_in(folder: str) -> str:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        out = tmp_path / folder / "out.star"
        write_particles_star(out, first)
        again = read_particles_star(out)
        np.testing.assert_array_equal(again.stack_paths, first.stack_paths)
        return again.table["particles"]["rlnImageName"][0]

    assert name_in("project/hypermol/run") == "000001@stack.mrcs"
    assert name_in("away/run") == f"000001@{os.path.join('..', '..', 'project', 'stack.mrcs')}"
    (tmp_path / "decoy").mkdir()
    write_stack(tmp_path / "decoy" / "stack.mrcs", np.zeros((4, 8, 8)), 1.5)
    assert name_in("decoy") == f"000001@{os.path.join('..', 'project', 'stack.mrcs')}"


#: Ten times what each field of `CtfParameters` may be.
OPTICS = np.array([1e5, 1e5, 1e3, 3e3, 27.0, 1.0, 1e3, 500.0, 10.0])


def test_particles_without_a_table_get_relion31_blocks(tmp_path: Path):
    n = 6
    rng = np.random.default_rng(0)
    rotations, shifts = random_poses(n)
    metadata = ParticleMetadata(
        stack_paths=np.array([str(tmp_path / "made.mrcs")] * n),
        stack_indices=np.arange(n),
        rotations=rotations,
        shifts_angstrom=shifts,
        ctf=CtfParameters(*rng.uniform(0.05, 0.15, (9, n)) * OPTICS[:, None]),
        pixel_size_angstrom=1.1,
        box=32,
        half_set=np.array([1, 2, 0, 1, 2, 0]),
        optics_group=np.array([1, 1, 1, 4, 4, 4]),
        contrast_sign=-np.ones(n),
    )
    write_stack(tmp_path / "made.mrcs", np.zeros((n, 32, 32)), 1.1)
    write_particles_star(tmp_path / "out.star", metadata, {"hypermolTruth": rng.normal(size=n)})
    again = read_particles_star(tmp_path / "out.star")
    np.testing.assert_allclose(again.rotations, rotations, atol=1e-7)
    np.testing.assert_allclose(again.shifts_angstrom, shifts, atol=1e-6)
    for name in vars(metadata.ctf):
        np.testing.assert_allclose(
            getattr(again.ctf, name), getattr(metadata.ctf, name), rtol=1e-8, err_msg=name
        )
    np.testing.assert_array_equal(again.half_set, metadata.half_set)
    np.testing.assert_array_equal(again.contrast_sign, -np.ones(n))
    np.testing.assert_array_equal(again.stack_paths, metadata.stack_paths)
    assert (again.box, again.pixel_size_angstrom) == (32, 1.1)


def test_columns_of_another_length_are_refused(
    write_star: Callable, relion31: dict, tmp_path: Path
):
    first = read_particles_star(write_star(relion31))
    with pytest.raises(ValueError, match="hypermolStateMean has shape"):
        write_particles_star(tmp_path / "out.star", first, {"hypermolStateMean": np.zeros(3)})
