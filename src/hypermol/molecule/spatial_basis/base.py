"""What every spatial basis offers: evaluate, slice, and know its prior's frequencies."""

import abc

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

#: Stop of the least squares of `expand`: relative residual, and iterations at most.
_EXPAND_TOLERANCE, _EXPAND_ITERATIONS = 1e-5, 60
#: Ridge of `expand` relative to the mean curvature: only directions that the grid hardly sees
#: feel it (Gaussians wider than their spacing).
_EXPAND_RIDGE = 1e-4


class SpatialBasis(abc.ABC):
    """A linear map from coefficients to densities (eq. 1), and fast slices of their transforms.

    A coefficient array whose entries are white with unit variance is a density close to one that
    is white in the support with unit variance a voxel of the grid `n`, as far as the basis can
    hold it: prior spectra carry from basis to basis.
    """

    @property
    @abc.abstractmethod
    def n(self) -> int:
        """Side of the grid of `density`, which spans the images' box."""

    @property
    @abc.abstractmethod
    def voxel_size_angstrom(self) -> float:
        """Side of that grid's voxels."""

    @property
    @abc.abstractmethod
    def scale(self) -> float:
        """Orthonormal image coefficient per unit of sum over that grid's voxels (CONVENTIONS.md:
        images are sums over z of the density sampled at the images' pixel size)."""

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

    def expand(self, density: Array) -> Array:
        """Coefficients [F, *shape] of densities [F, n, n, n] on the grid: least squares inside the
        support, by conjugate gradients on the normal equations with a slight ridge.
        """
        zero = jnp.zeros((density.shape[0], *self.coefficient_shape))
        transpose = jax.linear_transpose(self.density, zero)
        probe = jax.random.rademacher(jax.random.key(0), zero.shape, zero.dtype)
        curvature = jnp.sum(self.density(probe) ** 2) / (len(density) * self.n_coefficients)

        def normal(x: Array) -> Array:
            return transpose(self.density(x))[0] + _EXPAND_RIDGE * curvature * x

        return jax.scipy.sparse.linalg.cg(
            normal,
            transpose(jnp.asarray(density, zero.dtype))[0],
            tol=_EXPAND_TOLERANCE,
            maxiter=_EXPAND_ITERATIONS,
        )[0]

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

    def is_kept_by(self, operator: np.ndarray) -> bool:
        """Whether the functions turned by a rotation [3, 3] are its own again: only then is there
        `turned`."""
        return False

    def turned(self, coefficients: Array, operator: np.ndarray) -> Array:
        """Coefficients [F, *shape] of the densities V(S^T r), S the rotation [3, 3]. Linear."""
        raise NotImplementedError(f"{type(self).__name__} cannot be turned")
