"""Reading STAR files: versions, units, defaults, every fault; poses against RELION's images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from hypermol.io.errors import InputError
from hypermol.io.euler import rotation_from_euler
from hypermol.io.mrc import open_stack, read_volume, write_stack
from hypermol.io.star import read_particles_star

OLD = {
    "rlnDetectorPixelSize": ["5.0"] * 4,
    "rlnMagnification": ["25000.0"] * 4,
    "rlnVoltage": ["200"] * 4,
    "rlnSphericalAberration": ["2.0"] * 4,
    "rlnAmplitudeContrast": ["0.07"] * 4,
}


def old_format(blocks: dict) -> dict:
    """The particles of a 3.1 file as one RELION 3.0 block, origins in pixels of 2 Angstrom."""
    particles = {k: v for k, v in blocks["particles"].items() if k != "rlnOpticsGroup"}
    for axis in "XY":
        origins = np.array(particles.pop(f"rlnOrigin{axis}Angst"), dtype=float)
        particles[f"rlnOrigin{axis}"] = [f"{o / 2.0:.6f}" for o in origins]
    return {"images": particles | OLD}


def test_relion31(write_star: Callable, relion31: dict, tmp_path: Path):
    write_stack(tmp_path / "stack.mrcs", np.zeros((4, 8, 8)), 1.5)
    found = read_particles_star(write_star(relion31))
    assert len(found) == 4
    assert (found.pixel_size_angstrom, found.box) == (1.5, 8)
    np.testing.assert_array_equal(found.stack_paths, [str(tmp_path / "stack.mrcs")] * 4)
    np.testing.assert_array_equal(found.stack_indices, [0, 1, 2, 3])
    np.testing.assert_array_equal(found.shifts_angstrom[1], [3.0, -6.0])
    np.testing.assert_array_equal(found.half_set, [1, 2, 1, 2])
    np.testing.assert_array_equal(found.ctf.defocus_v_angstrom[:2], [14900.1, 15900.2])
    np.testing.assert_array_equal(found.ctf.voltage_kv, [300.0] * 4)
    particles = relion31["particles"]
    angles = [np.array(particles[f"rlnAngle{n}"], dtype=float) for n in ("Rot", "Tilt", "Psi")]
    np.testing.assert_array_equal(found.rotations, rotation_from_euler(*angles))


def test_relion30_gives_the_same_poses(write_star: Callable, relion31: dict):
    new = read_particles_star(write_star(relion31, "new.star"))
    old = read_particles_star(write_star(old_format(relion31), "old.star"))
    assert old.pixel_size_angstrom == 2.0
    assert old.box is None
    np.testing.assert_allclose(old.shifts_angstrom, new.shifts_angstrom, atol=1e-12)
    np.testing.assert_array_equal(old.rotations, new.rotations)
    np.testing.assert_array_equal(old.ctf.amplitude_contrast, [0.07] * 4)
    np.testing.assert_array_equal(old.optics_group, [1] * 4)


def test_pixel_origins_in_a_31_file_are_scaled(write_star: Callable, relion31: dict):
    particles = relion31["particles"]
    for axis in "XY":
        particles[f"rlnOrigin{axis}"] = particles.pop(f"rlnOrigin{axis}Angst")
    found = read_particles_star(write_star(relion31))
    np.testing.assert_allclose(found.shifts_angstrom[1], [3.0 * 1.5, -6.0 * 1.5])


def test_angstrom_origins_win_over_pixels(write_star: Callable, relion31: dict):
    relion31["particles"]["rlnOriginX"] = ["77.0"] * 4
    found = read_particles_star(write_star(relion31))
    assert found.shifts_angstrom[1, 0] == 3.0


def test_defaults_of_optional_columns(write_star: Callable, relion31: dict):
    for name in ("rlnOriginXAngst", "rlnOriginYAngst", "rlnDefocusV", "rlnDefocusAngle"):
        del relion31["particles"][name]
    del relion31["particles"]["rlnRandomSubset"]
    found = read_particles_star(write_star(relion31))
    np.testing.assert_array_equal(found.shifts_angstrom, np.zeros((4, 2)))
    np.testing.assert_array_equal(found.ctf.defocus_v_angstrom, found.ctf.defocus_u_angstrom)
    for values in (
        found.half_set,
        found.ctf.defocus_angle_deg,
        found.ctf.phase_shift_deg,
        found.ctf.b_factor_angstrom2,
        found.ctf.scale - 1.0,
    ):
        np.testing.assert_array_equal(values, np.zeros(4))


def test_optional_columns_are_read(write_star: Callable, relion31: dict):
    relion31["particles"] |= {
        "rlnPhaseShift": ["90"] * 4,
        "rlnCtfBfactor": ["25.5"] * 4,
        "rlnCtfScalefactor": ["0.5"] * 4,
    }
    found = read_particles_star(write_star(relion31))
    assert found.ctf.phase_shift_deg[0] == 90.0
    assert found.ctf.b_factor_angstrom2[0] == 25.5
    assert found.ctf.scale[0] == 0.5


def test_optics_groups_of_one_pixel_size(write_star: Callable, relion31: dict):
    relion31["optics"] = {name: value * 2 for name, value in relion31["optics"].items()}
    relion31["optics"] |= {"rlnOpticsGroup": [7, 3], "rlnVoltage": [300.0, 200.0]}
    relion31["particles"]["rlnOpticsGroup"] = [3, 7, 7, 3]
    found = read_particles_star(write_star(relion31))
    np.testing.assert_array_equal(found.ctf.voltage_kv, [200.0, 300.0, 300.0, 200.0])
    np.testing.assert_array_equal(found.optics_group, [3, 7, 7, 3])


@pytest.mark.parametrize("name", ["rlnImagePixelSize", "rlnImageSize"])
def test_a_group_that_is_not_used_may_differ(write_star: Callable, relion31: dict, name: str):
    relion31["optics"] = {name: value * 2 for name, value in relion31["optics"].items()}
    relion31["optics"]["rlnOpticsGroup"] = [1, 2]
    relion31["optics"][name] = [relion31["optics"][name][0], 400]
    assert len(read_particles_star(write_star(relion31))) == 4
    relion31["particles"]["rlnOpticsGroup"] = [1, 1, 2, 1]
    with pytest.raises(InputError, match=f"row 3: {name} is 400.*optics group 2.*rescale"):
        read_particles_star(write_star(relion31))


def test_particle_without_a_loop_and_image_without_a_number(tmp_path: Path):
    path = tmp_path / "one.star"
    columns = {"rlnImageName": "only.mrc", "rlnImagePixelSize": "2.0"}
    path.write_text("data_particles\n" + "".join(f"_{k} {v}\n" for k, v in columns.items()))
    found = read_particles_star(path, allow_missing=("poses", "ctf"))
    assert len(found) == 1
    assert found.stack_indices[0] == 0
    assert found.stack_paths[0] == str(tmp_path / "only.mrc")


def test_pixel_size_comes_from_the_header_at_last(
    write_star: Callable, relion31: dict, tmp_path: Path
):
    del relion31["optics"]["rlnImagePixelSize"]
    path = write_star(relion31)
    with pytest.raises(InputError, match=r"gives no pixel size.*stack\.mrcs is missing: add"):
        read_particles_star(path)
    write_stack(tmp_path / "stack.mrcs", np.zeros((4, 8, 8)), 0.0)
    with pytest.raises(InputError, match=r"voxel size 0 .*add rlnImagePixelSize"):
        read_particles_star(path)
    assert read_particles_star(path, pixel_size_angstrom=3.0).pixel_size_angstrom == 3.0
    write_stack(tmp_path / "stack.mrcs", np.zeros((4, 8, 8)), 1.25)
    assert read_particles_star(path).pixel_size_angstrom == 1.25


def test_stacks_are_found_above_beside_and_in_image_dir(
    write_star: Callable, relion31: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write_star(relion31, "project/Refine3D/job1/run_data.star")

    def stack_of(**options: object) -> Path:
        return Path(read_particles_star(path, **options).stack_paths[0])

    assert stack_of() == path.parent / "stack.mrcs"  # absent everywhere
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_stack(elsewhere / "stack.mrcs", np.zeros((4, 8, 8)), 1.5)
    assert stack_of(image_dir=elsewhere) == elsewhere / "stack.mrcs"
    monkeypatch.chdir(elsewhere)
    assert stack_of() == elsewhere / "stack.mrcs"
    write_stack(tmp_path / "project/stack.mrcs", np.zeros((4, 8, 8)), 1.5)
    assert stack_of() == tmp_path / "project/stack.mrcs"
    write_stack(path.parent / "stack.mrcs", np.zeros((4, 8, 8)), 1.5)
    assert stack_of() == path.parent / "stack.mrcs"


def test_a_stack_elsewhere_is_never_taken_for_one_of_image_dir(
    write_star: Callable, relion31: dict, tmp_path: Path
):
    path = write_star(relion31, "project/job1/run_data.star")
    for folder in ("project/job1", "project"):
        write_stack(tmp_path / folder / "stack.mrcs", np.zeros((4, 8, 8)), 1.5)
    empty = tmp_path / "elsewhere"
    empty.mkdir()
    found = read_particles_star(path, image_dir=empty).stack_paths
    assert set(found) == {str(empty / "stack.mrcs")}


def test_two_stacks_of_one_name_in_image_dir(write_star: Callable, relion31: dict, tmp_path: Path):
    stacks = ["J1/a.mrcs", "J1/a.mrcs", "./J1/a.mrcs", "J2/a.mrcs"]
    names = [f"{i + 1}@{stack}" for i, stack in enumerate(stacks)]
    relion31["particles"]["rlnImageName"] = names
    path = write_star(relion31)
    for folder in ("flat", "deep/J1", "deep/J2"):
        (tmp_path / folder).mkdir(parents=True)
        write_stack(tmp_path / folder / "a.mrcs", np.zeros((4, 8, 8)), 1.5)
    found = read_particles_star(path, image_dir=tmp_path / "deep").stack_paths
    assert [Path(stack).parent.name for stack in found] == ["J1", "J1", "J1", "J2"]
    with pytest.raises(InputError, match=r"J2/a\.mrcs would both be .*flat/a\.mrcs"):
        read_particles_star(path, image_dir=tmp_path / "flat")


@pytest.mark.parametrize("size", [0.0, -1.0, np.nan])
def test_pixel_size_option_must_be_a_size(write_star: Callable, relion31: dict, size: float):
    with pytest.raises(InputError, match=r"--pixel-size is .*: give a number"):
        read_particles_star(write_star(relion31), pixel_size_angstrom=size)


def test_terms_outside_the_model_are_remarked(write_star: Callable, relion31: dict):
    relion31["optics"] |= {"rlnMagMat00": [1.0], "rlnBeamTiltX": [0.0], "rlnOddZernike": ["[0,0]"]}
    assert read_particles_star(write_star(relion31)).remarks == ()
    relion31["optics"] |= {"rlnBeamTiltX": [0.1], "rlnOddZernike": ["[0,-0.2]"]}
    (remark,) = read_particles_star(write_star(relion31)).remarks
    assert "has beam tilt, odd aberrations, which the imaging model leaves out" in remark


REQUIRED = {
    "rlnImageName": "give the particle STAR file",
    "rlnAngleRot": "poses",
    "rlnAngleTilt": "poses",
    "rlnAnglePsi": "poses",
    "rlnDefocusU": "CTF estimation",
}


@pytest.mark.parametrize("column", REQUIRED)
def test_missing_columns(write_star: Callable, relion31: dict, column: str):
    del relion31["particles"][column]
    with pytest.raises(InputError, match=rf"particles\.star.*{column}.*{REQUIRED[column]}"):
        read_particles_star(write_star(relion31))


@pytest.mark.parametrize("column", ["rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast"])
def test_missing_optics_columns(write_star: Callable, relion31: dict, column: str):
    del relion31["optics"][column]
    with pytest.raises(InputError, match=rf"particles\.star has no column {column}.*add it"):
        read_particles_star(write_star(relion31))


def test_allow_missing(write_star: Callable, relion31: dict):
    for column in list(REQUIRED)[1:]:
        del relion31["particles"][column]
    del relion31["particles"]["rlnDefocusV"]
    found = read_particles_star(write_star(relion31), allow_missing=("poses", "ctf"))
    assert (found.has_poses, found.has_ctf) == (False, False)
    np.testing.assert_array_equal(found.rotations, np.broadcast_to(np.eye(3), (4, 3, 3)))
    np.testing.assert_array_equal(found.ctf.amplitude_contrast, np.ones(4))
    with pytest.raises(ValueError, match="allow_missing knows"):
        read_particles_star(write_star(relion31), allow_missing=("angles",))


BAD_VALUES = {
    ("rlnDefocusU", "abc"): "row 3: rlnDefocusU is 'abc', not a finite number.*correct",
    ("rlnAngleTilt", "nan"): "row 3: rlnAngleTilt is .*not a finite number",
    ("rlnOriginXAngst", "inf"): "row 3: rlnOriginXAngst is 'inf', not a finite number",
    ("rlnImageName", "0@stack.mrcs"): "row 3: rlnImageName is '0@stack.mrcs': write it as",
    ("rlnImageName", "x@stack.mrcs"): "row 3: rlnImageName is 'x@stack.mrcs': write it as",
    ("rlnOpticsGroup", 9): "row 3: optics group 9 is not in the data_optics block: add",
    ("rlnRandomSubset", 5): "row 3: rlnRandomSubset is 5: use 1 and 2",
}


@pytest.mark.parametrize("fault", BAD_VALUES)
def test_bad_values_name_the_row(write_star: Callable, relion31: dict, fault: tuple):
    relion31["particles"][fault[0]][2] = fault[1]
    with pytest.raises(InputError, match=rf"particles\.star {BAD_VALUES[fault]}"):
        read_particles_star(write_star(relion31))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("rlnImageDimensionality", 3, "subtomograms.*give single particles, 2-D"),
        ("rlnCtfDataAreCtfPremultiplied", 1, "premultiplied.*extract them again"),
        ("rlnImagePixelSize", 0.0, "rlnImagePixelSize is 0: give a positive number"),
    ],
)
def test_unusable_optics(
    write_star: Callable, relion31: dict, column: str, value: float, message: str
):
    relion31["optics"][column] = [value]
    with pytest.raises(InputError, match=rf"particles\.star.*{message}"):
        read_particles_star(write_star(relion31))


BAD_FILES = {
    "no data_ block: give": "hello\n",
    "no column rlnImageName in any block: give": "data_x\nloop_\n_rlnVoltage #1\n300\n",
    "lists no particles: give": "data_particles\n\nloop_\n_rlnImageName #1\n_rlnAngleRot #2\n\n",
    "several blocks .data_a, data_b.: name": (
        "data_a\nloop_\n_rlnImageName #1\n1@x\n\ndata_b\nloop_\n_rlnImageName #1\n1@x\n"
    ),
    "cannot be read as a STAR file.*check that every row": (
        "data_particles\nloop_\n_rlnImageName #1\n_rlnVoltage #2\n1@x 300 7\n2@x 300 8\n"
    ),
}


@pytest.mark.parametrize("message", BAD_FILES)
def test_files_that_are_no_particle_lists(tmp_path: Path, message: str):
    (tmp_path / "bad.star").write_text(BAD_FILES[message])
    with pytest.raises(InputError, match=rf"bad\.star.*{message}"):
        read_particles_star(tmp_path / "bad.star")


def test_a_row_that_is_cut_off_is_named(write_star: Callable, relion31: dict):
    path = write_star(relion31)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(InputError, match="row 4"):
        read_particles_star(path)


def test_missing_and_binary_files(tmp_path: Path):
    with pytest.raises(InputError, match=r"no\.star does not exist: check the path"):
        read_particles_star(tmp_path / "no.star")
    (tmp_path / "bin.star").write_bytes(bytes(range(256)) * 10)
    with pytest.raises(InputError, match=r"bin\.star cannot be read as a STAR file"):
        read_particles_star(tmp_path / "bin.star")


RELION_FILES = {
    "relion31.star": (5, 2.806, 256),
    "relion31.v2.star": (5, 2.806, 256),
    "relion5.star": (17, 0.89, 448),
    "sample_particles_relion30.star": (17, 1.338, None),
    "sample_particles_relion31.star": (17, 1.4, None),
}


@pytest.mark.parametrize("name", RELION_FILES)
def test_files_of_relion(shared_data: Path, name: str):
    found = read_particles_star(shared_data / "formats" / name)
    n, pixel_size, box = RELION_FILES[name]
    assert (len(found), found.box) == (n, box)
    assert found.pixel_size_angstrom == pytest.approx(pixel_size, rel=1e-6)
    identity = found.rotations @ found.rotations.transpose(0, 2, 1)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), (n, 3, 3)), atol=1e-12)


def test_versions_30_and_31_of_one_data_set_agree(shared_data: Path):
    """All but particle 15, which the two files give other poses; nine are at 200 kV."""
    old = read_particles_star(shared_data / "formats" / "sample_particles_relion30.star")
    new = read_particles_star(shared_data / "formats" / "sample_particles_relion31.star")
    np.testing.assert_array_equal(old.stack_indices, new.stack_indices)
    np.testing.assert_array_equal(old.ctf.defocus_u_angstrom, new.ctf.defocus_u_angstrom)
    np.testing.assert_array_equal(old.ctf.voltage_kv, new.ctf.voltage_kv)
    assert np.flatnonzero(new.ctf.voltage_kv == 200.0).tolist() == list(range(8, 17))
    shared = np.arange(len(old)) != 14
    np.testing.assert_array_equal(old.rotations[shared], new.rotations[shared])


def test_unusable_files_of_other_programs(shared_data: Path):
    with pytest.raises(InputError, match=r"1\.24 .optics group 5. but 1\.25"):
        read_particles_star(shared_data / "formats" / "relion31.6opticsgroups.star")
    with pytest.raises(InputError, match="no column rlnAmplitudeContrast"):
        read_particles_star(
            shared_data / "formats" / "FinalRefinement-OriginalParticles-PfCRT.star"
        )


def project(volume: np.ndarray, rotation: np.ndarray, shift_px: np.ndarray) -> np.ndarray:
    """Sum over z of V(R^-1 r'), moved by +shift: linear interpolation, origin n // 2."""
    n = volume.shape[0]
    z, y, x = np.meshgrid(*[np.arange(n) - n // 2] * 3, indexing="ij")
    points = np.stack([x - shift_px[0], y - shift_px[1], z], axis=-1).reshape(-1, 3)
    molecule = points @ rotation  # R^T r' for each row r'
    values = map_coordinates(volume, molecule[:, ::-1].T + n // 2, order=1, mode="constant")
    return values.reshape(n, n, n).sum(axis=0)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_euler_angles_are_those_of_relions_projections(shared_data: Path):
    """Measured 0.9991 to 0.9993; the transposed matrices stay below 0.9."""
    folder = shared_data / "formats"
    volume = read_volume(folder / "clean70SRibosome_vol_65p.mrc").data
    found = read_particles_star(
        folder / "rln_proj_65.star", pixel_size_angstrom=1.0, allow_missing=("ctf",)
    )
    images = open_stack(folder / "rln_proj_65.mrcs")
    centre_offset = np.array([1.0, 1.0])  # this pair of files is known to differ by it
    for image, rotation in zip(images, found.rotations, strict=True):
        assert correlation(project(volume, rotation, centre_offset), image) > 0.999
        assert correlation(project(volume, rotation.T, centre_offset), image) < 0.95


def test_origins_move_relions_projections_to_the_centre(shared_data: Path):
    folder = shared_data / "formats"
    volume = read_volume(folder / "clean70SRibosome_vol_65p.mrc").data[:64, :64, :64]
    for name in ("rln_proj_64_centered", "rln_proj_64_shifted"):
        found = read_particles_star(folder / f"{name}.star", allow_missing=("ctf",))
        images = open_stack(folder / f"{name}.mrcs")
        for row, image in enumerate(images):
            simulated = project(volume, found.rotations[row], found.shifts_angstrom[row])
            assert correlation(simulated, image) > 0.98
    centred = open_stack(folder / "rln_proj_64_centered.mrcs")
    for row, image in enumerate(images):
        dx, dy = np.rint(found.shifts_angstrom[row]).astype(int)
        moved = np.roll(centred[row], (dy, dx), axis=(0, 1))
        assert correlation(moved[16:48, 16:48], image[16:48, 16:48]) > 0.99
