"""Gaussians of one width on a regular lattice inside a ball.

V(x) = sum_j c_j g(x - x_j) with the lattice x_j a subset of the voxels and g a Gaussian, so that
V-hat(k) = exp(-2 pi^2 w^2 |k|^2) times the transform of voxels with values c_j: everything is the
voxels' own, times a radial envelope that is known in closed form.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import jax.numpy as jnp
import numpy as np
from jax import Array
from typing_extensions import override

from hypermol.molecule.region import Mask
from hypermol.molecule.spatial_basis.on_voxels import OnVoxels
from hypermol.molecule.spatial_basis.voxels import Voxels

#: The preconditioner divides by the squared envelope no further than to this.
_SMALLEST_ENVELOPE2 = 1e-3
_AXES = (-3, -2, -1)


@final
@dataclass(frozen=True)
class GaussianGrid(OnVoxels):
    """Smooth densities: Gaussians at every `stride`-th voxel of a ball.

    A unit coefficient integrates to stride^{3/2} voxels, so that white coefficients are a density
    of the voxels' power below the Gaussians' own resolution. The prior's weights act on |V-hat|^2
    and thus reach coefficients with the squared envelope (at the shells' radii).

    Attributes:
        box: side of the images in pixels.
        pixel_size_angstrom: of the images.
        kmax: largest frequency that slices need, in 1/box.
        width_angstrom: standard deviation w of the Gaussians.
        radius_angstrom: of the ball that holds their centres.
        centre_angstrom: (x, y, z) of the ball's centre.
        stride: voxels between neighbouring centres; the lattice has one at the origin.
    """

    box: int
    pixel_size_angstrom: float
    kmax: int
    width_angstrom: float
    radius_angstrom: float
    centre_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0)
    stride: int = 1

    @override
    @cached_property
    def _voxels(self) -> Voxels:
        """Voxels whose support is the lattice."""
        common = (self.box, self.pixel_size_angstrom, self.kmax, self.radius_angstrom)
        plain = Voxels(*common, self.centre_angstrom)
        on = ((np.arange(plain.n) - plain.n // 2) % self.stride == 0).astype(np.float32)
        lattice = on[:, None, None] * on[None, :, None] * on[None, None, :]
        return Voxels(
            *common, self.centre_angstrom, Mask(lattice, plain.voxel_size_angstrom, "lattice")
        )

    @override
    @property
    def coefficient_shape(self) -> tuple[int, int, int]:
        """One coefficient a voxel; those off the lattice or outside the ball stay zero."""
        return self._voxels.coefficient_shape

    @override
    @property
    def n_coefficients(self) -> int:
        return self._voxels.n_coefficients

    @override
    @property
    def power_gain(self) -> float:
        """The voxels' of the whole ball: centres times stride^3."""
        return self._voxels.power_gain * self.stride**3

    def _envelope(self, squared: np.ndarray | Array) -> np.ndarray | Array:
        """stride^{3/2} exp(-2 pi^2 w^2 |k|^2), given |k|^2 in 1/Angstrom^2."""
        xp = np if isinstance(squared, np.ndarray) else jnp
        exponent = -2.0 * np.pi**2 * self.width_angstrom**2
        return self.stride**1.5 * xp.exp(exponent * squared)

    @cached_property
    def _shell_envelope2(self) -> np.ndarray:
        """float32 [n_shells]: squared envelope at the shells' radii, 1 at the origin."""
        k = np.arange(self.n_shells) / self._voxels.box_angstrom
        return np.asarray(self._envelope(k**2) ** 2 / self.stride**3, np.float32)

    @cached_property
    def _grid_envelope(self) -> np.ndarray:
        """float32 [n, n, n // 2 + 1]: the envelope at the grid's own frequencies."""
        full = np.fft.fftfreq(self.n, self.voxel_size_angstrom) ** 2
        half = np.fft.rfftfreq(self.n, self.voxel_size_angstrom) ** 2
        squared = full[:, None, None] + full[None, :, None] + half[None, None, :]
        return np.asarray(self._envelope(squared), np.float32)

    @override
    def prepare(self, coefficients: Array) -> Array:
        """The lattice's padded transform (see `Voxels.prepare`)."""
        return self._voxels.prepare(coefficients)

    @override
    def slices(self, prepared: Array, rotations: Array, frequencies: Array) -> Array:
        """Central slices, complex [B, F, K]: the lattice's, times the envelope."""
        squared = jnp.sum((frequencies / np.float32(self._voxels.box_angstrom)) ** 2, axis=-1)
        return self._voxels.slices(prepared, rotations, frequencies) * self._envelope(squared)

    @override
    def fourier(self, coefficients: Array, points: Array) -> Array:
        """V-hat, complex [F, n], at points [n, 3] in 1/Angstrom: exact sums over Gaussians."""
        squared = jnp.sum(jnp.asarray(points) ** 2, axis=-1)
        return self._voxels.fourier(coefficients, points) * self._envelope(squared)

    @override
    def density(self, coefficients: Array) -> Array:
        """[F, n, n, n], band-limited to the grid; Gaussians at the box' edge wrap around it."""
        transform = jnp.fft.rfftn(self._voxels.density(coefficients), axes=_AXES)
        return jnp.fft.irfftn(transform * self._grid_envelope, s=(self.n,) * 3, axes=_AXES)

    @override
    def precision(self, coefficients: Array, weights: Array) -> Array:
        """The voxels' on the lattice, with the squared envelope in the weights."""
        return self._voxels.precision(coefficients, weights * self._shell_envelope2)

    @override
    def precision_root(self, white: Array, weights: Array) -> Array:
        """White noise that fills the cube [F, n, n, n] to covariance `precision`."""
        return self._voxels.precision_root(white, weights * self._shell_envelope2)

    @override
    def shell_power(self, coefficients: Array) -> Array:
        """Mean |V-hat|^2 per shell over the ball's voxels, [F, n_shells]."""
        return self._voxels.shell_power(coefficients) * self._shell_envelope2

    @override
    def multiply_shells(self, coefficients: Array, matrices: Array) -> Array:
        """The voxels', divided by the squared envelope, which `slice_gain` leaves out: inverses of
        operators on the density become inverses of operators on coefficients.
        """
        limited = np.maximum(self._shell_envelope2, _SMALLEST_ENVELOPE2)
        return self._voxels.multiply_shells(coefficients, matrices / limited[:, None, None])

    @override
    def is_kept_by(self, operator: np.ndarray) -> bool:
        """As the lattice of their centres."""
        return self._voxels.is_kept_by(operator)

    @override
    def turned(self, coefficients: Array, operator: np.ndarray) -> Array:
        """As the lattice of their centres."""
        return self._voxels.turned(coefficients, operator)
