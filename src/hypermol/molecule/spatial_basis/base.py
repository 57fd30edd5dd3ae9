"""What every spatial basis offers: evaluate, slice, and know its prior's frequencies."""

import abc

import numpy as np
from jax import Array


class SpatialBasis(abc.ABC):
    """A linear map from coefficients to densities (eq. 1), and fast slices of their transforms."""

    @property
    @abc.abstractmethod
    def coefficient_shape(self) -> tuple[int, ...]:
        """Shape of one function's coefficients."""

    @property
    @abc.abstractmethod
    def n_coefficients(self) -> int:
        """Number of free coefficients of one function."""

    @property
    @abc.abstractmethod
    def n_shells(self) -> int:
        """Shells of the quadratic prior: 0 .. kmax, and one for what lies above."""

    @property
    @abc.abstractmethod
    def slice_gain(self) -> np.ndarray:
        """[n_shells] Fourier multiplier per unit weight of one half-plane slice pixel: what a
        pixel's |slice|^2 adds to the mean over its shell of the normal operator."""

    @property
    @abc.abstractmethod
    def power_gain(self) -> float:
        """Mean |slice|^2 of a density whose `shell_power` is 1."""

    @abc.abstractmethod
    def prepare(self, coefficients: Array) -> Array:
        """Turn coefficients [F, *shape] into whatever makes slices fast. Linear."""

    @abc.abstractmethod
    def slices(self, prepared: Array, rotations: Array, frequencies: Array) -> Array:
        """Central slices, complex [B, F, K], at [K, 2] frequencies in 1/box. Linear in prepared."""

    @abc.abstractmethod
    def fourier(self, coefficients: Array, points: Array) -> Array:
        """V-hat, complex [F, n], at points [n, 3] in 1/Angstrom by direct evaluation."""

    @abc.abstractmethod
    def density(self, coefficients: Array) -> Array:
        """Densities [F, n, n, n] on the basis' own grid, in units of the images' pixels."""

    @abc.abstractmethod
    def precision(self, coefficients: Array, weights: Array) -> Array:
        """Quadratic prior: apply sum over shells of weights [F, n_shells] |V-hat|^2. Linear."""

    @abc.abstractmethod
    def precision_root(self, white: Array, weights: Array) -> Array:
        """Map white noise to noise whose covariance is `precision`'s matrix."""

    @abc.abstractmethod
    def shell_power(self, coefficients: Array) -> Array:
        """Mean |V-hat|^2 per shell, [F, n_shells], in the precision's units."""

    @abc.abstractmethod
    def multiply_shells(self, coefficients: Array, matrices: Array) -> Array:
        """Mix F functions by one symmetric matrix [n_shells, F, F] per shell: preconditioners."""
