"""MRC volumes and image stacks, by mrcfile.

Modes 0 (int8), 1 (int16), 2 (float32), 6 (uint16) and 12 (float16) are read, of either byte
order; data are memory-mapped. Headers in the wild lack the `MAP` stamp, give voxel size 0 or
call an image stack a volume: all of these are accepted, and only a file whose data cannot be
found is refused.
"""

import math
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
from mrcfile.utils import data_dtype_from_header
from numpy.typing import DTypeLike

from hypermol.io.atomic import replacing
from hypermol.io.errors import InputError

READABLE_MODES = (0, 1, 2, 6, 12)
WRITABLE_DTYPES = ("int8", "int16", "float32", "uint16", "float16")
_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2"}
_STAMP = slice(208, 211)
_VOXEL_TOLERANCE = 1e-3
# mrcfile's own label holds the time, and the same input would not give the same file
_LABEL = b"Written by hypermol"


@dataclass(frozen=True, eq=False)
class Volume:
    """A density map.

    Attributes:
        data: float32 [z, y, x].
        voxel_size_angstrom: side of a voxel; None where the header says 0.
        origin: (x, y, z) of voxel 0 in Angstrom as the header gives it.
    """

    data: np.ndarray
    voxel_size_angstrom: float | None
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class MrcHeader:
    """What an MRC header says about the data.

    Attributes:
        shape: (sections, rows, columns).
        voxel_size_angstrom: (x, y, z); zeros where the header does not say.
        axes: the axis (1 = x, 2 = y, 3 = z) of (sections, rows, columns).
        origin: (x, y, z) in Angstrom.
    """

    shape: tuple[int, int, int]
    voxel_size_angstrom: tuple[float, float, float]
    axes: tuple[int, int, int]
    origin: tuple[float, float, float]


def read_header(path: str | Path) -> MrcHeader:
    """Read and check the header of an MRC file.

    Raises:
        InputError: the file is missing, compressed, not MRC, of a mode that holds no real
            images, or shorter than its header says.
    """
    return _open(Path(path))[0]


def read_volume(path: str | Path) -> Volume:
    """Read a map of any shape, its axes brought to [z, y, x].

    Raises:
        InputError: as `read_header`, or the voxels are not cubes.
    """
    header, stored = _open(Path(path))
    order = tuple(header.axes.index(axis) for axis in (3, 2, 1))
    sizes = header.voxel_size_angstrom
    if max(sizes) - min(sizes) > _VOXEL_TOLERANCE * max(sizes) and min(sizes) > 0:
        raise InputError(
            f"{path} has voxels of {sizes[0]:g} x {sizes[1]:g} x {sizes[2]:g} Angstrom: resample "
            "it to cubic voxels or correct the cell in its header"
        )
    size = float(sizes[0]) if min(sizes) > 0 else None
    data = np.ascontiguousarray(np.transpose(stored, order), dtype=np.float32)
    return Volume(data, size, header.origin)


def open_stack(path: str | Path) -> np.ndarray:
    """Memory-map a stack read-only as [n, y, x] in the file's own type.

    A file with a single image gives n = 1. The file is closed with the array.

    Raises:
        InputError: as `read_header`.
    """
    return _open(Path(path))[1]


def write_volume(
    path: str | Path,
    data: np.ndarray,
    voxel_size_angstrom: float,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> None:
    """Write a map [z, y, x] as float32 (mode 2), a volume in space group 1 with statistics."""
    array = np.asarray(data, dtype=np.float32)
    if array.ndim != 3:
        raise ValueError(f"a volume has 3 axes, not {array.ndim}")
    with replacing(path) as partial, mrcfile.new(partial, array, overwrite=True) as file:
        file.voxel_size = voxel_size_angstrom
        file.header.origin = origin
        file.header.label[0] = _LABEL


def write_stack(
    path: str | Path,
    images: Iterable[np.ndarray],
    pixel_size_angstrom: float,
    dtype: DTypeLike = "float32",
) -> None:
    """Write images as an image stack (space group 0), piece by piece.

    The file takes its name when it is whole; a failure leaves nothing.

    Args:
        path: of the stack.
        images: [n, y, x], or anything that gives images [y, x] or pieces [m, y, x] in turn.
        pixel_size_angstrom: of the images.
        dtype: of the stack, one of `WRITABLE_DTYPES`.

    Raises:
        ValueError: there are no images, their shapes differ, or a value is too large for the type.
    """
    kind = np.dtype(dtype)
    if kind.name not in WRITABLE_DTYPES:
        raise ValueError(f"dtype {kind.name} is none of {', '.join(WRITABLE_DTYPES)}")
    with replacing(path) as partial:
        _write_pieces(partial, _pieces(images, kind), pixel_size_angstrom)


def _write_pieces(path: Path, pieces: Iterator[np.ndarray], pixel_size_angstrom: float) -> None:
    """mrcfile writes the header and the first piece; the others follow by plain writes.

    A memory map would have to know their number, and kills the process where the disk is full.
    """
    first = next(pieces, None)
    if first is None:
        raise ValueError("a stack needs at least one image")
    with mrcfile.new(path, first, overwrite=True) as file:
        file.set_image_stack()
        file.voxel_size = pixel_size_angstrom
        file.header.label[0] = _LABEL
        header = file.header.copy()
    statistics = _Statistics()
    statistics.add(first)
    with open(path, "r+b") as file:
        file.seek(0, os.SEEK_END)
        for piece in pieces:
            if piece.shape[1:] != first.shape[1:]:
                raise ValueError(f"images of {piece.shape[1:]} in a stack of {first.shape[1:]}")
            file.write(piece.tobytes())
            header.nz += len(piece)
            statistics.add(piece)
        statistics.store(header)
        file.seek(0)
        file.write(header.tobytes())


def _pieces(images: Iterable[np.ndarray], dtype: np.dtype) -> Iterator[np.ndarray]:
    """Pieces [m, y, x] of at least one image, in the stack's type."""
    for piece in images:
        array = np.asarray(piece)
        array = array[None] if array.ndim == 2 else array
        if array.ndim != 3:
            raise ValueError(f"images have 3 axes [n, y, x], not {array.ndim}")
        if len(array):
            yield _cast(array, dtype)


class _Statistics:
    """Minimum, maximum, mean and standard deviation of values that come in pieces."""

    def __init__(self) -> None:
        self.count = 0
        self.minimum, self.maximum = math.inf, -math.inf
        self.total, self.total_squares = 0.0, 0.0

    def add(self, array: np.ndarray) -> None:
        values = array.astype(np.float64)
        self.count += values.size
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))
        self.total += float(values.sum())
        self.total_squares += float(np.vdot(values, values))

    def store(self, header: np.ndarray) -> None:
        mean = self.total / self.count
        header["dmin"], header["dmax"], header["dmean"] = self.minimum, self.maximum, mean
        header["rms"] = math.sqrt(max(self.total_squares / self.count - mean**2, 0.0))


def _cast(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        stored = array.astype(dtype)
    if dtype.kind == "f":
        lost = bool(np.any(np.isinf(stored) & np.isfinite(array)))
    else:
        limits = np.iinfo(dtype)
        lost = not (array.min() >= limits.min and array.max() <= limits.max)  # NaN is lost too
    if lost:
        raise ValueError(f"values do not fit {dtype.name}: use float32")
    return stored


def _open(path: Path) -> tuple[MrcHeader, np.ndarray]:
    """What the header says, and the data [sections, rows, columns], mapped."""
    if not path.is_file():
        raise InputError(f"{path} does not exist: check the path")
    with open(path, "rb") as file:
        start = file.read(_STAMP.stop)
    if start[:2] in _COMPRESSED and start[_STAMP] != b"MAP":
        raise InputError(f"{path} is compressed: decompress it with {_COMPRESSED[start[:2]]} first")
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            mrcfile.mmap(path, mode="r", permissive=True) as file,
        ):
            raw, data = file.header, file.data
    except (ValueError, OSError, ZeroDivisionError) as error:
        raise InputError(
            f"{path} cannot be read as MRC ({error}): check that it is an MRC file and was "
            "copied whole"
        ) from error
    shape = (int(raw.nz), int(raw.ny), int(raw.nx))
    if int(raw.mode) not in READABLE_MODES:
        known = ", ".join(str(m) for m in READABLE_MODES)
        raise InputError(
            f"{path} has MRC mode {int(raw.mode)}: convert it to one of the modes {known}"
        )
    if min(shape) < 1 or (data is not None and data.size != math.prod(shape)):
        raise InputError(
            f"{path} is not a readable MRC file (its header gives {shape[2]} x {shape[1]} x "
            f"{shape[0]} voxels, {raw.mz} sections to a volume): write it again"
        )
    if data is None:
        raise InputError(_why_unmapped(path, raw, shape))
    axes = (int(raw.maps), int(raw.mapr), int(raw.mapc))
    voxel = _voxel_size(raw)
    header = MrcHeader(
        shape=shape,
        voxel_size_angstrom=voxel,
        axes=axes if sorted(axes) == [1, 2, 3] else (3, 2, 1),
        origin=_origin(raw, voxel),
    )
    return header, data.reshape(shape)


def _why_unmapped(path: Path, raw: np.recarray, shape: tuple[int, int, int]) -> str:
    """Why mrcfile could not map the data of a file whose header makes sense."""
    section_bytes = shape[1] * shape[2] * data_dtype_from_header(raw).itemsize
    offset = raw.nbytes + int(raw.nsymbt)
    expected, actual = offset + shape[0] * section_bytes, path.stat().st_size
    if actual >= expected:
        return f"{path} cannot be memory-mapped: copy it to a local disk"
    whole = max(actual - offset, 0) // section_bytes
    return (
        f"{path} is cut off: it has {actual} of {expected} bytes and {whole} of {shape[0]} "
        "sections: copy or write it again"
    )


def _voxel_size(raw: np.recarray) -> tuple[float, float, float]:
    cell = [float(raw.cella[axis]) for axis in "xyz"]
    grid = [int(raw.mx), int(raw.my), int(raw.mz)]
    sizes = [
        c / g if g > 0 and c > 0 and math.isfinite(c) else 0.0
        for c, g in zip(cell, grid, strict=True)
    ]
    return sizes[0], sizes[1], sizes[2]


def _origin(raw: np.recarray, voxel: tuple[float, float, float]) -> tuple[float, float, float]:
    origin = [float(raw.origin[axis]) for axis in "xyz"]
    if not any(origin):
        starts = (int(raw.nxstart), int(raw.nystart), int(raw.nzstart))
        origin = [start * size for start, size in zip(starts, voxel, strict=True)]
    return origin[0], origin[1], origin[2]
