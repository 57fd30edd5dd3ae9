"""MRC volumes and image stacks.

Modes 0 (int8), 1 (int16), 2 (float32), 6 (uint16) and 12 (float16) are read, of either byte
order; stacks are memory-mapped. Headers in the wild lack the `MAP` stamp, give voxel size 0 or
call an image stack a volume: all of these are accepted, and only a file whose data cannot be
found is refused.
"""

import math
import sys
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import mrcfile
import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from mrcfile.utils import data_dtype_from_header, machine_stamp_from_byte_order, mode_from_dtype
from numpy.typing import DTypeLike

from hypermol.io.atomic import replacing
from hypermol.io.errors import InputError

READABLE_MODES = (0, 1, 2, 6, 12)
WRITABLE_DTYPES = ("int8", "int16", "float32", "uint16", "float16")
_HEADER_BYTES = 1024
_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2"}
_VOXEL_TOLERANCE = 1e-3


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
        dtype: of the data, with its byte order.
        offset: of the data in the file, in bytes.
        voxel_size_angstrom: (x, y, z); zeros where the header does not say.
        axes: the axis (1 = x, 2 = y, 3 = z) of (sections, rows, columns).
        origin: (x, y, z) in Angstrom.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    offset: int
    voxel_size_angstrom: tuple[float, float, float]
    axes: tuple[int, int, int]
    origin: tuple[float, float, float]


def read_header(path: str | Path) -> MrcHeader:
    """Read and check the header of an MRC file.

    Raises:
        InputError: the file is missing, compressed, not MRC, of a mode that holds no real
            images, or shorter than its header says.
    """
    path = Path(path)
    raw = _read_raw_header(path)
    mode = int(raw.mode)
    if mode not in READABLE_MODES:
        known = ", ".join(str(m) for m in READABLE_MODES)
        raise InputError(f"{path} has MRC mode {mode}: convert it to one of the modes {known}")
    shape = (int(raw.nz), int(raw.ny), int(raw.nx))
    offset = _HEADER_BYTES + int(raw.nsymbt)
    if min(shape) < 1 or int(raw.nsymbt) < 0:
        raise InputError(
            f"{path} is not a readable MRC file (its header gives {shape[2]} x {shape[1]} x "
            f"{shape[0]} voxels): write it again"
        )
    dtype = data_dtype_from_header(raw)
    _check_length(path, shape, dtype.itemsize, offset)
    axes = (int(raw.maps), int(raw.mapr), int(raw.mapc))
    voxel = _voxel_size(raw)
    return MrcHeader(
        shape=shape,
        dtype=dtype,
        offset=offset,
        voxel_size_angstrom=voxel,
        axes=axes if sorted(axes) == [1, 2, 3] else (3, 2, 1),
        origin=_origin(raw, voxel),
    )


def read_volume(path: str | Path) -> Volume:
    """Read a map of any shape, its axes brought to [z, y, x].

    Raises:
        InputError: as `read_header`, or the voxels are not cubes.
    """
    path = Path(path)
    header = read_header(path)
    order = tuple(header.axes.index(axis) for axis in (3, 2, 1))
    data = np.transpose(_map_data(path, header), order)
    sizes = header.voxel_size_angstrom
    if max(sizes) - min(sizes) > _VOXEL_TOLERANCE * max(sizes) and min(sizes) > 0:
        raise InputError(
            f"{path} has voxels of {sizes[0]:g} x {sizes[1]:g} x {sizes[2]:g} Angstrom: resample "
            "it to cubic voxels or correct the cell in its header"
        )
    size = float(sizes[0]) if min(sizes) > 0 else None
    return Volume(np.ascontiguousarray(data, dtype=np.float32), size, header.origin)


def open_stack(path: str | Path) -> np.ndarray:
    """Memory-map a stack read-only as [n, y, x] in the file's own type.

    A file with a single image gives n = 1.

    Raises:
        InputError: as `read_header`.
    """
    path = Path(path)
    return _map_data(path, read_header(path))


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
    header = _new_header(array.shape, array.dtype, voxel_size_angstrom)
    header["ispg"] = 1
    header["mz"] = array.shape[0]
    header["cella"]["z"] = array.shape[0] * voxel_size_angstrom
    for axis, value in zip("xyz", origin, strict=True):
        header["origin"][axis] = value
    statistics = _Statistics()
    statistics.add(array)
    statistics.store(header)
    with replacing(path) as partial, open(partial, "wb") as file:
        file.write(header.tobytes())
        file.write(np.ascontiguousarray(array).tobytes())


def write_stack(
    path: str | Path,
    images: np.ndarray,
    pixel_size_angstrom: float,
    dtype: DTypeLike = "float32",
) -> None:
    """Write images [n, y, x] as an image stack (space group 0)."""
    with StackWriter(path, pixel_size_angstrom, dtype) as writer:
        writer.append(images)


class StackWriter:
    """Writes an image stack piece by piece; the file takes its name when the block ends.

    Use it as a context manager. If the body fails, nothing is left.
    """

    def __init__(
        self, path: str | Path, pixel_size_angstrom: float, dtype: DTypeLike = "float32"
    ) -> None:
        self._path = Path(path)
        self._pixel_size = float(pixel_size_angstrom)
        self._dtype = np.dtype(dtype).newbyteorder("=")
        if self._dtype.name not in WRITABLE_DTYPES:
            raise ValueError(f"dtype {self._dtype.name} is none of {', '.join(WRITABLE_DTYPES)}")
        self._image_shape: tuple[int, int] | None = None
        self._n = 0
        self._statistics = _Statistics()
        self._open = ExitStack()

    def append(self, images: np.ndarray) -> None:
        """Add images [n, y, x], or one image [y, x], in the stack's type.

        Raises:
            ValueError: the shape differs from the earlier images', or a value is too large for
                the stack's type.
        """
        array = np.asarray(images)
        array = array[None] if array.ndim == 2 else array
        if array.ndim != 3:
            raise ValueError(f"images have 3 axes [n, y, x], not {array.ndim}")
        if self._image_shape is None:
            self._image_shape = (array.shape[1], array.shape[2])
        if array.shape[1:] != self._image_shape:
            raise ValueError(f"images of {array.shape[1:]} in a stack of {self._image_shape}")
        stored = _cast(array, self._dtype)
        self._file.write(np.ascontiguousarray(stored).tobytes())
        self._statistics.add(stored)
        self._n += len(stored)

    def __enter__(self) -> "StackWriter":
        with ExitStack() as opening:
            partial = opening.enter_context(replacing(self._path))
            self._file = opening.enter_context(open(partial, "wb"))
            self._file.write(bytes(_HEADER_BYTES))
            self._open = opening.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._open.callback(self._write_header)
        self._open.__exit__(kind, error, trace)

    def _write_header(self) -> None:
        shape = (self._n, *(self._image_shape or (0, 0)))
        header = _new_header(shape, self._dtype, self._pixel_size)
        self._statistics.store(header)
        self._file.seek(0)
        self._file.write(header.tobytes())


class _Statistics:
    """Minimum, maximum, mean and standard deviation of values that come in pieces."""

    def __init__(self) -> None:
        self.count = 0
        self.minimum, self.maximum = math.inf, -math.inf
        self.total, self.total_squares = 0.0, 0.0

    def add(self, array: np.ndarray) -> None:
        if array.size == 0:
            return
        values = array.astype(np.float64)
        self.count += values.size
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))
        self.total += float(values.sum())
        self.total_squares += float(np.vdot(values, values))

    def store(self, header: np.ndarray) -> None:
        if self.count == 0:
            return
        mean = self.total / self.count
        header["dmin"], header["dmax"], header["dmean"] = self.minimum, self.maximum, mean
        header["rms"] = math.sqrt(max(self.total_squares / self.count - mean**2, 0.0))


def _new_header(shape: tuple[int, ...], dtype: np.dtype, size_angstrom: float) -> np.ndarray:
    """Header of an image stack [n, y, x]; `write_volume` makes it a volume's."""
    header = np.zeros((), dtype=HEADER_DTYPE)
    header["nz"], header["ny"], header["nx"] = shape
    header["mz"], header["my"], header["mx"] = 1, shape[1], shape[2]
    header["mode"] = mode_from_dtype(dtype)
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["cella"]["x"] = shape[2] * size_angstrom
    header["cella"]["y"] = shape[1] * size_angstrom
    header["cella"]["z"] = size_angstrom
    for angle in ("alpha", "beta", "gamma"):
        header["cellb"][angle] = 90.0
    header["map"] = b"MAP "
    header["machst"] = machine_stamp_from_byte_order("<" if sys.byteorder == "little" else ">")
    header["nversion"] = 20141
    header["nlabl"] = 1
    header["label"][0] = b"Written by hypermol"
    return header


def _cast(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        stored = array.astype(dtype)
    if dtype.kind == "f":
        lost = bool(np.any(np.isinf(stored) & np.isfinite(array)))
    else:
        limits = np.iinfo(dtype)
        lost = array.size > 0 and (array.min() < limits.min or array.max() > limits.max)
    if lost:
        raise ValueError(f"values do not fit {dtype.name}: use float32")
    return stored


def _read_raw_header(path: Path) -> np.recarray:
    if not path.is_file():
        raise InputError(f"{path} does not exist: check the path")
    with open(path, "rb") as file:
        start = file.read(2)
    if start in _COMPRESSED:
        raise InputError(f"{path} is compressed: decompress it with {_COMPRESSED[start]} first")
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            mrcfile.open(path, mode="r", permissive=True, header_only=True) as file,
        ):
            header: np.recarray = file.header.copy()
    except (ValueError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as MRC ({error}): check that it is an MRC file and was "
            "copied whole"
        ) from error
    if header.shape != ():
        raise InputError(f"{path} is shorter than an MRC header: copy or write it again")
    return header


def _check_length(path: Path, shape: tuple[int, int, int], item_bytes: int, offset: int) -> None:
    expected = offset + math.prod(shape) * item_bytes
    actual = path.stat().st_size
    if actual < expected:
        whole = max(actual - offset, 0) // (shape[1] * shape[2] * item_bytes)
        raise InputError(
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


def _map_data(path: Path, header: MrcHeader) -> np.ndarray:
    return np.memmap(path, header.dtype, mode="r", offset=header.offset, shape=header.shape)
