"""Bases that are no voxels themselves, but share the grid and the units of some."""

import abc

import numpy as np

from hypermol.molecule.spatial_basis.base import SpatialBasis
from hypermol.molecule.spatial_basis.voxels import Voxels


class OnVoxels(SpatialBasis):
    """A basis whose `density` is on the grid of `_voxels` and whose coefficients have their units.

    A unit coefficient has the energy of a unit voxel, so that grid, shells and gains are theirs.
    """

    @property
    @abc.abstractmethod
    def _voxels(self) -> Voxels:
        """The voxels of the same ball and kmax."""

    @property
    def n(self) -> int:
        """Side of the voxel grid."""
        return self._voxels.n

    @property
    def voxel_size_angstrom(self) -> float:
        """Side of one voxel."""
        return self._voxels.voxel_size_angstrom

    @property
    def scale(self) -> float:
        """The voxels'."""
        return self._voxels.scale

    @property
    def n_shells(self) -> int:
        """Shells 0 .. kmax, and one above."""
        return self._voxels.n_shells

    @property
    def slice_gain(self) -> np.ndarray:
        """[n_shells]: the voxels'."""
        return self._voxels.slice_gain
