"""MRC files of every mode and byte order, written by mrcfile or byte by byte."""

import bz2
import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from hypermol.io.errors import InputError
from hypermol.io.mrc import open_stack, read_header, read_volume, write_stack, write_volume

MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}


def raw_mrc(path: Path, data: np.ndarray, mode: int, order: str = "<", **fields: object) -> Path:
    """Write an MRC file of [z, y, x] data byte by byte, in the given byte order."""
    header = np.zeros(256, dtype=order + "i4")
    header[:4] = (*data.shape[::-1], mode)
    header[7:10] = data.shape[::-1]
    header[16:19] = fields.get("axes", (1, 2, 3))
    header[23] = len(fields.get("extended", b""))
    floats = header.view(order + "f4")
    floats[10:13] = fields.get("cell", (0, 0, 0))
    content = bytearray(header.tobytes())
    content[208:212] = fields.get("stamp", b"MAP ")
    content[212:214] = b"\x44\x44" if order == "<" else b"\x11\x11"
    kind = np.dtype(order + MODES[mode])
    path.write_bytes(bytes(content) + fields.get("extended", b"") + data.astype(kind).tobytes())
    return path


def integers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, shape)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("mode", MODES)
def test_all_modes_and_byte_orders(tmp_path: Path, mode: int, order: str):
    data = integers(3, 4, 5)
    path = raw_mrc(tmp_path / "a.mrcs", data, mode, order, cell=(10.0, 8.0, 6.0))
    stack = open_stack(path)
    assert isinstance(stack, np.memmap)
    np.testing.assert_array_equal(stack, data)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, data)
    assert volume.data.dtype == np.float32
    assert volume.voxel_size_angstrom == 2.0


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32", "uint16", "float16"])
def test_stacks_by_mrcfile_are_read_and_ours_by_mrcfile(tmp_path: Path, dtype: str):
    images = integers(3, 6, 6).astype(dtype)
    with mrcfile.new(tmp_path / "theirs.mrcs") as file:
        file.set_data(images)
        file.set_image_stack()
    np.testing.assert_array_equal(open_stack(tmp_path / "theirs.mrcs"), images)
    write_stack(tmp_path / "ours.mrcs", images, 1.25, dtype)
    if dtype != "float16":  # mrcfile sums squares in the type itself, which overflows
        assert mrcfile.validate(tmp_path / "ours.mrcs")
    with mrcfile.open(tmp_path / "ours.mrcs") as file:
        assert file.is_image_stack()
        assert file.data.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(file.data, images)
        np.testing.assert_allclose(file.voxel_size.tolist(), 1.25)


def test_missing_stamp_extended_header_and_zero_voxel(tmp_path: Path):
    data = integers(2, 3, 4)
    path = raw_mrc(tmp_path / "a.mrc", data, 2, stamp=b"\0\0\0\0", extended=b"x" * 160)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, data)
    assert volume.voxel_size_angstrom is None


def test_single_image_is_a_stack_of_one(tmp_path: Path):
    with mrcfile.new(tmp_path / "one.mrc") as file:
        file.set_data(np.ones((5, 5), dtype=np.float32))
    assert open_stack(tmp_path / "one.mrc").shape == (1, 5, 5)


def test_axes_are_brought_to_z_y_x(tmp_path: Path):
    zyx = integers(2, 3, 4)
    stored = zyx.transpose(2, 0, 1)  # sections x, rows z, columns y
    path = raw_mrc(tmp_path / "a.mrc", stored, 2, axes=(2, 3, 1))
    np.testing.assert_array_equal(read_volume(path).data, zyx)


def test_written_volume_has_a_right_header(tmp_path: Path):
    data = np.random.default_rng(0).normal(size=(4, 6, 8))
    write_volume(tmp_path / "v.mrc", data, 1.7, origin=(1.0, -2.0, 3.5))
    assert mrcfile.validate(tmp_path / "v.mrc")
    with mrcfile.open(tmp_path / "v.mrc") as file:
        header = file.header
        assert (header.mode, header.ispg, header.mz) == (2, 1, 4)
        assert (header.mapc, header.mapr, header.maps) == (1, 2, 3)
        assert file.is_volume()
        np.testing.assert_allclose(header.cella.tolist(), (8 * 1.7, 6 * 1.7, 4 * 1.7), rtol=1e-6)
        found = (header.dmin, header.dmax, header.dmean, header.rms)
        np.testing.assert_allclose(
            found, (data.min(), data.max(), data.mean(), data.std()), rtol=1e-5
        )
    volume = read_volume(tmp_path / "v.mrc")
    np.testing.assert_array_equal(volume.data, data.astype(np.float32))
    assert volume.voxel_size_angstrom == pytest.approx(1.7)
    assert volume.origin == (1.0, -2.0, 3.5)
    assert [p.name for p in tmp_path.iterdir()] == ["v.mrc"]


def test_pieces_make_the_same_file_as_one_write(tmp_path: Path):
    images = np.random.default_rng(0).normal(size=(7, 4, 4))

    def pieces() -> Iterator[np.ndarray]:
        yield images[:3]
        yield images[3]
        yield images[3:3]
        assert not (tmp_path / "pieces.mrcs").exists()
        yield images[4:]

    write_stack(tmp_path / "whole.mrcs", images, 2.0)
    write_stack(tmp_path / "pieces.mrcs", pieces(), 2.0)
    assert (tmp_path / "pieces.mrcs").read_bytes() == (tmp_path / "whole.mrcs").read_bytes()
    np.testing.assert_array_equal(open_stack(tmp_path / "pieces.mrcs"), images.astype(np.float32))
    assert mrcfile.validate(tmp_path / "pieces.mrcs")


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([np.zeros((1, 4, 4)), np.zeros((1, 5, 5))], r"\(5, 5\) in a stack of \(4, 4\)"),
        ([np.zeros((2, 4, 4)), np.zeros(4)], "3 axes"),
        ([np.zeros((0, 4, 4))], "at least one image"),
    ],
)
def test_a_failed_write_leaves_nothing(tmp_path: Path, pieces: list[np.ndarray], message: str):
    with pytest.raises(ValueError, match=message):
        write_stack(tmp_path / "a.mrcs", pieces, 2.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("dtype", "value"), [("int8", 200.0), ("float16", 1e6), ("uint16", -1), ("int16", np.nan)]
)
def test_values_that_do_not_fit_are_refused(tmp_path: Path, dtype: str, value: float):
    with pytest.raises(ValueError, match=f"do not fit {dtype}"):
        write_stack(tmp_path / "a.mrcs", np.full((1, 2, 2), value), 1.0, dtype)


def cut_off(path: Path) -> None:
    raw_mrc(path, integers(4, 5, 5), 2)
    path.write_bytes(path.read_bytes()[: 1024 + 2 * 100 + 7])


def complex_mode(path: Path) -> None:
    with mrcfile.new(path) as file:
        file.set_data(np.zeros((2, 2, 2), dtype=np.complex64))


def oblong_voxels(path: Path) -> None:
    raw_mrc(path, integers(4, 4, 4), 2, cell=(4.0, 4.0, 8.0))


def volumes_that_do_not_fill_the_file(path: Path) -> None:
    with mrcfile.new(path, np.zeros((4, 3, 3), np.float32)) as file:
        file.header.ispg, file.header.mz = 401, 3


def no_sections_to_a_volume(path: Path) -> None:
    with mrcfile.new(path, np.zeros((4, 3, 3), np.float32)) as file:
        file.header.ispg, file.header.mz = 401, 0


def no_bytes_after_the_header(path: Path) -> None:
    raw_mrc(path, integers(4, 5, 5), 2)
    path.write_bytes(path.read_bytes()[:1024])


FAULTS = {
    "3 sections to a volume.*write it again": volumes_that_do_not_fill_the_file,
    "cannot be read as MRC": no_sections_to_a_volume,
    "cut off.*0 of 4.*copy or write it again": no_bytes_after_the_header,
    "decompress it with bunzip2": lambda path: path.write_bytes(bz2.compress(bytes(2000))),
    "cut off.*2 of 4.*copy or write it again": cut_off,
    "mode 4: convert": complex_mode,
    "does not exist: check": lambda path: None,
    "decompress it with gunzip": lambda path: path.write_bytes(gzip.compress(bytes(2000))),
    "shorter than|cannot be read": lambda path: path.write_bytes(b"MAP "),
    "is not a readable MRC|mode|cannot be read": lambda path: path.write_bytes(b"text " * 500),
    "1 x 1 x 2 Angstrom: resample": oblong_voxels,
}


@pytest.mark.parametrize("message", FAULTS)
def test_faults_name_the_file_and_the_remedy(tmp_path: Path, message: str):
    path = tmp_path / "bad.mrc"
    FAULTS[message](path)
    with pytest.raises(InputError, match=f"bad.mrc.*({message})"):
        read_volume(path)


def test_a_width_that_looks_like_a_compressed_file_is_read(tmp_path: Path):
    """23106 columns make the first bytes BZ."""
    data = integers(1, 2, 23106)
    path = raw_mrc(tmp_path / "wide.mrcs", data, 0)
    assert path.read_bytes()[:2] == b"BZ"
    np.testing.assert_array_equal(open_stack(path), data)


@pytest.mark.parametrize("volumes", [1, 2])
def test_volumes_in_one_file_are_its_sections_in_turn(tmp_path: Path, volumes: int):
    data = np.arange(volumes * 8, dtype=np.float32).reshape(volumes, 2, 2, 2)
    with mrcfile.new(tmp_path / "a.mrcs", data) as file:
        assert file.is_volume_stack()
    np.testing.assert_array_equal(open_stack(tmp_path / "a.mrcs"), data.reshape(-1, 2, 2))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts files by /proc")
@pytest.mark.filterwarnings("error")
def test_files_are_closed_with_their_arrays(tmp_path: Path):
    path = raw_mrc(tmp_path / "a.mrcs", integers(2, 3, 4), 2)
    before = len(os.listdir("/proc/self/fd"))
    stacks = [open_stack(path) for _ in range(5)]
    assert len(os.listdir("/proc/self/fd")) == before + len(stacks)
    read_header(path)
    read_volume(path)
    del stacks
    assert len(os.listdir("/proc/self/fd")) == before


def test_files_of_other_programs(shared_data: Path):
    shapes = {
        "formats/relion31.mrcs": (5, 256, 256),
        "formats/sample.mrcs": (17, 200, 200),
        "formats/empiar_10076_7.mrc": (7, 320, 320),
        "adk/particles.mrcs": (4000, 64, 64),
        "maps/betaGal.mrc": (100, 100, 100),
    }
    for name, shape in shapes.items():
        assert open_stack(shared_data / name).shape == shape
    volume = read_volume(shared_data / "maps" / "betaGal.mrc")
    assert volume.voxel_size_angstrom == pytest.approx(3.54)
    assert read_volume(shared_data / "formats/clean70SRibosome_vol_65p.mrc").data.shape == (65,) * 3
