"""The small grid of voxels that stands for prolate functions when slices are taken."""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.molecule.spatial_basis.ball_functions import (
    N_CLASSES,
    BallFunctions,
    dense_classes,
)
from hypermol.molecule.spatial_basis.band_matched import BandMatched, band_matched
from hypermol.molecule.spatial_basis.oversampled import compensation, padded_size
from hypermol.molecule.spatial_basis.prolate_functions import ProlateFunctions

#: Entries of the matrix from coefficients to one octant that are worth keeping (200 MB); above,
#: functions are evaluated anew each time.
DENSE_ENTRIES = 50_000_000
#: Voxels between the ball's surface and the profiles' edge.
_MARGIN = 1.0


@final
@dataclass(frozen=True, eq=False)
class BallCanvas:
    """A cube of voxels about the unit ball, symmetric under the three mirrors of its axes.

    The mirrors change every function by a sign alone, so values are needed in one octant only,
    split by parity: an eighth of the work and of the memory.

    Attributes:
        functions: whose sums are to be sliced.
        voxel: side of a voxel in radii of the ball.
    """

    functions: ProlateFunctions
    voxel: float

    @property
    def edge(self) -> float:
        """Radius of the support in radii of the ball."""
        return 1.0 + _MARGIN * self.voxel

    @property
    def n(self) -> int:
        """Side in voxels, even."""
        return 2 * (int(self.edge / self.voxel) + 1)

    @cached_property
    def padded(self) -> int:
        """Side of the zero-padded grid in voxels."""
        return padded_size(self.n, self.edge / (self.voxel * self.n))

    @cached_property
    def compensation(self) -> np.ndarray:
        """float32 [n, n, n] that makes up for trilinear slices' attenuation."""
        return compensation(self.n, self.padded).astype(np.float32)

    @property
    def _folded(self) -> float:
        """Lowest frequency that sampling folds into the band: the grid's period less the band."""
        return 2.0 * np.pi / (self.voxel * self.functions.bandlimit) - 1.0

    @cached_property
    def _profiles(self) -> BandMatched:
        return band_matched(self.functions, self.edge, self._folded)

    @cached_property
    def _octant(self) -> tuple[np.ndarray, np.ndarray]:
        """Flat indices in a cube of side n / 2 + 1, and points in radii, of x, y, z >= 0."""
        axis = np.arange(self.n // 2 + 1) * self.voxel
        z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
        places = np.stack([x, y, z], axis=-1).reshape(-1, 3)
        index = np.flatnonzero(np.sum(places**2, axis=1) <= self.edge**2)
        return index, places[index]

    @property
    def octant_entries(self) -> int:
        """Voxels of the octant times functions."""
        return len(self._octant[0]) * self.functions.n_functions

    @cached_property
    def _dense(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        return dense_classes(self._profiles.radial, self.functions.counts, self._octant[1])

    @cached_property
    def _table(self) -> BallFunctions:
        # profiles hold frequencies up to the folded ones, hence the finer table
        bandlimit = self.functions.bandlimit * (1.0 + self._folded)
        count = len(self.functions.counts)
        return BallFunctions.tabulate(self._profiles.radial, count, bandlimit, self.edge + 1e-6)

    def synthesise(self, coefficients: Array) -> Array:
        """Sums of the profiles, [F, n, n, n], from coefficients [F, P]. Linear."""
        index, places = self._octant
        if self.octant_entries <= DENSE_ENTRIES:
            parts = [
                jnp.matmul(coefficients[:, chosen], matrix.T, precision="highest")
                for chosen, matrix in zip(*self._dense, strict=True)
            ]
            values = jnp.stack(parts, axis=1)
        else:
            values = self._table.by_class(coefficients, jnp.asarray(places, jnp.float32))
        side = self.n // 2 + 1
        cube = jnp.zeros((coefficients.shape[0], N_CLASSES, side**3), values.dtype)
        cube = cube.at[..., index].set(values, unique_indices=True)
        return self._unfold(cube.reshape(-1, 2, 2, 2, side, side, side))

    def _unfold(self, cube: Array) -> Array:
        """Even and odd parts on one octant [F, 2, 2, 2, s, s, s] to the whole [F, n, n, n]."""
        offset = np.arange(self.n) - self.n // 2
        sign = np.sign(offset).astype(np.float32)
        for _ in range(3):
            # each pass uses up a parity axis, which brings the next spatial one to place 4
            halves = jnp.take(cube, np.abs(offset), axis=4)
            even, odd = halves[:, 0], halves[:, 1]
            shape = [1] * even.ndim
            shape[3] = self.n
            cube = even + odd * sign.reshape(shape)
        return cube
