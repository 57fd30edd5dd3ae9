"""Densities of atomic structures: one Gaussian an atom, weighted by its atomic number."""

from dataclasses import dataclass

import numpy as np

from hypermol.io.errors import InputError
from hypermol.io.structures import Structure
from hypermol.simulation.sources import MapSource
from hypermol.space.state_space import Circle, Interval, Point, StateSpace

#: A Gaussian of this sd (in units of the resolution) falls to 1/e at k = 1 / resolution.
SD_OF_RESOLUTION = 1.0 / (np.pi * np.sqrt(2.0))

_ATOMS_AT_ONCE = 512
_LARGEST_MAPS_BYTES = 2_000_000_000
_SMALLEST_SD_PX = 0.4


@dataclass(frozen=True)
class DensityGrid:
    """A cubic grid for densities of atoms.

    Attributes:
        box: side in voxels.
        voxel_size_angstrom: side of a voxel.
        resolution_angstrom: an atom's transform falls to 1/e at 1 / resolution.
    """

    box: int
    voxel_size_angstrom: float
    resolution_angstrom: float

    @property
    def sd_angstrom(self) -> float:
        """Standard deviation of an atom's Gaussian."""
        return SD_OF_RESOLUTION * self.resolution_angstrom


def structure_source(
    structure: Structure, grid: DensityGrid, *, n_states: int | None = None, circle: bool = False
) -> MapSource:
    """Maps of a structure's frames, with states along them.

    Frames are centred by one shift, the mean position of all atoms over all frames, so that the
    motion itself stays. State tau runs from 0 (first frame) to 1 (last frame); on a circle frame
    i of F has tau = i / F and the last frame leads back to the first.

    Args:
        structure: frames of atoms (see `io.structures.read_structure`).
        grid: voxels and resolution.
        n_states: number of maps, at even states, atoms interpolated linearly between frames;
            one for each frame by default.
        circle: the frames close a cycle.

    Raises:
        InputError: the molecule does not fit, the resolution is too fine for the voxels, or the
            maps would need more than 2 GB.
    """
    positions = structure.positions_angstrom
    count = len(positions) if n_states is None else n_states
    _check(grid, count)
    if count > 1 and len(positions) == 1:
        raise InputError(f"one frame cannot make {count} states: give several models or n_states 1")
    centred = positions - positions.mean(axis=(0, 1))
    _check_fits(centred, grid)
    tau = even_states(count, circle)
    maps = np.empty((count, *(grid.box,) * 3), np.float16)
    weights = structure.atomic_numbers.astype(np.float64)
    for i, state in enumerate(tau):
        atoms = interpolate_frames(centred, state, circle)
        maps[i] = density_of_atoms(atoms, weights, grid)
    space: StateSpace = Circle("phase") if circle else Interval("motion")
    if count == 1:
        return MapSource(maps, np.zeros((1, 0)), grid.voxel_size_angstrom, Point())
    return MapSource(maps, tau[:, None], grid.voxel_size_angstrom, space)


def even_states(n: int, circle: bool) -> np.ndarray:
    """States [n]: i / (n - 1) from end to end, or i / n round a circle."""
    return np.arange(n) / (n if circle else max(n - 1, 1))


def interpolate_frames(positions: np.ndarray, state: float, circle: bool) -> np.ndarray:
    """Atoms [n_atoms, 3] at a state in [0, 1] between the frames [F, n_atoms, 3]."""
    n_frames = len(positions)
    place = state * (n_frames if circle else n_frames - 1)
    first = min(int(place), n_frames - 1)
    fraction = place - first
    if fraction < 1e-9:
        return positions[first]
    second = (first + 1) % n_frames if circle else min(first + 1, n_frames - 1)
    return (1.0 - fraction) * positions[first] + fraction * positions[second]


def density_of_atoms(atoms: np.ndarray, weights: np.ndarray, grid: DensityGrid) -> np.ndarray:
    """Sum of Gaussians sampled at the voxel centres.

    A Gaussian is the product of three one-dimensional ones, so the sum over atoms is a matrix
    product.

    Args:
        atoms: [n_atoms, 3] (x, y, z) in Angstrom from the box's origin voxel.
        weights: [n_atoms]; an atom's density adds up to its weight over all voxels.
        grid: voxels and resolution.

    Returns:
        float32 [box, box, box], (z, y, x).
    """
    axis = (np.arange(grid.box) - grid.box // 2) * grid.voxel_size_angstrom
    norm = grid.voxel_size_angstrom / (np.sqrt(2.0 * np.pi) * grid.sd_angstrom)
    total = np.zeros((grid.box, grid.box**2), np.float32)
    for start in range(0, len(atoms), _ATOMS_AT_ONCE):
        part = slice(start, start + _ATOMS_AT_ONCE)
        distance = (axis - atoms[part, :, None]) / grid.sd_angstrom
        profile = (norm * np.exp(-0.5 * distance**2)).astype(np.float32)
        x, y, z = profile[:, 0], profile[:, 1], profile[:, 2]
        z = z * weights[part, None].astype(np.float32)
        total += z.T @ (y[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    return total.reshape((grid.box,) * 3)


def _check(grid: DensityGrid, count: int) -> None:
    if count < 1:
        raise InputError(f"{count} states: ask for at least 1")
    if grid.sd_angstrom < _SMALLEST_SD_PX * grid.voxel_size_angstrom:
        finest = _SMALLEST_SD_PX * grid.voxel_size_angstrom / SD_OF_RESOLUTION
        raise InputError(
            f"resolution {grid.resolution_angstrom:g} Angstrom is too fine for voxels of "
            f"{grid.voxel_size_angstrom:g}: ask for {finest:.1f} or more"
        )
    if 2 * count * grid.box**3 > _LARGEST_MAPS_BYTES:
        most = _LARGEST_MAPS_BYTES // (2 * grid.box**3)
        raise InputError(
            f"{count} maps of {grid.box}^3 voxels need more than 2 GB: ask for at most {most} "
            "states or a smaller box"
        )


def _check_fits(atoms: np.ndarray, grid: DensityGrid) -> None:
    reach = np.linalg.norm(atoms, axis=-1).max() + 2.0 * grid.sd_angstrom
    half = 0.5 * grid.box * grid.voxel_size_angstrom
    if reach > half:
        needed = int(np.ceil(2.0 * reach / grid.voxel_size_angstrom))
        raise InputError(
            f"the structure reaches {reach:.0f} Angstrom from its centre and half the box is "
            f"{half:.0f}: ask for a box of {needed} or a larger pixel"
        )
