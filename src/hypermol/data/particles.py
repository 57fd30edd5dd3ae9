"""A particle set: metadata in memory, images read from their stacks when asked for."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hypermol.data.data_hash import hash_of_data
from hypermol.data.image_statistics import ImageStatistics, join, measure, unusable
from hypermol.io.errors import InputError
from hypermol.io.metadata import CtfParameters, ParticleMetadata
from hypermol.io.mrc import MrcHeader, open_stack, read_header
from hypermol.io.ranges import refuse_shifts_out_of_the_box

#: Pixels that are read at a time to be measured.
_MEASURED_PIXELS = 1 << 22
_OPEN_STACKS = 1024
_PIXEL_SIZE_TOLERANCE = 0.01


@dataclass(frozen=True, eq=False)
class ParticleSet:
    """N particles with lazily read images.

    Attributes:
        metadata: poses, CTFs and images' whereabouts of the N particles.
        offset, factor: float64 [N]; images are (image - offset) * factor. None leaves them.
    """

    metadata: ParticleMetadata
    offset: np.ndarray | None = None
    factor: np.ndarray | None = None
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
        offset, factor = (
            None if values is None else values[indices] for values in (self.offset, self.factor)
        )
        return ParticleSet(self.metadata.take(indices), offset, factor)

    def rescaled(self, offset: np.ndarray, factor: np.ndarray) -> "ParticleSet":
        """The same particles with images (image - offset) * factor; both [N]."""
        if self.offset is not None and self.factor is not None:
            offset, factor = self.offset + offset / self.factor, self.factor * factor
        return ParticleSet(self.metadata, offset, factor)

    def without_poses(self) -> "ParticleSet":
        """The same particles, of whose rotations and shifts nothing is known: 1 and 0."""
        turned = np.broadcast_to(np.eye(3), (self.n, 3, 3))
        metadata = replace(self.metadata, rotations=turned, shifts_angstrom=np.zeros((self.n, 2)))
        return ParticleSet(metadata, self.offset, self.factor)

    def images(self, indices: np.ndarray | slice | None = None) -> np.ndarray:
        """Images of the particles `indices` (all by default), white on dark, in the file's units.

        Each stack is read once, in the order of the file. The contrast sign is applied, then
        offset and factor; the values are not checked (see `check` and `data.inspection`).

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
        if self.offset is not None and self.factor is not None:
            out -= self.offset[rows, None, None].astype(np.float32)
            out *= self.factor[rows, None, None].astype(np.float32)
        return out

    def close(self) -> None:
        """Let go of stacks that were opened, and of their pages; asked for again, they are opened
        again."""
        self._stacks.clear()

    def statistics(self) -> ImageStatistics:
        """Grey values of all images, read a chunk at a time."""
        block = max(_MEASURED_PIXELS // self.box**2, 1)
        return join(
            [
                measure(self.images(slice(start, min(start + block, self.n))))
                for start in range(0, self.n, block)
            ]
        )

    def image_numbers(self) -> np.ndarray:
        """Number int64 [N] of each row's image, from 0 in the order of first appearance."""
        _, stacks = np.unique(self.metadata.stack_paths, return_inverse=True)
        keys = np.stack([stacks, self.metadata.stack_indices], axis=-1)
        _, first, numbers = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        return rank[numbers.ravel()]

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
        cubes = 0
        for stack, rows in self._by_stack(np.arange(self.n)):
            shape = self._open(stack, rows).shape
            cubes += len(set(shape)) == 1 and not np.any(self.metadata.stack_indices[rows])
            if cubes > 1:
                raise InputError(
                    f"{self.where(int(rows[0]))}: {stack} is a cube of {shape[0]} pixels, as "
                    "others before it, and only image 1 of each is named: these look like 3-D "
                    "subtomograms; give single particles, 2-D images with one pose each"
                )
            remark = self._pixel_size_remark(stack, rows)
            if remark is not None and not sizes_differ:
                remarks.append(remark)
                sizes_differ = True
        refuse_shifts_out_of_the_box(self.metadata, self.box)
        remarks += self._repeated_images()
        if read_images:
            self._check_values()
        return remarks

    def data_hash(self) -> str:
        """SHA-256 (hex) of what was read.

        It covers the particle file's name and whole content, the rows selected, the contrast
        signs, offsets and factors, and of each stack its name, size, first 1,024 bytes and 64
        samples of 4 KiB spread evenly over the file. Folders and times do not enter, so that a
        copy has the same hash; a change of a few pixels in a large stack may go unseen.
        """
        return hash_of_data(self.metadata, (self.offset, self.factor))

    def _refuse_empty(self) -> None:
        if self.n == 0:
            raise InputError(f"{self.source_name} selects no particles: widen the selection")

    @property
    def source_name(self) -> str:
        """The particle file, for messages."""
        return str(self.metadata.source or "the particle set")

    def where(self, row: int) -> str:
        """Names a particle, for messages: the file and its row there."""
        return f"{self.source_name} row {self.metadata.row_numbers[row]}"

    def image_name(self, row: int) -> str:
        """Names a particle's image, for messages: its number from 1, and its stack."""
        place = self.metadata.stack_indices[row] + 1
        return f"image {place} of {self.metadata.stack_paths[row]}"

    def _by_stack(self, rows: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Each stack with the indices in `rows` of its particles, ordered as in the stack."""
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
                f"{self.where(row)}: its stack {stack} does not exist: correct rlnImageName or "
                "blob/path, or give the folder of the stacks as --image-dir"
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
                    f"{self.where(int(rows[0]))}: the images of {stack} are {width} x {height} "
                    f"pixels{square} but the box is {box}: extract all particles with one box "
                    "or correct rlnImageSize"
                )
            if len(self._stacks) >= _OPEN_STACKS:
                self._stacks.clear()
            self._stacks[stack] = open_stack(stack)
        data = self._stacks[stack]
        unnumbered = np.flatnonzero(~self.metadata.numbered[rows])
        if len(unnumbered) and len(data) > 1:
            raise InputError(
                f"{self.where(int(rows[unnumbered].min()))}: {stack} holds {len(data)} images and "
                "rlnImageName does not say which one this is: write number@stack (or give 2-D "
                "particles, if the file is a volume)"
            )
        beyond = np.flatnonzero(self.metadata.stack_indices[rows] >= len(data))
        if len(beyond):
            row = int(rows[beyond].min())
            raise InputError(
                f"{self.where(row)}: image {self.metadata.stack_indices[row] + 1} is beyond the "
                f"{len(data)} images of {stack}: give the stack that the file was written for"
            )
        return data

    def _check_pixel_size(self) -> None:
        size = self.pixel_size_angstrom
        if not (np.isfinite(size) and size > 0.0):
            raise InputError(
                f"{self.source_name}: the pixel size is {size:g} Angstrom: give --pixel-size"
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

    def _repeated_images(self) -> list[str]:
        """A remark where rows share an image, as after symmetry expansion or by mistake."""
        _, first = np.unique(self.image_numbers(), return_index=True)
        again = np.setdiff1d(np.arange(self.n), first)
        if len(again) == 0:
            return []
        row = int(again[0])
        return [
            f"{self.where(row)}: {self.image_name(row)} is in more than one row ({len(again)} such "
            "rows): each counts as a particle of its own, and error bars come out too small"
        ]

    def _check_values(self) -> None:
        for row, fault in sorted(unusable(self.statistics()).items()):
            raise InputError(
                f"{self.where(row)}: {self.image_name(row)} {fault}: remove the row or extract "
                "the particle again"
            )


def _as_slice(indices: np.ndarray) -> np.ndarray | slice:
    """Consecutive ascending indices as a slice (read without a copy), others as they are."""
    if len(indices) and np.array_equal(indices, np.arange(indices[0], indices[0] + len(indices))):
        return slice(int(indices[0]), int(indices[0]) + len(indices))
    return indices
