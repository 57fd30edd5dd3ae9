"""Evaluate sums of c_lnm f_ln(|x|) Y_lm(x / |x|) at many points in JAX.

The radial functions are read from a table, the harmonics come from recurrences, so that memory
grows with the points of one chunk and not with points times functions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.molecule.spatial_basis.spherical_harmonics import real_harmonics

#: Points handled together: harmonics of one chunk stay in the cache.
_CHUNK = 1024
#: Table step times bandlimit: cubic interpolation then errs by 2e-7 (0.0234 times its 4th power).
_STEP = 0.05
#: Combinations of parities under the mirrors of z, y and x.
N_CLASSES = 8

#: A radial function table: (degree, radii [n]) to values [n_l, n].
Radial = Callable[[int, np.ndarray], np.ndarray]


def parity_classes(degree: int) -> np.ndarray:
    """int [2 l + 1], m = -l .. l: 4, 2 and 1 where Y_lm is odd in z, y and x, summed.

    A function's value at a mirrored point is its value times -1 for each odd coordinate mirrored.
    """
    m = np.arange(-degree, degree + 1)
    odd_z = (degree + np.abs(m)) % 2
    odd_y = (m < 0).astype(int)
    odd_x = (np.abs(m) + odd_y) % 2
    return 4 * odd_z + 2 * odd_y + odd_x


def is_odd_class() -> np.ndarray:
    """bool [8]: classes that hold the functions of odd degree."""
    return np.array([bin(index).count("1") % 2 == 1 for index in range(N_CLASSES)])


def split_points(points: Array) -> tuple[Array, Array]:
    """Radii [n] and unit vectors [n, 3] of points; the origin gets the direction z."""
    squared = jnp.sum(points**2, axis=1)
    zero = squared == 0.0
    radius = jnp.sqrt(jnp.where(zero, 1.0, squared))
    direction = jnp.where(zero[:, None], jnp.array([0.0, 0.0, 1.0]), points / radius[:, None])
    return jnp.where(zero, 0.0, radius), direction


@final
@dataclass(frozen=True, eq=False)
class BallFunctions:
    """Functions f_ln(|x|) Y_lm with tabulated radial parts, coefficients ordered by l, n, m.

    Attributes:
        step: between the table's radii.
        tables: for each degree, float32 [n_radii, n_l].
    """

    step: float
    tables: tuple[np.ndarray, ...]

    @staticmethod
    def tabulate(
        radial: Radial, n_degrees: int, bandlimit: float, largest: float
    ) -> "BallFunctions":
        """Tabulate radial functions of that bandlimit on 0 .. largest (at least)."""
        steps = max(64, int(np.ceil(largest * bandlimit / _STEP)))
        step = largest / steps
        radius = step * np.arange(steps + 1)
        tables = [radial(degree, radius).T.astype(np.float32) for degree in range(n_degrees)]
        return BallFunctions(step, tuple(tables))

    @property
    def largest(self) -> float:
        """The table's last radius."""
        return self.step * (len(self.tables[0]) - 1)

    @property
    def n_functions(self) -> int:
        """Sum over l of (2 l + 1) n_l."""
        return sum((2 * d + 1) * table.shape[1] for d, table in enumerate(self.tables))

    def by_class(self, coefficients: Array, points: Array) -> Array:
        """Sums over the functions of each parity class, [F, 8, n].

        Args:
            coefficients: [F, P].
            points: [n, 3] within the table's last radius.
        """
        n = points.shape[0]
        n_chunks = -(-n // _CHUNK)
        if n_chunks <= 1:
            return self._chunk(coefficients, points)
        padded = jnp.pad(points, ((0, n_chunks * _CHUNK - n), (0, 0)))
        parts = jax.lax.map(
            lambda part: self._chunk(coefficients, part), padded.reshape(n_chunks, _CHUNK, 3)
        )
        parts = jnp.moveaxis(parts, 0, 2)
        return parts.reshape(*parts.shape[:2], -1)[..., :n]

    def _weights(self, radius: Array) -> tuple[Array, Array]:
        """First of four table rows [n], and their Lagrange weights [n, 4]."""
        place = radius / self.step
        base = jnp.clip(jnp.floor(place).astype(jnp.int32) - 1, 0, len(self.tables[0]) - 4)
        t = place - base
        weights = [
            -(t - 1.0) * (t - 2.0) * (t - 3.0) / 6.0,
            t * (t - 2.0) * (t - 3.0) / 2.0,
            -t * (t - 1.0) * (t - 3.0) / 2.0,
            t * (t - 1.0) * (t - 2.0) / 6.0,
        ]
        return base, jnp.stack(weights, axis=1)

    def _chunk(self, coefficients: Array, points: Array) -> Array:
        radius, direction = split_points(points)
        base, weights = self._weights(radius)
        rows = base[:, None] + np.arange(4)
        total = jnp.zeros((coefficients.shape[0], N_CLASSES, points.shape[0]), coefficients.dtype)
        start = 0
        harmonics = real_harmonics(direction, len(self.tables))
        for degree, (table, angular) in enumerate(zip(self.tables, harmonics, strict=True)):
            count, width = table.shape[1], 2 * degree + 1
            part = coefficients[:, start : start + count * width].reshape(-1, count, width)
            start += count * width
            radial = jnp.einsum("vt,vtn->vn", weights, jnp.asarray(table)[rows])
            mixed = jnp.einsum("vn,fnm->fvm", radial, part, precision="highest") * angular
            chosen = np.eye(N_CLASSES, dtype=np.float32)[parity_classes(degree)]
            total = total + jnp.einsum("fvm,mq->fqv", mixed, chosen, precision="highest")
        return total


def dense_classes(
    radial: Radial, counts: np.ndarray, points: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Matrices of all functions at points, one for each parity class.

    Args:
        radial: (degree, radii) to values.
        counts: [L] radial functions of each degree.
        points: [n, 3].

    Returns:
        The coefficients of each class, int [P_q], and the matrices, float32 [n, P_q].
    """
    radius = np.linalg.norm(points, axis=1)
    safe = np.where(radius > 0.0, radius, 1.0)[:, None]
    direction = np.where(radius[:, None] > 0.0, points / safe, [0.0, 0.0, 1.0])
    distinct, which = np.unique(radius, return_inverse=True)
    columns: list[list[np.ndarray]] = [[] for _ in range(N_CLASSES)]
    places: list[list[np.ndarray]] = [[] for _ in range(N_CLASSES)]
    start = 0
    for degree, angular in enumerate(real_harmonics(direction, len(counts))):
        values = radial(degree, distinct)[:, which].T
        classes = parity_classes(degree)
        index = start + np.arange(values.shape[1] * len(classes)).reshape(-1, len(classes))
        start += index.size
        for chosen in np.unique(classes):
            pick = classes == chosen
            block = values[:, :, None] * angular[:, None, pick]
            columns[chosen].append(block.reshape(len(points), -1).astype(np.float32))
            places[chosen].append(index[:, pick].reshape(-1))
    empty, none = np.zeros((len(points), 0), np.float32), np.zeros(0, int)
    return (
        [np.concatenate([none, *part]) for part in places],
        [np.concatenate([empty, *part], axis=1) for part in columns],
    )
