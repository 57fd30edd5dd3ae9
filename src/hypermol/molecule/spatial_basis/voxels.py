"""Voxels on the coarsest grid that holds the wanted frequencies, supported in a ball or mask.

The transform is taken on a zero-padded grid and sliced by trilinear interpolation; the padded
box is chosen from the support's reach so that the interpolation error stays near 1 % of the signal
(measured in tests/molecule/test_voxels.py), and the interpolation's attenuation is divided out.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from typing_extensions import override

from hypermol.molecule.region import Mask, Region
from hypermol.molecule.spatial_basis.base import SpatialBasis
from hypermol.molecule.spatial_basis.oversampled import (
    compensation,
    padded_size,
    padded_transform,
)
from hypermol.molecule.spatial_basis.slicing import grid_radius, slices
from hypermol.space.fourier import fast_even_size, frequency_radii

_AXES = (-3, -2, -1)
#: In voxels, how far a centre moves that stays.
_STAYS = 0.05


@final
@dataclass(frozen=True)
class Voxels(SpatialBasis):
    """Band-limited densities on a cubic grid, zero outside a ball; softened by a mask if given.

    With a mask M the density is M times the coefficients, while the prior is on the coefficients:
    its standard deviation then falls with M towards the edge.

    Attributes:
        box: side of the images in pixels.
        pixel_size_angstrom: of the images.
        kmax: largest frequency that slices need, in 1/box.
        radius_angstrom: radius of the supporting ball.
        centre_angstrom: (x, y, z) of the ball's centre.
        mask: multiplies the density; coefficients are zero where it is.
    """

    box: int
    pixel_size_angstrom: float
    kmax: int
    radius_angstrom: float
    centre_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mask: Mask | None = None

    @override
    @cached_property
    def n(self) -> int:
        """Side of the voxel grid, which spans the images' box."""
        return min(fast_even_size(2 * self.kmax + 2), self.box + self.box % 2)

    @cached_property
    def padded(self) -> int:
        """Side of the zero-padded grid in voxels."""
        reach = max(abs(value) for value in self.centre_angstrom) + self.radius_angstrom
        return padded_size(self.n, min(reach / self.box_angstrom, 0.5))

    @property
    def box_angstrom(self) -> float:
        """Side of the box in Angstrom."""
        return self.box * self.pixel_size_angstrom

    @override
    @property
    def voxel_size_angstrom(self) -> float:
        return self.box_angstrom / self.n

    @property
    def oversampling(self) -> float:
        """Padded box over box: grid steps per 1/box."""
        return self.padded / self.n

    @override
    @property
    def coefficient_shape(self) -> tuple[int, int, int]:
        """One coefficient a voxel (those outside the ball stay zero)."""
        return (self.n, self.n, self.n)

    @override
    @property
    def n_coefficients(self) -> int:
        return int(self.support.sum())

    @cached_property
    def support(self) -> np.ndarray:
        """float32 [n, n, n]: 1 inside the ball (and where the mask is not 0), 0 outside."""
        grid = (np.arange(self.n) - self.n // 2) * self.voxel_size_angstrom
        x, y, z = (grid - centre for centre in self.centre_angstrom)
        radius2 = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2
        inside = radius2 <= self.radius_angstrom**2
        if self.mask is not None:
            inside &= self.mask.on_grid(self.n, self.voxel_size_angstrom) > 0.0
        return inside.astype(np.float32)

    @cached_property
    def window(self) -> np.ndarray:
        """float32 [n, n, n]: density per coefficient, the support times the mask."""
        if self.mask is None:
            return self.support
        return self.support * self.mask.on_grid(self.n, self.voxel_size_angstrom)

    @override
    @property
    def scale(self) -> float:
        """Orthonormal image coefficient per unit of sum over voxels (CONVENTIONS.md: images are
        sums over z of the density sampled at the images' pixel size)."""
        return (self.box / self.n) ** 3 / self.box

    @cached_property
    def _compensation(self) -> np.ndarray:
        """Window times the inverse of the trilinear attenuation, times `scale`."""
        full = self.window * (self.scale * compensation(self.n, self.padded))
        return full.astype(np.float32)

    @cached_property
    def _shells(self) -> np.ndarray:
        """int [n, n, n // 2 + 1] shell of each rfft coefficient, the last shell above kmax."""
        return np.minimum(np.rint(frequency_radii(self.n)).astype(int), self.n_shells - 1)

    @override
    @property
    def n_shells(self) -> int:
        """Shells 0 .. kmax, and one for the grid's corners above kmax."""
        return self.kmax + 2

    @override
    def prepare(self, coefficients: Array) -> Array:
        """Padded transform cropped to kmax, float [D, D, X, 2 F] (see `slicing`)."""
        radius = grid_radius(self.kmax, self.oversampling)
        return padded_transform(coefficients * self._compensation, self.padded, radius)

    @override
    def slices(self, prepared: Array, rotations: Array, frequencies: Array) -> Array:
        """Central slices, complex [B, F, K], in units of orthonormal image coefficients."""
        return slices(prepared, rotations, frequencies * np.float32(self.oversampling))

    @override
    def fourier(self, coefficients: Array, points: Array) -> Array:
        """Direct sums over voxels: complex [F, n_points] at points [n_points, 3] in 1/Angstrom."""
        axis = (jnp.arange(self.n) - self.n // 2) * self.voxel_size_angstrom
        waves = [jnp.exp(-2j * jnp.pi * points[:, d, None] * axis) for d in range(3)]
        volume = coefficients * (self.window * np.float32(self.scale))
        return jnp.einsum("fzyx,px,py,pz->fp", volume, *waves)

    @override
    def density(self, coefficients: Array) -> Array:
        """The voxels themselves, times the mask, zero outside the support."""
        return coefficients * self.window

    @override
    def expand(self, density: Array) -> Array:
        """Coefficients [F, n, n, n] of densities on the grid: divided by the mask where it is not
        small, as they are elsewhere, for a prior of unit scale holds them there.
        """
        return density * self.window / np.maximum(self.window**2, 1e-2)

    def _filter(self, coefficients: Array, shell_weights: Array) -> Array:
        weights = shell_weights[:, self._shells]
        transform = jnp.fft.rfftn(coefficients * self.support, axes=_AXES)
        filtered = jnp.fft.irfftn(transform * weights, s=(self.n,) * 3, axes=_AXES)
        return filtered * self.support

    @override
    def precision(self, coefficients: Array, weights: Array) -> Array:
        """Ball-restricted Fourier multiplier of weights [F, n_shells]; symmetric."""
        return self._filter(coefficients, weights)

    @override
    def precision_root(self, white: Array, weights: Array) -> Array:
        """White noise [F, n, n, n] to covariance `precision`: the noise must fill the cube."""
        transform = jnp.fft.rfftn(white, axes=_AXES)
        root = jnp.sqrt(weights)[:, self._shells]
        return jnp.fft.irfftn(transform * root, s=(self.n,) * 3, axes=_AXES) * self.support

    @override
    def shell_power(self, coefficients: Array) -> Array:
        """Mean over each shell of |FFT|^2 / (voxels in the ball), [F, n_shells].

        In these units a field that is white in the ball with variance v has power v, and the
        prior precision that matches a spectrum is its inverse.
        """
        transform = jnp.fft.rfftn(coefficients * self.support, axes=_AXES)
        power = (transform.real**2 + transform.imag**2) / self.n_coefficients
        return self._shell_mean(power)

    @cached_property
    def _multiplicity(self) -> np.ndarray:
        """How often each rfft coefficient stands in the full transform."""
        multiplicity = np.full(self._shells.shape, 2.0, np.float32)
        multiplicity[..., 0] = 1.0
        multiplicity[..., -1] = 1.0
        return multiplicity

    @cached_property
    def shell_counts(self) -> np.ndarray:
        """float32 [n_shells]: Fourier coefficients of the full grid in each shell."""
        counts = np.bincount(
            self._shells.reshape(-1), self._multiplicity.reshape(-1), self.n_shells
        )
        return counts.astype(np.float32)

    @override
    @property
    def slice_gain(self) -> np.ndarray:
        """[n_shells]: scale^2 n^3 over the coefficients of each shell."""
        share = float(np.sum(self.window**2)) / self.n_coefficients
        return self.scale**2 * self.n**3 * share / self.shell_counts

    @override
    @property
    def power_gain(self) -> float:
        """scale^2 times the voxels in the ball, each weighted by its mask squared."""
        return self.scale**2 * float(np.sum(self.window**2))

    def _shell_mean(self, values: Array) -> Array:
        """Mean over shells of rfft-grid values [F, n, n, n // 2 + 1], mirrored half counted."""
        total = jnp.zeros((values.shape[0], self.n_shells), values.dtype)
        weighted = (values * self._multiplicity).reshape(values.shape[0], -1)
        return total.at[:, self._shells.reshape(-1)].add(weighted) / self.shell_counts

    @override
    def multiply_shells(self, coefficients: Array, matrices: Array) -> Array:
        """Mix the F functions by one symmetric matrix [n_shells, F, F] per shell, in the ball."""
        transform = jnp.fft.rfftn(coefficients * self.support, axes=_AXES)

        def plane(item: tuple[Array, Array]) -> Array:
            shells, values = item
            return jnp.einsum("yxfg,gyx->fyx", matrices[shells], values)

        # a matrix for every coefficient of the grid would be its largest array by far
        mixed = jax.lax.map(plane, (self._shells, jnp.moveaxis(transform, 1, 0)))
        mixed = jnp.moveaxis(mixed, 0, 1)
        return jnp.fft.irfftn(mixed, s=(self.n,) * 3, axes=_AXES) * self.support

    @override
    def is_kept_by(self, operator: np.ndarray) -> bool:
        """A ball whose centre stays, in turns that keep the grid; not a mask.

        Others would be interpolated, and solves come to their end later with those than without.
        """
        centre = np.array(self.centre_angstrom)
        moved = np.linalg.norm(operator @ centre - centre) / self.voxel_size_angstrom
        keeps_grid = np.abs(operator - np.rint(operator)).max() < _STAYS / self.n
        return self.mask is None and bool(keeps_grid and moved < _STAYS)

    @override
    def turned(self, coefficients: Array, operator: np.ndarray) -> Array:
        """Every voxel from where it was, 0 from outside the box."""
        axis = np.arange(self.n) - self.n // 2
        z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
        # row vectors: S^T r is r @ S
        source = np.stack([x, y, z]).T @ np.asarray(operator, np.float64)
        places = list(np.asarray(source.T[::-1] + self.n // 2, np.float32))

        def one(values: Array) -> Array:
            return jax.scipy.ndimage.map_coordinates(values, places, order=1)

        return jax.lax.map(one, coefficients) * self.support


def voxels_in(region: Region, box: int, pixel_size_angstrom: float, kmax: int) -> Voxels:
    """Voxels supported in a region: in a ball, or in a mask (and its bounding ball)."""
    mask = region if isinstance(region, Mask) else None
    ball = region.bounding_ball() if isinstance(region, Mask) else region
    return Voxels(box, pixel_size_angstrom, kmax, ball.radius_angstrom, ball.centre_angstrom, mask)
