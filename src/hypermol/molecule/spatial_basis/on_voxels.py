"""Bases that are no voxels themselves, but share the grid and the units of some."""

import abc

import numpy as np
from typing_extensions import override

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

    @override
    @property
    def n(self) -> int:
        return self._voxels.n

    @override
    @property
    def voxel_size_angstrom(self) -> float:
        return self._voxels.voxel_size_angstrom

    @override
    @property
    def scale(self) -> float:
        return self._voxels.scale

    @override
    @property
    def n_shells(self) -> int:
        """Shells 0 .. kmax, and one above."""
        return self._voxels.n_shells

    @override
    @property
    def slice_gain(self) -> np.ndarray:
        return self._voxels.slice_gain
