"""Trilinear slices of an oversampled Fourier grid and their hand-written adjoint.

The grid holds several real-input transforms side by side, values of one voxel contiguous
([z, y, x >= 0, 2 F] floats: F real parts, then F imaginary parts), because a slice is bound by
memory latency. Autodiff through the gather would materialise a grid per point; the adjoint here
scatters into one grid.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

#: Rotations sliced together; larger blocks fall out of the cache (measured).
CHUNK = 32


def grid_radius(kmax: int, oversampling: float) -> int:
    """Largest grid index needed by slices up to kmax."""
    return int(np.ceil(kmax * oversampling)) + 1


def _points(rotation: Array, frequencies: Array) -> tuple[Array, Array]:
    """Points R^T k folded to x >= 0, and -1 where one was folded; (kx, ky) has kz = 0."""
    points = frequencies @ rotation[: frequencies.shape[1]]
    sign = jnp.where(points[:, 0] < 0, -1.0, 1.0)
    return points * sign[:, None], sign


def _corners(points: Array, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Flat indices [8, K], weights [8, K] and gradients [8, K, 3] of the trilinear stencil."""
    depth, rows, columns = shape
    centre = depth // 2
    lower = jnp.floor(points)
    fraction = points - lower
    index = lower.astype(jnp.int32)
    base = ((index[:, 2] + centre) * rows + index[:, 1] + centre) * columns + index[:, 0]
    pairs = jnp.stack([1.0 - fraction, fraction])  # [2, K, 3]
    slopes = jnp.array([-1.0, 1.0], points.dtype)
    indices, weights, gradients = [], [], []
    for dz in (0, 1):
        for dy in (0, 1):
            for dx in (0, 1):
                wx, wy, wz = pairs[dx, :, 0], pairs[dy, :, 1], pairs[dz, :, 2]
                indices.append(base + (dz * rows + dy) * columns + dx)
                weights.append(wx * wy * wz)
                gradients.append(
                    jnp.stack(
                        [slopes[dx] * wy * wz, slopes[dy] * wx * wz, slopes[dz] * wx * wy], -1
                    )
                )
    return jnp.stack(indices), jnp.stack(weights), jnp.stack(gradients)


def _gather(flat: Array, indices: Array) -> Array:
    return flat.at[indices].get(mode="promise_in_bounds")


def _slice_one(flat: Array, shape: tuple[int, ...], rotation: Array, freq: Array) -> Array:
    points, sign = _points(rotation, freq)
    indices, weights, _ = _corners(points, shape)
    total = weights[0][:, None] * _gather(flat, indices[0])
    for corner in range(1, 8):
        total = total + weights[corner][:, None] * _gather(flat, indices[corner])
    half = flat.shape[1] // 2
    return jax.lax.complex(total[:, :half].T, sign * total[:, half:].T)


@partial(jax.custom_vjp)
def slices(grid: Array, rotations: Array, frequencies: Array) -> Array:
    """Central slices of the grid's F transforms.

    Args:
        grid: float [D, D, X, 2 F], z and y centred at D // 2, x from 0.
        rotations: [B, 3, 3], molecule to microscope.
        frequencies: [K, 2] (kx, ky) in grid units, or [K, 3] for points anywhere.

    Returns:
        complex [B, F, K].
    """
    flat = grid.reshape(-1, grid.shape[-1])
    shape = grid.shape[:3]
    return jax.lax.map(
        lambda rotation: _slice_one(flat, shape, rotation, frequencies),
        rotations,
        batch_size=min(CHUNK, rotations.shape[0]),
    )


def _slices_forward(grid: Array, rotations: Array, frequencies: Array):
    return slices(grid, rotations, frequencies), (grid, rotations, frequencies)


def _real_cotangent(cotangent: Array, sign: Array) -> Array:
    """[K, 2 F] cotangent of the gathered floats of one slice, given JAX's complex cotangent."""
    return jnp.concatenate([cotangent.real.T, -(sign * cotangent.imag).T], axis=-1)


def _slices_backward(residuals, cotangent: Array):
    grid, rotations, frequencies = residuals
    flat, shape = grid.reshape(-1, grid.shape[-1]), grid.shape[:3]

    def scatter(total: Array, item: tuple[Array, Array]) -> tuple[Array, None]:
        rotation, value = item
        points, sign = _points(rotation, frequencies)
        indices, weights, _ = _corners(points, shape)
        floats = _real_cotangent(value, sign)
        for corner in range(8):
            total = total.at[indices[corner]].add(
                weights[corner][:, None] * floats, mode="promise_in_bounds"
            )
        return total, None

    def turn(item: tuple[Array, Array]) -> Array:
        rotation, value = item
        points, sign = _points(rotation, frequencies)
        indices, _, gradients = _corners(points, shape)
        floats = _real_cotangent(value, sign)
        along = jnp.einsum("cke,ckf,kf->ke", gradients, _gather(flat, indices), floats)
        top = jnp.einsum("kd,ke->de", frequencies, along * sign[:, None])
        return jnp.concatenate([top, jnp.zeros((3 - len(top), 3), top.dtype)])

    grid_cotangent = jax.lax.scan(scatter, jnp.zeros_like(flat), (rotations, cotangent))[0]
    rotation_cotangent = jax.lax.map(turn, (rotations, cotangent))
    return (
        grid_cotangent.reshape(grid.shape),
        rotation_cotangent,
        jnp.zeros_like(frequencies),
    )


slices.defvjp(_slices_forward, _slices_backward)


def spread(
    radius: int, rotations: Array, frequencies: Array, weights: Array, channels: Array
) -> Array:
    """Weights of all slices' points added up on a grid: the adjoint of trilinear reading.

    Args:
        radius: of the grid, as of `grid_radius`.
        rotations: [M, 3, 3].
        frequencies: [K, 2] in grid units.
        weights: [M, K] of every point.
        channels: [M, C] factors of every slice.

    Returns:
        [2 radius + 1, 2 radius + 1, radius + 1, C], points folded to x >= 0.
    """
    shape = (2 * radius + 1, 2 * radius + 1, radius + 1)

    def add(total: Array, item: tuple[Array, Array, Array]) -> tuple[Array, None]:
        rotation, weight, channel = item
        points, _ = _points(rotation, frequencies)
        indices, shares, _ = _corners(points, shape)
        for corner in range(8):
            values = (shares[corner] * weight)[:, None] * channel
            total = total.at[indices[corner]].add(values, mode="promise_in_bounds")
        return total, None

    empty = jnp.zeros((int(np.prod(shape)), channels.shape[-1]), jnp.float32)
    total, _ = jax.lax.scan(add, empty, (rotations, weights, channels))
    return total.reshape(*shape, -1)
