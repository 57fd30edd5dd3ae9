"""Particle sets: reading images in any order, every fault of the data, exact projections."""

import json
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from hypermol.data import ParticleSet, ParticleSource, load_particles
from hypermol.io.errors import InputError
from hypermol.io.mrc import read_volume, write_stack

N, BOX = 4, 8


@pytest.fixture
def images(tmp_path: Path) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(N, BOX, BOX)).astype(np.float32)
    write_stack(tmp_path / "stack.mrcs", values, 1.5)
    return values


@pytest.fixture
def particles(write_star: Callable, relion31: dict, images: np.ndarray) -> ParticleSet:
    return load_particles(write_star(relion31))


def test_properties(particles: ParticleSet):
    assert (particles.n, len(particles)) == (N, N)
    assert (particles.box, particles.pixel_size_angstrom) == (BOX, 1.5)
    assert particles.rotations.shape == (N, 3, 3)
    assert particles.shifts_angstrom.shape == (N, 2)
    assert len(particles.ctf) == N
    assert particles.half_set.tolist() == [1, 2, 1, 2]
    assert particles.check() == []


@pytest.mark.parametrize(
    "indices", [[0, 1, 2, 3], [3, 0], [2, 2, 1], [], slice(1, 3), np.array([True, False] * 2), None]
)
def test_images_in_any_order(particles: ParticleSet, images: np.ndarray, indices: object):
    chosen = indices if not isinstance(indices, list) else np.array(indices, dtype=int)
    found = particles.images(chosen)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, images if indices is None else images[chosen])


def test_several_stacks(write_star: Callable, relion31: dict, images: np.ndarray, tmp_path: Path):
    write_stack(tmp_path / "b.mrcs", 10 * images.round(1), 1.5, "int16")
    relion31["particles"]["rlnImageName"] = ["2@b.mrcs", "4@stack.mrcs", "1@b.mrcs", "1@stack.mrcs"]
    found = load_particles(write_star(relion31)).images(np.arange(N))
    np.testing.assert_array_equal(found[[1, 3]], images[[3, 0]])
    stored = (10 * images.round(1)).astype(np.int16)
    np.testing.assert_array_equal(found[[0, 2]], stored[[1, 0]])


def test_select_keeps_rows(particles: ParticleSet, images: np.ndarray):
    chosen = particles.select(particles.half_set == 2).select(np.array([1, 0]))
    np.testing.assert_array_equal(chosen.images(), images[[3, 1]])
    np.testing.assert_array_equal(chosen.rotations, particles.rotations[[3, 1]])
    assert chosen.metadata.row_numbers.tolist() == [4, 2]
    assert chosen.metadata.table["particles"]["rlnDefocusU"].tolist() == ["18000.4", "16000.2"]


def test_box_comes_from_the_stack_if_the_file_has_none(
    write_star: Callable, relion31: dict, images: np.ndarray
):
    del relion31["optics"]["rlnImageSize"]
    particles = load_particles(write_star(relion31))
    assert particles.box == BOX
    assert particles.images(np.array([1])).shape == (1, BOX, BOX)


def test_contrast_is_inverted_on_request(particles: ParticleSet, images: np.ndarray):
    inverted = load_particles(particles.metadata.source, invert_contrast=True)
    np.testing.assert_array_equal(inverted.images(), -images)


def test_no_image_is_read_at_load(write_star: Callable, relion31: dict):
    assert load_particles(write_star(relion31)).n == N


def test_missing_stack(write_star: Callable, relion31: dict, images: np.ndarray):
    relion31["particles"]["rlnImageName"][2] = "3@gone.mrcs"
    particles = load_particles(write_star(relion31))
    message = r"particles\.star row 3: its stack .*gone\.mrcs does not exist: .*--image-dir"
    with pytest.raises(InputError, match=message):
        particles.check()
    with pytest.raises(InputError, match=message):
        particles.images(np.arange(N))


def test_image_beyond_the_stack(write_star: Callable, relion31: dict, images: np.ndarray):
    relion31["particles"]["rlnImageName"][1] = "000005@stack.mrcs"
    with pytest.raises(InputError, match=r"star row 2: image 5 is beyond the 4 images of .*give"):
        load_particles(write_star(relion31)).check()


def test_wrong_box(write_star: Callable, relion31: dict, images: np.ndarray):
    relion31["optics"]["rlnImageSize"] = [16]
    with pytest.raises(InputError, match=r"row 1: .* are 8 x 8 pixels but the box is 16: extract"):
        load_particles(write_star(relion31)).check()


def test_images_that_are_not_square(write_star: Callable, relion31: dict, tmp_path: Path):
    write_stack(tmp_path / "stack.mrcs", np.ones((N, BOX, BOX + 2)), 1.5)
    with pytest.raises(InputError, match=r"are 10 x 8 pixels and not square.*extract"):
        load_particles(write_star(relion31)).check()


def test_stack_cut_off(particles: ParticleSet, tmp_path: Path):
    path = tmp_path / "stack.mrcs"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"stack\.mrcs is cut off: .*3 of 4 sections"):
        particles.check()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(
    write_star: Callable, relion31: dict, images: np.ndarray, tmp_path: Path, value: float
):
    images[2, 3, 4] = value
    write_stack(tmp_path / "stack.mrcs", images, 1.5)
    particles = load_particles(write_star(relion31)).select(np.array([3, 2]))
    message = r"star row 3: image 3 of .*stack\.mrcs has values that are not finite: remove"
    with pytest.raises(InputError, match=message):
        particles.check()
    assert particles.check(read_images=False) == []


def test_constant_image(write_star: Callable, relion31: dict, images: np.ndarray, tmp_path: Path):
    images[1] = 0.25
    write_stack(tmp_path / "stack.mrcs", images, 1.5)
    with pytest.raises(InputError, match=r"row 2: image 2 of .* has the same value in every pixel"):
        load_particles(write_star(relion31)).check()


def test_a_file_without_a_number_holds_one_image(
    write_star: Callable, relion31: dict, images: np.ndarray, tmp_path: Path
):
    relion31["particles"]["rlnImageName"][2] = "stack.mrcs"
    particles = load_particles(write_star(relion31))
    message = r"row 3: .*stack\.mrcs holds 4 images and rlnImageName does not say which"
    for read in (particles.check, particles.images):
        with pytest.raises(InputError, match=message):
            read()
    write_stack(tmp_path / "one.mrc", images[:1], 1.5)
    relion31["particles"]["rlnImageName"][2] = "one.mrc"
    particles = load_particles(write_star(relion31))
    np.testing.assert_array_equal(particles.images(), images[[0, 1, 0, 3]])
    particles.check()


@pytest.mark.parametrize("form", ["{}.mrc", "1@{}.mrc"])
def test_cubes_are_no_images(write_star: Callable, relion31: dict, tmp_path: Path, form: str):
    for i in range(N):
        write_stack(tmp_path / f"{i}.mrc", np.random.default_rng(i).random((BOX,) * 3), 1.5)
    relion31["particles"]["rlnImageName"] = [form.format(i) for i in range(N)]
    with pytest.raises(InputError, match=r"row [12]: .*(is a cube|holds 8 images).*2-D"):
        load_particles(write_star(relion31)).check(read_images=False)


def test_shifts_outside_the_image(write_star: Callable, relion31: dict, images: np.ndarray):
    relion31["particles"]["rlnOriginYAngst"][1] = "-7.0"
    message = (
        r"row 2: the shift .origin. is 7 Angstrom, .* outside its image of 12 Angstrom .1 of 4"
    )
    with pytest.raises(InputError, match=message):
        load_particles(write_star(relion31)).check()


def test_rows_of_one_image_are_said(write_star: Callable, relion31: dict, images: np.ndarray):
    relion31["particles"]["rlnImageName"][3] = "2@stack.mrcs"
    (said,) = load_particles(write_star(relion31)).check()
    assert "row 4: image 2 of" in said and "in more than one row (1 such rows)" in said


def test_remarks_of_the_file_are_kept(write_star: Callable, relion31: dict, images: np.ndarray):
    relion31["optics"] |= {"rlnMagMat00": [1.05], "rlnMagMat11": [0.95]}
    (said,) = load_particles(write_star(relion31)).check()
    assert "anisotropic magnification" in said


def test_a_source_loads_and_survives_json(
    write_star: Callable, relion31: dict, images: np.ndarray, tmp_path: Path, monkeypatch
):
    write_star(relion31, "meta/particles.star")
    monkeypatch.chdir(tmp_path)
    source = ParticleSource(Path("meta/particles.star"), Path("."), (), 3.0)
    again = ParticleSource.from_json(json.loads(json.dumps(source.as_json())))
    monkeypatch.chdir("/")
    particles = again.load(invert_contrast=True)
    assert particles.pixel_size_angstrom == 3.0
    np.testing.assert_array_equal(particles.images(), -images)
    assert ParticleSource.from_json(again.as_json()) == again


def test_empty_selection(particles: ParticleSet):
    empty = particles.select(np.zeros(N, dtype=bool))
    assert empty.n == 0
    with pytest.raises(InputError, match=r"particles\.star selects no particles: widen"):
        empty.check()


def test_pixel_sizes_that_disagree_are_remarked(
    write_star: Callable, relion31: dict, images: np.ndarray, tmp_path: Path
):
    write_stack(tmp_path / "stack.mrcs", images, 1.8)
    (remark,) = load_particles(write_star(relion31)).check()
    assert "stack.mrcs says 1.8 Angstrom per pixel, the particle file 1.5" in remark
    write_stack(tmp_path / "stack.mrcs", images, 0.0)
    assert load_particles(write_star(relion31)).check() == []


def test_unknown_file_type(tmp_path: Path):
    with pytest.raises(InputError, match=r"a\.txt is neither \.star nor \.cs: give"):
        load_particles(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"a\.star is a STAR file: --passthrough"):
        load_particles(tmp_path / "a.star", passthrough=tmp_path / "b.cs")


def test_hash_follows_the_data_and_not_the_folder(
    particles: ParticleSet, images: np.ndarray, tmp_path: Path
):
    first = particles.data_hash()
    assert first == load_particles(particles.metadata.source).data_hash()
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("particles.star", "stack.mrcs"):
        shutil.copy(tmp_path / name, copy / name)
    assert load_particles(copy / "particles.star").data_hash() == first
    assert particles.select(np.array([0, 1])).data_hash() != first
    assert load_particles(particles.metadata.source, invert_contrast=True).data_hash() != first
    write_stack(tmp_path / "stack.mrcs", images + 1, 1.5)
    assert particles.data_hash() != first


def test_five_thousand_images_take_less_than_two_seconds(
    write_star: Callable, relion31: dict, tmp_path: Path
):
    n = 5000
    rng = np.random.default_rng(0)
    write_stack(tmp_path / "big.mrcs", rng.random((n, 64, 64)), 1.5, "float16")
    relion31["optics"]["rlnImageSize"] = [64]
    columns = {name: (values * n)[:n] for name, values in relion31["particles"].items()}
    columns["rlnImageName"] = [f"{i + 1}@big.mrcs" for i in rng.permutation(n)]
    path = write_star({"optics": relion31["optics"], "particles": columns})
    start = time.process_time()
    assert load_particles(path).images().shape == (n, 64, 64)
    assert time.process_time() - start < 2.0


def test_exact_projections_pin_the_rotation(shared_data: Path):
    """Image = sum over z of V at (row vector) R; measured error 5e-7 of the largest pixel."""
    folder = shared_data / "formats"
    volume = read_volume(folder / "toymodel_small_nocenter.mrc").data.astype(np.float64)
    rotations, _ = pickle.loads((folder / "toy_rot_zerotrans.pkl").read_bytes())
    particles = load_particles(
        folder / "toy_projections.star", pixel_size_angstrom=1.0, allow_missing=("poses",)
    )
    assert (particles.n, particles.box) == (1000, 30)
    n = volume.shape[0]
    z, y, x = np.meshgrid(*[np.arange(n) - n // 2] * 3, indexing="ij")
    microscope = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    rows = np.array([0, 10, 999])
    for rotation, image in zip(rotations[rows], particles.images(rows), strict=True):
        molecule = microscope @ rotation.astype(np.float64)
        values = map_coordinates(volume, molecule[:, ::-1].T + n // 2, order=1, mode="constant")
        simulated = values.reshape(n, n, n).sum(axis=0)
        np.testing.assert_allclose(simulated, image, atol=1e-5 * image.max())


def test_signs_of_one_data_set_as_star_and_cs(shared_data: Path):
    """The same seven particles: dark as RELION's file has them, white by blob/sign = -1."""
    folder = shared_data / "formats"
    star = load_particles(folder / "empiar_10076_7.star", allow_missing=("poses",))
    cs = load_particles(folder / "empiar_10076_7.cs", allow_missing=("poses",))
    np.testing.assert_array_equal(cs.images(), -star.images())
    y, x = np.mgrid[:320, :320] - 160
    inside = np.hypot(x, y) < 90
    mean = cs.images().mean(axis=0)
    assert mean[inside].mean() > mean[~inside].mean()
    assert star.check() == []


@pytest.mark.parametrize("name", ["adk", "igg1d"])
def test_data_sets_of_the_main_job(shared_data: Path, name: str):
    particles = load_particles(shared_data / name / "particles.star")
    assert particles.box == 64
    assert set(particles.half_set) == {1, 2}
    assert particles.check(read_images=False) == []
    truth = np.load(shared_data / name / "truth.npz")
    assert len(truth["t"]) == particles.n
