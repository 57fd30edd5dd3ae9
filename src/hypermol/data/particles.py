"""A particle set: metadata in memory, images read from their stacks when asked for."""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hypermol.io.cryosparc import read_particles_cs
from hypermol.io.errors import InputError
from hypermol.io.metadata import CtfParameters, ParticleMetadata
from hypermol.io.mrc import MrcHeader, open_stack, read_header
from hypermol.io.star import read_particles_star

_CHECK_BLOCK = 512
_HASH_SAMPLES = 64
_HASH_SAMPLE_BYTES = 4096
_OPEN_STACKS = 1024
_PIXEL_SIZE_TOLERANCE = 0.01


def load_particles(
    path: str | Path,
    *,
    image_dir: str | Path | None = None,
    passthrough: str | Path | None = None,
    pixel_size_angstrom: float | None = None,
    allow_missing: Collection[str] = (),
    invert_contrast: bool = False,
) -> "ParticleSet":
    """Load the particles of a RELION .star or cryoSPARC .cs file; no image is read yet.

    Args:
        path: the particle file.
        image_dir: folder that the stacks are looked for in first.
        passthrough: for .cs, the job's passthrough file.
        pixel_size_angstrom: overrides the file.
        allow_missing: "poses", "ctf": parts that the file may lack.
        invert_contrast: multiply every image by -1 (particles that are dark on light ground).

    Raises:
        InputError: naming the file, the row or the column, and the remedy.
    """
    path = Path(path)
    if path.suffix == ".cs":
        metadata = read_particles_cs(
            path,
            image_dir,
            passthrough,
            pixel_size_angstrom=pixel_size_angstrom,
            allow_missing=allow_missing,
        )
    elif path.suffix == ".star":
        if passthrough is not None:
            raise InputError(f"{path} is a STAR file: passthrough goes with .cs files only")
        metadata = read_particles_star(
            path,
            image_dir,
            pixel_size_angstrom=pixel_size_angstrom,
            allow_missing=allow_missing,
        )
    else:
        raise InputError(
            f"{path} is neither .star nor .cs: give a RELION or cryoSPARC particle file"
        )
    if invert_contrast:
        metadata = replace(metadata, contrast_sign=-metadata.contrast_sign)
    return ParticleSet(metadata)


@dataclass(frozen=True, eq=False)
class ParticleSet:
    """N particles with lazily read images.

    Attributes:
        metadata: poses, CTFs and image places of the N particles.
    """

    metadata: ParticleMetadata
    _stacks: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    @property
    def n(self) -> int:
        """Number of particles."""
        return len(self.metadata)

    def __len__(self) -> int:
        return self.n

    @property
    def box(self) -> int:
        """Side of the images in pixels: of the particle file, else of the first stack."""
        if self.metadata.box is not None:
            return self.metadata.box
        self._refuse_empty()
        return self._header(0).shape[2]

    @property
    def pixel_size_angstrom(self) -> float:
        """Pixel size in Angstrom."""
        return self.metadata.pixel_size_angstrom

    @property
    def rotations(self) -> np.ndarray:
        """float64 [N, 3, 3], from molecule to microscope."""
        return self.metadata.rotations

    @property
    def shifts_angstrom(self) -> np.ndarray:
        """float64 [N, 2], (x, y) of the particle in its image."""
        return self.metadata.shifts_angstrom

    @property
    def ctf(self) -> CtfParameters:
        """CTF parameters of the N particles."""
        return self.metadata.ctf

    @property
    def half_set(self) -> np.ndarray:
        """int64 [N]: 1, 2, or 0 for none."""
        return self.metadata.half_set

    def select(self, indices: np.ndarray) -> "ParticleSet":
        """The particles `indices` (integers or a mask), in that order."""
        return ParticleSet(self.metadata.take(indices))

    def images(self, indices: np.ndarray | slice | None = None) -> np.ndarray:
        """Images of the particles `indices` (all by default), white on dark, in the file's units.

        Each stack is read once, in the order of the file. The contrast sign is applied and
        nothing else: no normalisation, no check of the values (see `check`).

        Returns:
            float32 [len(indices), box, box].

        Raises:
            InputError: a stack is missing or unreadable, too short, or of another box.
        """
        rows = np.arange(self.n) if indices is None else np.arange(self.n)[indices]
        box = self.box
        out = np.empty((len(rows), box, box), dtype=np.float32)
        for stack, places in self._by_stack(rows):
            data = self._open(stack, rows[places])
            wanted = self.metadata.stack_indices[rows[places]]
            out[places] = data[_as_slice(wanted)]
        sign = self.metadata.contrast_sign[rows]
        if np.any(sign != 1.0):
            out *= sign[:, None, None].astype(np.float32)
        return out

    def check(self, *, read_images: bool = True) -> list[str]:
        """Validate the whole set: stacks, box, places in the stacks and the images' values.

        Args:
            read_images: look at every pixel for values that are not finite and for images
                without contrast.

        Returns:
            Remarks: one sentence each about things that are odd but usable.

        Raises:
            InputError: on the first fault, naming file and row, with the remedy.
        """
        self._refuse_empty()
        self._check_pixel_size()
        remarks = list(self.metadata.remarks)
        sizes_differ = False
        for stack, rows in self._by_stack(np.arange(self.n)):
            self._open(stack, rows)
            remark = self._pixel_size_remark(stack, rows)
            if remark is not None and not sizes_differ:
                remarks.append(remark)
                sizes_differ = True
        if read_images:
            self._check_values()
        return remarks

    def data_hash(self) -> str:
        """SHA-256 (hex) of what was read.

        It covers the particle file's name and whole content, the rows selected, the contrast
        signs, and of each stack its name, size, first 1,024 bytes and 64 samples of 4 KiB spread
        evenly over the file. Folders and times do not enter, so that a copy has the same hash; a
        change of a few pixels in a large stack may go unseen.
        """
        digest = hashlib.sha256()
        source = self.metadata.source
        if source is not None:
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
        for values in (self.metadata.row_numbers, self.metadata.stack_indices):
            digest.update(values.astype("<i8").tobytes())
        digest.update(self.metadata.contrast_sign.astype("<f8").tobytes())
        stacks = dict.fromkeys(self.metadata.stack_paths.tolist())
        for stack in sorted(stacks, key=lambda name: (Path(name).name, name)):
            _hash_file(digest, Path(stack))
        return digest.hexdigest()

    def _refuse_empty(self) -> None:
        if self.n == 0:
            raise InputError(f"{self._source} selects no particles: widen the selection")

    @property
    def _source(self) -> str:
        return str(self.metadata.source or "the particle set")

    def _where(self, row: int) -> str:
        """Names a particle: the file and its row there."""
        return f"{self._source} row {self.metadata.row_numbers[row]}"

    def _by_stack(self, rows: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Each stack with the places in `rows` of its particles, ordered as in the stack."""
        if len(rows) == 0:
            return
        _, numbers = np.unique(self.metadata.stack_paths[rows], return_inverse=True)
        order = np.lexsort((self.metadata.stack_indices[rows], numbers))
        starts = np.flatnonzero(np.diff(numbers[order])) + 1
        for places in np.split(order, starts):
            yield str(self.metadata.stack_paths[rows[places[0]]]), places

    def _header(self, row: int) -> MrcHeader:
        stack = Path(self.metadata.stack_paths[row])
        if not stack.is_file():
            raise InputError(
                f"{self._where(row)}: its stack {stack} does not exist: correct rlnImageName or "
                "blob/path, or give the folder of the stacks as image_dir"
            )
        return read_header(stack)

    def _open(self, stack: str, rows: np.ndarray) -> np.ndarray:
        """The stack [n, y, x] after checks that it holds the images of `rows`."""
        if stack not in self._stacks:
            box = self.box
            _, height, width = self._header(int(rows[0])).shape
            if (height, width) != (box, box):
                square = "" if height == width else " and not square"
                raise InputError(
                    f"{self._where(int(rows[0]))}: the images of {stack} are {width} x {height} "
                    f"pixels{square} but the box is {box}: extract all particles with one box "
                    "or correct rlnImageSize"
                )
            if len(self._stacks) >= _OPEN_STACKS:
                self._stacks.clear()
            self._stacks[stack] = open_stack(stack)
        data = self._stacks[stack]
        beyond = np.flatnonzero(self.metadata.stack_indices[rows] >= len(data))
        if len(beyond):
            row = int(rows[beyond].min())
            raise InputError(
                f"{self._where(row)}: image {self.metadata.stack_indices[row] + 1} is beyond the "
                f"{len(data)} images of {stack}: give the stack that the file was written for"
            )
        return data

    def _check_pixel_size(self) -> None:
        size = self.pixel_size_angstrom
        if not (np.isfinite(size) and size > 0.0):
            raise InputError(
                f"{self._source}: the pixel size is {size:g} Angstrom: give a positive number as "
                "pixel_size_angstrom"
            )

    def _pixel_size_remark(self, stack: str, rows: np.ndarray) -> str | None:
        size = self._header(int(rows[0])).voxel_size_angstrom[0]
        if size in (0.0, 1.0):
            return None
        if abs(size - self.pixel_size_angstrom) <= _PIXEL_SIZE_TOLERANCE * size:
            return None
        return (
            f"{stack} says {size:g} Angstrom per pixel, the particle file "
            f"{self.pixel_size_angstrom:g}: the particle file's value is used"
        )

    def _check_values(self) -> None:
        for start in range(0, self.n, _CHECK_BLOCK):
            rows = np.arange(start, min(start + _CHECK_BLOCK, self.n))
            pixels = self.images(rows).reshape(len(rows), -1)
            low, high = pixels.min(axis=1), pixels.max(axis=1)
            faults = [
                (~(np.isfinite(low) & np.isfinite(high)), "has values that are not finite"),
                (low == high, "has the same value in every pixel"),
            ]
            for bad, fault in faults:
                if np.any(bad):
                    row = int(rows[np.argmax(bad)])
                    place = self.metadata.stack_indices[row] + 1
                    raise InputError(
                        f"{self._where(row)}: image {place} of {self.metadata.stack_paths[row]} "
                        f"{fault}: remove the row or extract the particle again"
                    )


def _as_slice(indices: np.ndarray) -> np.ndarray | slice:
    """Consecutive ascending indices as a slice (read without a copy), others as they are."""
    if len(indices) and np.array_equal(indices, np.arange(indices[0], indices[0] + len(indices))):
        return slice(int(indices[0]), int(indices[0]) + len(indices))
    return indices


def _hash_file(digest: "hashlib._Hash", path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} does not exist: give the folder of the stacks as image_dir")
    size = path.stat().st_size
    digest.update(f"{path.name}\0{size}\0".encode())
    with open(path, "rb") as file:
        digest.update(file.read(1024))
        last = max(size - _HASH_SAMPLE_BYTES, 0)
        for offset in np.linspace(0, last, _HASH_SAMPLES).astype(np.int64):
            file.seek(int(offset))
            digest.update(file.read(_HASH_SAMPLE_BYTES))
