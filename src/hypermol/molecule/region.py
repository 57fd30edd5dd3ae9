"""Regions of space that hold a part of the molecule: a ball, or a mask from a file."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from scipy.ndimage import map_coordinates

from hypermol.io.errors import InputError
from hypermol.io.mrc import read_volume

#: Mask values below this are outside: resampling and soft edges leave such tails.
MASK_FLOOR = 1e-3
#: Relative difference of voxel sizes that headers' rounding explains.
_VOXEL_TOLERANCE = 1e-2

Vector = tuple[float, float, float]


@final
@dataclass(frozen=True)
class Ball:
    """A ball.

    Attributes:
        centre_angstrom: (x, y, z) of its centre from the box' origin.
        radius_angstrom: > 0.
    """

    centre_angstrom: Vector
    radius_angstrom: float

    @property
    def is_centred(self) -> bool:
        """Whether it is about the origin."""
        return not any(self.centre_angstrom)


@final
@dataclass(frozen=True, eq=False)
class Mask:
    """A soft mask on a cubic grid that spans the images' box; compared and hashed by identity.

    Attributes:
        values: float32 [m, m, m] in 0 .. 1, [z, y, x], origin at m // 2.
        voxel_size_angstrom: side of its voxels.
        name: of the file, for messages.
    """

    values: np.ndarray
    voxel_size_angstrom: float
    name: str = "mask"

    is_centred = False

    def on_grid(self, n: int, voxel_size_angstrom: float) -> np.ndarray:
        """The mask on n^3 voxels about the same origin, float32: linear interpolation (which, in
        contrast to Fourier resampling, keeps it within 0 .. 1), values below 1e-3 set to 0.
        """
        m = len(self.values)
        axis = (np.arange(n) - n // 2) * (voxel_size_angstrom / self.voxel_size_angstrom) + m // 2
        points = np.meshgrid(axis, axis, axis, indexing="ij")
        found = map_coordinates(self.values, points, order=1, mode="constant", prefilter=False)
        return np.where(found < MASK_FLOOR, 0.0, found).astype(np.float32)

    def bounding_ball(self) -> Ball:
        """A ball about the middle of the mask's bounding cuboid that holds all of it."""
        voxels = np.argwhere(self.values >= MASK_FLOOR) - len(self.values) // 2
        middle = 0.5 * (voxels.min(axis=0) + voxels.max(axis=0))
        # half a diagonal more, for the interpolation reaches one voxel beyond
        radius = np.sqrt(np.max(np.sum((voxels - middle) ** 2, axis=1))) + math.sqrt(3.0)
        z, y, x = (float(value) * self.voxel_size_angstrom for value in middle)
        return Ball((x, y, z), float(radius) * self.voxel_size_angstrom)

    def centre_of_mass(self) -> Vector:
        """(x, y, z) in Angstrom from the box' origin, each voxel weighted by its value."""
        axis = (np.arange(len(self.values)) - len(self.values) // 2) * self.voxel_size_angstrom
        total = float(self.values.sum(dtype=np.float64))
        z, y, x = (
            float(self.values.sum(axis=others, dtype=np.float64) @ axis) / total
            for others in ((1, 2), (0, 2), (0, 1))
        )
        return x, y, z


#: Where a spatial basis may put density.
Region = Ball | Mask


def read_mask(path: str | Path, box: int, pixel_size_angstrom: float) -> Mask:
    """Read a mask that must lie on the images' own grid.

    Args:
        path: an MRC file.
        box: side of the images in pixels.
        pixel_size_angstrom: of the images.

    Raises:
        InputError: the file is not readable, of another box or voxel size, or holds values that
            no mask has.
    """
    volume = read_volume(path)
    shape = volume.data.shape
    if shape != (box, box, box):
        raise InputError(
            f"{path} has {shape[2]} x {shape[1]} x {shape[0]} voxels but the images' box is {box}: "
            f"make the mask on a grid of {box}^3 voxels of {pixel_size_angstrom:g} Angstrom"
        )
    size = volume.voxel_size_angstrom
    if size is not None and abs(size / pixel_size_angstrom - 1.0) > _VOXEL_TOLERANCE:
        raise InputError(
            f"{path} has voxels of {size:g} Angstrom but the images' pixels are "
            f"{pixel_size_angstrom:g} Angstrom: resample the mask or correct its header"
        )
    _check_values(path, volume.data)
    return Mask(np.clip(volume.data, 0.0, 1.0), pixel_size_angstrom, str(path))


def _check_values(path: str | Path, values: np.ndarray) -> None:
    if not np.all(np.isfinite(values)):
        raise InputError(f"{path} holds values that are no numbers: make the mask again")
    low, high = float(values.min()), float(values.max())
    if low < -0.01 or high > 1.01:
        raise InputError(
            f"{path} has values from {low:g} to {high:g} but a mask's lie within 0 and 1: give a "
            "mask, not a map (threshold the map and soften its edge)"
        )
    if high < 0.5:
        raise InputError(f"{path} selects nothing (its largest value is {high:g}): make it again")


def check_inside(region: Region, box: int, pixel_size_angstrom: float, name: str) -> None:
    """Refuse a region that reaches outside the images' box.

    Raises:
        InputError: naming the region and what would fit.
    """
    half = 0.5 * box * pixel_size_angstrom
    if isinstance(region, Mask):
        return
    if not region.radius_angstrom > 0.0:
        raise InputError(
            f"region {name} has radius {region.radius_angstrom:g} Angstrom: give a positive one"
        )
    reach = max(abs(value) for value in region.centre_angstrom) + region.radius_angstrom
    if reach > half * (1.0 + 1e-6):
        raise InputError(
            f"region {name} reaches {reach:g} Angstrom from the origin along an axis but the box "
            f"ends at {half:g}: move its centre or reduce its radius by {reach - half:.3g} Angstrom"
        )
