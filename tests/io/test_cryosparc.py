"""cryoSPARC files: expected CTFs and poses of a real job, and every fault on small files."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.io.cryosparc import read_particles_cs
from hypermol.io.errors import InputError
from hypermol.io.star import read_particles_star, write_particles_star

FIELDS = [
    ("uid", "u8"),
    ("blob/path", "S40"),
    ("blob/idx", "u4"),
    ("blob/shape", "u4", (2,)),
    ("blob/psize_A", "f4"),
    ("blob/sign", "f4"),
    ("ctf/exp_group_id", "u4"),
    ("ctf/accel_kv", "f4"),
    ("ctf/cs_mm", "f4"),
    ("ctf/amp_contrast", "f4"),
    ("ctf/df1_A", "f4"),
    ("ctf/df2_A", "f4"),
    ("ctf/df_angle_rad", "f4"),
    ("ctf/phase_shift_rad", "f4"),
    ("ctf/bfactor", "f4"),
    ("ctf/scale", "f4"),
    ("alignments3D/split", "u4"),
    ("alignments3D/shift", "f4", (2,)),
    ("alignments3D/pose", "f4", (3,)),
    ("alignments3D/psize_A", "f4"),
]


def particles(n: int = 4) -> np.ndarray:
    rng = np.random.default_rng(0)
    array = np.zeros(n, dtype=FIELDS)
    array["uid"] = rng.integers(1, 2**63, n)
    array["blob/path"] = b">J1/stack.mrc"
    array["blob/idx"] = np.arange(n)
    array["blob/shape"] = 8
    array["blob/psize_A"] = 1.5
    array["blob/sign"] = -1
    array["ctf/exp_group_id"] = 23
    array["ctf/accel_kv"] = 300
    array["ctf/cs_mm"] = 2.7
    array["ctf/amp_contrast"] = 0.1
    array["ctf/df1_A"] = rng.uniform(1e4, 2e4, n)
    array["ctf/df2_A"] = rng.uniform(1e4, 2e4, n)
    array["ctf/df_angle_rad"] = np.pi / 6
    array["ctf/phase_shift_rad"] = np.pi / 2
    array["ctf/bfactor"] = 20
    array["ctf/scale"] = 0.5
    array["alignments3D/split"] = np.arange(n) % 2
    array["alignments3D/shift"] = rng.normal(size=(n, 2))
    array["alignments3D/pose"] = rng.normal(size=(n, 3))
    array["alignments3D/psize_A"] = 3.0
    return array


def save(path: Path, array: np.ndarray) -> Path:
    with open(path, "wb") as file:
        np.save(file, array)
    return path


def without(array: np.ndarray, *names: str) -> np.ndarray:
    kept = [name for name in array.dtype.names if name not in names]
    out = np.zeros(len(array), dtype=[f for f in FIELDS if f[0] in kept])
    for name in kept:
        out[name] = array[name]
    return out


def test_all_fields(tmp_path: Path):
    array = particles()
    found = read_particles_cs(save(tmp_path / "a.cs", array))
    assert (found.pixel_size_angstrom, found.box) == (1.5, 8)
    assert found.stack_paths[0] == str(tmp_path / "J1" / "stack.mrc")
    np.testing.assert_array_equal(found.stack_indices, np.arange(4))
    expected = Rotation.from_rotvec(array["alignments3D/pose"]).as_matrix().transpose(0, 2, 1)
    np.testing.assert_allclose(found.rotations, expected, atol=1e-12)
    np.testing.assert_allclose(found.shifts_angstrom, -3.0 * array["alignments3D/shift"])
    np.testing.assert_allclose(found.ctf.defocus_angle_deg, 30.0, rtol=1e-6)
    np.testing.assert_allclose(found.ctf.phase_shift_deg, 90.0, rtol=1e-6)
    np.testing.assert_array_equal(found.ctf.b_factor_angstrom2, [20.0] * 4)
    np.testing.assert_array_equal(found.ctf.scale, [0.5] * 4)
    np.testing.assert_array_equal(found.contrast_sign, -np.ones(4))
    np.testing.assert_array_equal(found.half_set, [1, 2, 1, 2])
    np.testing.assert_array_equal(found.optics_group, [23] * 4)


def test_expected_ctf_and_poses_of_a_real_job(shared_data: Path):
    """Poses within 5e-7 of the expected ones, which pins the transpose of the rotation."""
    folder = shared_data / "formats"
    found = read_particles_cs(folder / "cryosparc_P12_J24_001_particles.cs")
    rotations, origins = pickle.loads((folder / "pose.cs.pkl").read_bytes())
    np.testing.assert_allclose(found.rotations, rotations, atol=1e-6)
    box_angstrom = found.box * found.pixel_size_angstrom
    np.testing.assert_allclose(-found.shifts_angstrom / box_angstrom, origins, atol=1e-8)
    expected = pickle.loads((folder / "ctf2.pkl").read_bytes())
    ctf = found.ctf
    columns = [
        np.full(len(found), found.box),
        np.full(len(found), found.pixel_size_angstrom),
        ctf.defocus_u_angstrom,
        ctf.defocus_v_angstrom,
        ctf.defocus_angle_deg,
        ctf.voltage_kv,
        ctf.spherical_aberration_mm,
        ctf.amplitude_contrast,
        ctf.phase_shift_deg,
    ]
    np.testing.assert_allclose(np.stack(columns, axis=-1), expected, rtol=1e-6)


def test_the_same_particles_as_a_star_file(shared_data: Path):
    folder = shared_data / "formats"
    cs = read_particles_cs(folder / "empiar_10076_7.cs", allow_missing=("poses",))
    star = read_particles_star(folder / "empiar_10076_7.star", allow_missing=("poses",))
    assert cs.pixel_size_angstrom == pytest.approx(star.pixel_size_angstrom, rel=1e-6)
    np.testing.assert_array_equal(cs.stack_paths, star.stack_paths)
    np.testing.assert_array_equal(cs.stack_indices, star.stack_indices)
    np.testing.assert_array_equal(cs.contrast_sign, -star.contrast_sign)
    for name in vars(cs.ctf):
        np.testing.assert_allclose(
            getattr(cs.ctf, name), getattr(star.ctf, name), rtol=1e-6, err_msg=name
        )


def test_written_as_star(tmp_path: Path):
    first = read_particles_cs(save(tmp_path / "a.cs", particles()))
    write_particles_star(tmp_path / "out.star", first.take(np.array([2, 0])))
    again = read_particles_star(tmp_path / "out.star")
    np.testing.assert_allclose(again.rotations, first.rotations[[2, 0]], atol=1e-7)
    np.testing.assert_allclose(again.shifts_angstrom, first.shifts_angstrom[[2, 0]], atol=1e-6)
    np.testing.assert_allclose(again.ctf.phase_shift_deg, [-90.0, -90.0], atol=1e-4)
    assert again.contrast_sign.tolist() == [1.0, 1.0]
    uids = again.table["particles"]["cryosparcUid"].tolist()
    assert uids == [str(uid) for uid in particles()["uid"][[2, 0]]]


def test_passthrough_is_matched_by_uid(tmp_path: Path):
    array = particles()
    ctf_fields = [name for name in array.dtype.names if name.startswith("ctf/")]
    main = save(tmp_path / "a.cs", without(array, *ctf_fields))
    with pytest.raises(InputError, match=r"a\.cs has no field ctf/df1_A: give.*passthrough"):
        read_particles_cs(main)
    other = save(tmp_path / "pass.cs", array[::-1][["uid", *ctf_fields]])
    found = read_particles_cs(main, passthrough=other)
    np.testing.assert_allclose(found.ctf.defocus_u_angstrom, array["ctf/df1_A"])
    short = save(tmp_path / "short.cs", array[1:])
    with pytest.raises(InputError, match=r"a\.cs row 1: its uid is not in .*short\.cs.*same job"):
        read_particles_cs(main, passthrough=short)


@pytest.mark.parametrize(
    "name", ["blob/path", "blob/idx", "alignments3D/pose", "alignments3D/shift", "ctf/accel_kv"]
)
def test_missing_fields(tmp_path: Path, name: str):
    path = save(tmp_path / "a.cs", without(particles(), name))
    with pytest.raises(InputError, match=rf"a\.cs has no field {name}: give"):
        read_particles_cs(path)


def test_defaults(tmp_path: Path):
    array = without(
        particles(),
        "blob/sign",
        "blob/shape",
        "ctf/df2_A",
        "ctf/bfactor",
        "ctf/phase_shift_rad",
        "alignments3D/split",
        "alignments3D/psize_A",
    )
    found = read_particles_cs(save(tmp_path / "a.cs", array))
    assert found.box is None
    np.testing.assert_array_equal(found.contrast_sign, np.ones(4))
    np.testing.assert_array_equal(found.half_set, np.zeros(4))
    np.testing.assert_array_equal(found.ctf.defocus_v_angstrom, found.ctf.defocus_u_angstrom)
    np.testing.assert_allclose(found.shifts_angstrom, -1.5 * array["alignments3D/shift"])


FAULTS = {
    ("blob/psize_A", 0.0): "row 1: blob/psize_A is missing or not positive: give --pixel-size",
    ("alignments3D/pose", np.nan): r"row 1: alignments3D/pose is not finite .4 such rows.*remove",
    ("ctf/df1_A", np.inf): "row 1: ctf/df1_A is not finite",
    ("blob/sign", 0.5): "row 1: blob/sign is 0.5: it must be",
    ("ctf/accel_kv", 3e5): "row 1: ctf/accel_kv, .*all rows.: it looks like volts.*300 kV",
    ("ctf/accel_kv", 0.0): "row 1: ctf/accel_kv, the voltage, is 0 kV",
    ("ctf/cs_mm", 2.7e7): "row 1: ctf/cs_mm, .*looks like Angstrom.*2.7 mm",
    ("ctf/amp_contrast", 10.0): "row 1: ctf/amp_contrast, .*percent.* 0.1",
    ("ctf/df1_A", 1.6): "row 1: ctf/df1_A, the defocus, is 1.6 .*micrometres.*16000 Angstrom",
    ("ctf/df2_A", 1.6e6): "row 1: ctf/df2_A, .*looks like pm",
    ("ctf/df_angle_rad", 45.0): "row 1: ctf/df_angle_rad, .*45 radians.*looks like degrees",
    ("ctf/phase_shift_rad", 90.0): "row 1: ctf/phase_shift_rad, .*looks like degrees",
    ("ctf/scale", -1.0): "row 1: ctf/scale, the scale of the CTF, is -1",
    ("alignments3D/pose", 60.0): "row 1: the length of alignments3D/pose, .*looks like degrees",
    ("alignments3D/psize_A", 1e3): "row 1: the unit of alignments3D/shift, .* is 1000 Angstrom",
    ("blob/psize_A", 150.0): "row 1: blob/psize_A, .*looks like pm.*1.5 Angstrom",
    ("alignments3D/split", 7): "row 1: alignments3D/split is 7: it must be 0 or 1",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_values(tmp_path: Path, fault: tuple):
    array = particles()
    array[fault[0]] = fault[1]
    with pytest.raises(InputError, match=rf"a\.cs {FAULTS[fault]}"):
        read_particles_cs(save(tmp_path / "a.cs", array))


def test_particles_that_differ_in_size(tmp_path: Path):
    array = particles()
    array["blob/psize_A"][2] = 2.0
    with pytest.raises(InputError, match=r"row 3: blob/psize_A is 2 but 1.5 in row 1: rescale"):
        read_particles_cs(save(tmp_path / "a.cs", array))
    array = particles()
    array["blob/shape"][1] = (8, 9)
    with pytest.raises(InputError, match=r"row 2: the image is 8 x 9 pixels.*square"):
        read_particles_cs(save(tmp_path / "a.cs", array))


def test_the_ctf_in_a_passthrough_file(tmp_path: Path):
    array = particles()
    ctf = [name for name, *_ in FIELDS if name.startswith("ctf/")]
    main = save(tmp_path / "a.cs", without(array, *ctf))
    with pytest.raises(InputError, match=r"a\.cs has no field ctf/.*: give .*--passthrough"):
        read_particles_cs(main)
    poses = [name for name, *_ in FIELDS if name.startswith(("blob", "alignments3D"))]
    other = save(tmp_path / "b.cs", without(array, *poses)[::-1])
    found = read_particles_cs(main, passthrough=other)
    np.testing.assert_array_equal(found.ctf.defocus_u_angstrom, array["ctf/df1_A"])
    unrelated = save(tmp_path / "c.cs", array[["uid", "ctf/cs_mm"]])
    found = read_particles_cs(main, passthrough=(unrelated, other))
    np.testing.assert_array_equal(found.ctf.defocus_u_angstrom, array["ctf/df1_A"])
    with pytest.raises(InputError, match=r"a\.cs and its passthrough has no field ctf/"):
        read_particles_cs(main, passthrough=unrelated)


def test_without_a_pixel_size_the_option_is_named(tmp_path: Path):
    array = without(particles(), "blob/psize_A", "alignments3D/psize_A")
    path = save(tmp_path / "a.cs", array)
    with pytest.raises(InputError, match=r"blob/psize_A is missing.*give --pixel-size"):
        read_particles_cs(path)
    found = read_particles_cs(path, pixel_size_angstrom=2.0)
    np.testing.assert_allclose(found.shifts_angstrom, -2.0 * array["alignments3D/shift"])


def test_a_new_pixel_size_stretches_the_shifts(tmp_path: Path):
    """The alignment's pixels (3 A) are two of the images' (1.5 A), whatever a pixel measures."""
    array = particles()
    path = save(tmp_path / "a.cs", array)
    found = read_particles_cs(path, pixel_size_angstrom=1.6)
    np.testing.assert_allclose(
        found.shifts_angstrom, -3.2 * array["alignments3D/shift"].astype(float)
    )


def extended(array: np.ndarray, **fields: object) -> np.ndarray:
    """The array with further fields, `__` standing for `/`."""
    dtype = array.dtype.descr + [
        (n.replace("__", "/"), np.asarray(v).dtype) for n, v in fields.items()
    ]
    out = np.zeros(len(array), dtype=dtype)
    for name in array.dtype.names:
        out[name] = array[name]
    for name, values in fields.items():
        out[name.replace("__", "/")] = values
    return out


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ctf__tilt_A": 0.1}, "beam tilt"),
        ({"ctf__trefoil_A": 2.0}, "trefoil"),
        ({"ctf__anisomag": 0.01}, "anisotropic magnification"),
        ({"alignments3D__alpha": [0.1, 1.0, 1.0, 5.0]}, "scales of the particles"),
        ({"filament__filament_uid": 1}, "helical segments"),
        ({"alignments3D__error": np.nan}, "not finite in alignments3D/error"),
    ],
)
def test_what_is_not_used_is_said(tmp_path: Path, fields: dict, said: str):
    array = particles()
    array["ctf/phase_shift_rad"] = 0
    assert read_particles_cs(save(tmp_path / "a.cs", array)).remarks == ()
    (remark,) = read_particles_cs(save(tmp_path / "a.cs", extended(array, **fields))).remarks
    assert said in remark


def test_other_kinds_are_named(tmp_path: Path):
    movies = extended(particles()[["uid"]], movie_blob__path=np.array([b"m.tif"] * 4))
    with pytest.raises(InputError, match=r"a\.cs lists movies .movie_blob/path.: give the part"):
        read_particles_cs(save(tmp_path / "a.cs", movies))
    array = without(particles(), "alignments3D/pose")
    classes = extended(array, alignments2D__pose=np.zeros(4, "f4"))
    with pytest.raises(InputError, match=r"its poses are alignments2D, of a classification: give"):
        read_particles_cs(save(tmp_path / "a.cs", classes))
    volumes = np.zeros(4, dtype=[("uid", "u8"), ("blob/path", "S9"), ("blob/shape", "u4", (3,))])
    with pytest.raises(InputError, match=r"blob/shape is .* not two numbers: give .* 2-D"):
        read_particles_cs(save(tmp_path / "a.cs", volumes))


def test_files_that_are_no_particles(tmp_path: Path):
    with pytest.raises(InputError, match=r"no\.cs does not exist: check"):
        read_particles_cs(tmp_path / "no.cs")
    (tmp_path / "text.cs").write_text("hello")
    with pytest.raises(InputError, match=r"text\.cs cannot be read.*export it again"):
        read_particles_cs(tmp_path / "text.cs")
    with pytest.raises(InputError, match=r"plain\.cs is not a table of particles: give"):
        read_particles_cs(save(tmp_path / "plain.cs", np.zeros(3)))
    with pytest.raises(InputError, match=r"empty\.cs lists no particles: give"):
        read_particles_cs(save(tmp_path / "empty.cs", particles(0)))
