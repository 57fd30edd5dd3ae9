"""Writing STAR files: what was not changed comes back as text, what was comes back as numbers."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
import pytest
import starfile

from hypermol.io.errors import InputError
from hypermol.io.euler import rotation_from_euler
from hypermol.io.metadata import CtfParameters, ParticleMetadata
from hypermol.io.mrc import write_stack
from hypermol.io.star import read_particles_star, write_particles_star
from hypermol.io.star_output import star_text
from hypermol.io.star_write import relion_tables
from runs import particle_metadata

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
    assert name_in("away/run") == f"000001@{tmp_path}/project/stack.mrcs"
    (tmp_path / "decoy").mkdir()
    write_stack(tmp_path / "decoy" / "stack.mrcs", np.zeros((4, 8, 8)), 1.5)
    assert name_in("decoy") == f"000001@{tmp_path}/project/stack.mrcs"
    write_stack(tmp_path / "project" / "hypermol" / "stack.mrcs", np.zeros((4, 8, 8)), 1.5)
    assert name_in("project/hypermol/run") == f"000001@{tmp_path}/project/stack.mrcs"


def test_names_that_climb_mean_another_folder_elsewhere(
    write_star: Callable, relion31: dict, tmp_path: Path
):
    names = [f"{i + 1:06d}@../stacks/stack.mrcs" for i in range(4)]
    relion31["particles"]["rlnImageName"] = names
    path = write_star(relion31, "set/meta/particles.star")
    (tmp_path / "set" / "stacks").mkdir()
    write_stack(tmp_path / "set" / "stacks" / "stack.mrcs", np.zeros((4, 8, 8)), 1.5)
    (tmp_path / "set" / "run").mkdir()
    write_particles_star(tmp_path / "set" / "run" / "out.star", read_particles_star(path))
    table = starfile.read(tmp_path / "set" / "run" / "out.star")["particles"]
    assert table["rlnImageName"][1] == f"000002@{tmp_path}/set/stacks/stack.mrcs"


@pytest.mark.parametrize("folder", ["lab@site", "a@b@c", "job#3", "#3", "two words", "it's"])
def test_odd_paths_are_written_as_they_are(tmp_path: Path, folder: str):
    """RELION's number ends at the first @; nothing but white space makes a text need quotes."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    (project / folder).mkdir(parents=True)
    elsewhere.mkdir()
    write_stack(project / folder / "x.mrcs", np.zeros((2, 8, 8)), 1.5)
    names = [f"{i + 1:06d}@{folder}/x.mrcs" for i in range(2)]
    metadata = particle_metadata(project, np.stack([np.eye(3)] * 2), np.zeros((2, 2)), 8)
    tables = relion_tables(metadata)
    tables["particles"] = tables["particles"].assign(rlnImageName=names)
    stacks = np.array([str(project / folder / "x.mrcs")] * 2)
    metadata = replace(metadata, table=tables, stack_paths=stacks)
    write_particles_star(project / "out.star", metadata)
    row = (project / "out.star").read_text().rstrip().splitlines()[-1]
    assert next(csv.reader([row], delimiter="\t"))[0] == names[1]
    assert (row[0] == '"') == (folder == "two words")
    write_particles_star(elsewhere / "out.star", metadata)
    assert f"000002@{project}/{folder}/x.mrcs" in (elsewhere / "out.star").read_text()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "two words",
        "tab\there",
        "#hash",
        "_label",
        "data_set",
        'a "b" c',
        "'",
        "[1,2]",
        "a \"b\" 'c'/d",
    ],
)
def test_values_that_need_quotes_come_back(tmp_path: Path, text: str):
    blocks = {"a": pd.DataFrame({"x": [text, "y"], "z": ["1", "2"]}), "b": {"single": text}}
    (tmp_path / "a.star").write_text(star_text(blocks))
    block = gemmi.cif.read(str(tmp_path / "a.star"))
    column = [gemmi.cif.as_string(value) for value in block[0].find_values("_x")]
    assert column == [text, "y"]
    assert gemmi.cif.as_string(block[1].find_value("_single")) == text


@pytest.mark.parametrize("text", ["two\nlines", "both ' and \" kinds"])
def test_values_that_no_star_file_holds(text: str):
    with pytest.raises(InputError, match="cannot be written in a STAR file"):
        star_text({"a": {"x": text}})


def test_priors_of_helices_follow_the_new_poses(
    write_star: Callable, relion31: dict, tmp_path: Path
):
    relion31["particles"] |= {
        "rlnHelicalTubeID": [1, 1, 2, 2],
        "rlnAngleTiltPrior": ["90"] * 4,
        "rlnAnglePsiPrior": ["-12.5"] * 4,
        "rlnAnglePsiFlipRatio": ["0.5"] * 4,
        "rlnAnglePsiFlip": ["1"] * 4,
        "rlnOriginXPriorAngst": ["3"] * 4,
        "rlnOriginYPrior": ["7"] * 4,
    }
    first = read_particles_star(write_star(relion31))
    write_particles_star(tmp_path / "same.star", first)
    assert_same_tables(first.table, read_particles_star(tmp_path / "same.star").table)
    rotations, shifts = random_poses(4)
    write_particles_star(tmp_path / "out.star", first, None, rotations, shifts)
    table = starfile.read(tmp_path / "out.star")["particles"]
    for angle in ("Tilt", "Psi"):
        assert np.array_equal(table[f"rlnAngle{angle}Prior"], table[f"rlnAngle{angle}"])
    np.testing.assert_allclose(table["rlnOriginXPriorAngst"], -shifts[:, 0], atol=1e-6)
    np.testing.assert_allclose(table["rlnOriginYPrior"], -shifts[:, 1] / 1.5, atol=1e-6)
    assert "rlnAnglePsiFlip" not in table and "rlnAngleRotPrior" not in table
    assert table["rlnAnglePsiFlipRatio"].tolist() == [0.5] * 4
    assert table["rlnHelicalTubeID"].tolist() == [1, 1, 2, 2]


def test_the_sign_of_the_contrast_is_in_the_ctf(tmp_path: Path):
    """What RELION multiplies references by, -sin(chi - phase shift - amplitude), turns its sign."""
    rng = np.random.default_rng(1)
    base = particle_metadata(tmp_path, np.stack([np.eye(3)] * 4), np.zeros((4, 2)), 8)
    phase = np.array([0.0, 90.0, 180.0, -30.0])
    ctf = replace(base.ctf, phase_shift_deg=phase)
    dark = replace(base, ctf=ctf, contrast_sign=np.array([-1.0, -1.0, -1.0, 1.0]))
    write_particles_star(tmp_path / "out.star", dark)
    table = starfile.read(tmp_path / "out.star")["particles"]
    assert not [name for name in table if "ContrastSign" in name]
    chi = rng.uniform(-50, 50, 4)
    written = -np.sin(chi - np.radians(table["rlnPhaseShift"]))
    np.testing.assert_allclose(written, -dark.contrast_sign * np.sin(chi - np.radians(phase)))
    assert table["rlnPhaseShift"].between(-180, 180).all()
    write_particles_star(tmp_path / "plain.star", replace(dark, has_ctf=False))
    again = read_particles_star(tmp_path / "plain.star", allow_missing=("ctf",))
    np.testing.assert_array_equal(again.contrast_sign, dark.contrast_sign)


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
    written = replace(metadata.ctf, phase_shift_deg=metadata.ctf.phase_shift_deg - 180.0)
    for name in vars(written):
        np.testing.assert_allclose(
            getattr(again.ctf, name), getattr(written, name), rtol=1e-6, err_msg=name
        )
    np.testing.assert_array_equal(again.half_set, metadata.half_set)
    np.testing.assert_array_equal(again.contrast_sign, np.ones(n))
    np.testing.assert_array_equal(again.stack_paths, metadata.stack_paths)
    assert (again.box, again.pixel_size_angstrom) == (32, 1.1)


def test_columns_of_another_length_are_refused(
    write_star: Callable, relion31: dict, tmp_path: Path
):
    first = read_particles_star(write_star(relion31))
    with pytest.raises(ValueError, match="hypermolStateMean has shape"):
        write_particles_star(tmp_path / "out.star", first, {"hypermolStateMean": np.zeros(3)})
