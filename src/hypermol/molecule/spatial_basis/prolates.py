"""Generalized prolate spheroidal functions in a ball, the paper's own basis (sec. 3.3).

V = A sum_p c_p psi_p((x - x0) / R) / R^{3/2}, A^2 the volume of a voxel, so that white coefficients
of unit variance are a density that is white in ball and band with the voxels' units. Slices go
through a small grid of voxels that covers only the ball (`band_matched` says why its values are not
plain samples), sliced about the ball's centre and then moved by the centre's phase.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import jax.numpy as jnp
import numpy as np
from jax import Array
from typing_extensions import override

from hypermol.molecule.spatial_basis.ball_canvas import BallCanvas
from hypermol.molecule.spatial_basis.ball_functions import (
    BallFunctions,
    is_odd_class,
)
from hypermol.molecule.spatial_basis.on_voxels import OnVoxels
from hypermol.molecule.spatial_basis.oversampled import padded_transform
from hypermol.molecule.spatial_basis.prolate_functions import ProlateFunctions, prolate_functions
from hypermol.molecule.spatial_basis.slicing import grid_radius, slices
from hypermol.molecule.spatial_basis.voxels import Voxels

#: Canvas voxels are this much finer than the band needs: room for the transform to fall.
_FINER = 1.25
#: `fourier` is tabulated up to this many bandlimits.
_FOURIER_REACH = 1.5


@final
@dataclass(frozen=True)
class Prolates(OnVoxels):
    """Functions concentrated in a ball and in the band up to kmax.

    Attributes:
        box: side of the images in pixels.
        pixel_size_angstrom: of the images.
        kmax: largest frequency of slices, in 1/box; the band's edge.
        radius_angstrom: R, of the ball.
        centre_angstrom: (x, y, z) of the ball's centre.
        threshold: functions with a larger share of their energy inside the band are kept.
    """

    box: int
    pixel_size_angstrom: float
    kmax: int
    radius_angstrom: float
    centre_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0)
    threshold: float = 0.5

    @cached_property
    def functions(self) -> ProlateFunctions:
        """The functions on the unit ball; bandlimit c = 2 pi R kmax / box."""
        bandlimit = 2.0 * np.pi * self.radius_angstrom * self.kmax / self._voxels.box_angstrom
        return prolate_functions(bandlimit, self.threshold)

    @override
    @cached_property
    def _voxels(self) -> Voxels:
        """The grid of `density`, and the voxels whose units the coefficients share."""
        return Voxels(
            self.box,
            self.pixel_size_angstrom,
            self.kmax,
            self.radius_angstrom,
            self.centre_angstrom,
        )

    @override
    @property
    def coefficient_shape(self) -> tuple[int]:
        """One coefficient a function, ordered by degree l, order n, then m = -l .. l."""
        return (self.n_coefficients,)

    @override
    @property
    def n_coefficients(self) -> int:
        return self.functions.n_functions

    @property
    def _ball_voxels(self) -> float:
        """Volume of the ball in voxels."""
        return 4.0 / 3.0 * np.pi * (self.radius_angstrom / self.voxel_size_angstrom) ** 3

    @override
    @property
    def power_gain(self) -> float:
        """scale^2 times the volume of the ball in voxels."""
        return self._voxels.scale**2 * self._ball_voxels

    @property
    def _amplitude(self) -> float:
        """A / R^{3/2}: density of psi_p on the unit ball per coefficient."""
        return float((self.voxel_size_angstrom / self.radius_angstrom) ** 1.5)

    # slices

    @cached_property
    def canvas(self) -> BallCanvas:
        """The small grid that slices are taken from."""
        finest = self._voxels.box_angstrom / (_FINER * (2 * self.kmax + 2))
        return BallCanvas(self.functions, finest / self.radius_angstrom)

    @property
    def _steps(self) -> float:
        """Steps of the canvas' padded transform per 1/box of the images."""
        side = self.canvas.padded * self.canvas.voxel * self.radius_angstrom
        return side / self._voxels.box_angstrom

    @override
    def prepare(self, coefficients: Array) -> Array:
        """Padded transform of the ball about its own centre, float [D, D, X, 2 F]."""
        canvas = self.canvas
        ratio = canvas.voxel * self.radius_angstrom / self.pixel_size_angstrom
        scale = self._amplitude * ratio**3 / self.box
        volume = canvas.synthesise(coefficients) * (canvas.compensation * np.float32(scale))
        radius = grid_radius(self.kmax, self._steps)
        return padded_transform(volume, canvas.padded, radius)

    @override
    def slices(self, prepared: Array, rotations: Array, frequencies: Array) -> Array:
        """Central slices, complex [B, F, K], in units of orthonormal image coefficients."""
        found = slices(prepared, rotations, frequencies * np.float32(self._steps))
        if not any(self.centre_angstrom):
            return found
        step = (-2.0 * np.pi / self._voxels.box_angstrom) * np.asarray(self.centre_angstrom)
        angles = (rotations[:, : frequencies.shape[1]] @ step.astype(np.float32)) @ frequencies.T
        return found * jnp.exp(1j * angles)[:, None]

    # direct evaluation

    @cached_property
    def _fourier_table(self) -> BallFunctions:
        """(-i)^l gamma Phi without the i of odd degrees, in units of image coefficients."""
        ratio = self.radius_angstrom / self.pixel_size_angstrom
        unit = 4.0 * np.pi * self._amplitude * ratio**3 / self.box

        def radial(degree: int, radius: np.ndarray) -> np.ndarray:
            sign = -1.0 if (degree // 2) % 2 else 1.0
            return sign * unit * self.functions.transformed(degree, radius)

        functions = self.functions
        return BallFunctions.tabulate(
            radial, len(functions.counts), functions.bandlimit, _FOURIER_REACH
        )

    @override
    def fourier(self, coefficients: Array, points: Array) -> Array:
        """V-hat, complex [F, n], at points [n, 3] in 1/Angstrom, by the functions' eigenvalues.

        A function's transform is 4 pi (-i)^l gamma times the function, R^3 for the volume and the
        phase of the centre. NaN beyond 1.5 kmax, where nothing is tabulated.
        """
        table = self._fourier_table
        scaled = points * np.float32(self._voxels.box_angstrom / self.kmax)
        inside = jnp.sum(scaled**2, axis=1) <= table.largest**2
        sums = table.by_class(coefficients, jnp.where(inside[:, None], scaled, 0.0))
        odd = is_odd_class()
        values = sums[:, ~odd].sum(axis=1) - 1j * sums[:, odd].sum(axis=1)
        phase = points @ np.asarray(self.centre_angstrom, np.float32)
        values = values * jnp.exp(-2j * np.pi * phase)
        return jnp.where(inside, values, jnp.nan)

    @cached_property
    def _density_table(self) -> BallFunctions:
        functions, amplitude = self.functions, self._amplitude
        return BallFunctions.tabulate(
            lambda degree, radius: amplitude * functions.radial(degree, np.minimum(radius, 1.0)),
            len(functions.counts),
            functions.bandlimit,
            1.0,
        )

    @cached_property
    def _inside(self) -> tuple[np.ndarray, np.ndarray]:
        """Flat indices of the grid's voxels in the ball, and their points in it, [V, 3]."""
        index = np.flatnonzero(self._voxels.support)
        z, y, x = np.unravel_index(index, (self.n,) * 3)
        places = (np.stack([x, y, z], axis=1) - self.n // 2) * self.voxel_size_angstrom
        unit = (places - np.asarray(self.centre_angstrom)) / self.radius_angstrom
        return index, unit.astype(np.float32)

    @override
    def density(self, coefficients: Array) -> Array:
        """The functions at the grid's voxels [F, n, n, n], zero outside the ball."""
        index, places = self._inside
        values = self._density_table.by_class(coefficients, jnp.asarray(places)).sum(axis=1)
        flat = jnp.zeros((coefficients.shape[0], self.n**3), values.dtype)
        return (
            flat.at[:, index].set(values, unique_indices=True).reshape(-1, self.n, self.n, self.n)
        )

    # prior

    @cached_property
    def mean_frequencies(self) -> np.ndarray:
        """float64 [number of (l, n)]: mean |k| of each radial function's band, in 1/box."""
        return self.kmax * np.concatenate(self.functions.mean_frequencies())

    @cached_property
    def _radial_index(self) -> np.ndarray:
        """int [P]: the radial function of each coefficient."""
        counts = self.functions.counts
        return np.repeat(np.arange(counts.sum()), np.repeat(2 * np.arange(len(counts)) + 1, counts))

    @cached_property
    def _tents(self) -> np.ndarray:
        """float32 [number of (l, n), n_shells]: linear interpolation from shells to functions."""
        distance = np.abs(self.mean_frequencies[:, None] - np.arange(self.n_shells))
        return np.maximum(0.0, 1.0 - distance).astype(np.float32)

    def _diagonal(self, weights: Array) -> Array:
        """Shell weights [F, n_shells] at each coefficient, [F, P]."""
        return (weights @ self._tents.T)[:, self._radial_index]

    @override
    def precision(self, coefficients: Array, weights: Array) -> Array:
        """Diagonal: each function's weight is read at its mean frequency."""
        return self._diagonal(weights) * coefficients

    @override
    def precision_root(self, white: Array, weights: Array) -> Array:
        """White noise [F, P] to covariance `precision`."""
        return jnp.sqrt(self._diagonal(weights)) * white

    @cached_property
    def _shell_mean(self) -> np.ndarray:
        """float32 [number of (l, n), n_shells]: mean over a shell's energy of squared coefficients.

        The shell above the band copies the last one inside.
        """
        functions = self.functions
        edges = np.append(np.maximum(np.arange(self.n_shells - 1) - 0.5, 0.0), self.kmax)
        energy = np.concatenate(functions.band_energies(edges / self.kmax))
        degree = np.repeat(np.arange(len(functions.counts)), functions.counts)
        mean = energy / ((2 * degree + 1) @ energy)
        return np.concatenate([mean, mean[:, -1:]], axis=1).astype(np.float32)

    @override
    def shell_power(self, coefficients: Array) -> Array:
        """Mean squared coefficient, weighted by each function's energy in the shell: what the mean
        |V-hat|^2 over the shell is expected to be, [F, n_shells].
        """
        n_radial = len(self._shell_mean)
        power = jnp.zeros((coefficients.shape[0], n_radial), coefficients.dtype)
        power = power.at[:, self._radial_index].add(coefficients**2)
        return power @ self._shell_mean

    @override
    def multiply_shells(self, coefficients: Array, matrices: Array) -> Array:
        """Mix the F functions by the matrices [n_shells, F, F] read at each mean frequency."""
        mixing = jnp.tensordot(self._tents, matrices, axes=1)[self._radial_index]
        return jnp.einsum("pfg,gp->fp", mixing, coefficients)
