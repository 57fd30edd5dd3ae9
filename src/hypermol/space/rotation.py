"""Rotations: exponential map, quaternions, composition. `R` takes molecule to microscope."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.spatial.transform import Rotation


def rotation_from_vector(vector: Array) -> Array:
    """Rodrigues' formula.

    Args:
        vector: [..., 3] rotation vectors in radians.

    Returns:
        [..., 3, 3] rotation matrices; differentiable at zero.
    """
    angle2 = jnp.sum(vector**2, axis=-1)[..., None, None]
    small = angle2 < 1e-8
    safe2 = jnp.where(small, 1.0, angle2)
    angle = jnp.sqrt(safe2)
    first = jnp.where(small, 1.0 - angle2 / 6.0, jnp.sin(angle) / angle)
    second = jnp.where(small, 0.5 - angle2 / 24.0, (1.0 - jnp.cos(angle)) / safe2)
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    zero = jnp.zeros_like(x)
    cross = jnp.stack(
        [
            jnp.stack([zero, -z, y], axis=-1),
            jnp.stack([z, zero, -x], axis=-1),
            jnp.stack([-y, x, zero], axis=-1),
        ],
        axis=-2,
    )
    return jnp.eye(3, dtype=vector.dtype) + first * cross + second * (cross @ cross)


def matrix_from_quaternion(quaternion: Array) -> Array:
    """Rotation matrices [..., 3, 3] of (not necessarily unit) quaternions [..., 4] (w, x, y, z)."""
    q = quaternion / jnp.linalg.norm(quaternion, axis=-1, keepdims=True)
    w, x, y, z = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    return jnp.stack(
        [
            jnp.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            jnp.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
            jnp.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        -2,
    )


def quaternion_from_vector(vector: Array) -> Array:
    """Unit quaternions [..., 4] (w, x, y, z) of rotation vectors [..., 3] in radians."""
    half2 = jnp.sum(vector**2, axis=-1, keepdims=True) / 4.0
    small = half2 < 1e-8
    safe = jnp.sqrt(jnp.where(small, 1.0, half2))
    scale = jnp.where(small, 0.5 - half2 / 12.0, 0.5 * jnp.sin(safe) / safe)
    real = jnp.where(small, 1.0 - half2 / 2.0, jnp.cos(safe))
    return jnp.concatenate([real, scale * vector], axis=-1)


def quaternion_multiply(left: Array, right: Array) -> Array:
    """Hamilton product [..., 4]; the matrix of the product is `matrix(left) @ matrix(right)`."""
    a, b, c, d = (left[..., i] for i in range(4))
    e, f, g, h = (right[..., i] for i in range(4))
    return jnp.stack(
        [
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ],
        axis=-1,
    )


def vector_from_quaternion(quaternion: Array) -> Array:
    """Rotation vectors [..., 3] (angle in [0, pi]) of unit quaternions [..., 4]."""
    q = jnp.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    sine2 = jnp.sum(q[..., 1:] ** 2, axis=-1, keepdims=True)
    small = sine2 < 1e-10
    sine = jnp.sqrt(jnp.where(small, 1.0, sine2))
    scale = jnp.where(small, 2.0, 2.0 * jnp.arctan2(sine, q[..., :1]) / sine)
    return scale * q[..., 1:]


def log_haar(angle2: Array) -> Array:
    """log of Haar measure's density [...] of rotation vectors with squared angles [...]: that of
    |v| is (2 - 2 cos|v|) / |v|^2 times Lebesgue's."""
    safe = jnp.where(angle2 < 1e-6, 1.0, angle2)
    exact = (2.0 - 2.0 * jnp.cos(jnp.sqrt(safe))) / safe
    return jnp.log(jnp.where(angle2 < 1e-6, 1.0 - angle2 / 12.0, exact))


def quaternion_conjugate(quaternion: Array) -> Array:
    """The inverse of unit quaternions [..., 4]."""
    return quaternion * jnp.array([1.0, -1.0, -1.0, -1.0], dtype=quaternion.dtype)


def quaternion_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """Unit quaternions float64 [..., 4] (w, x, y, z; w >= 0) of rotation matrices [..., 3, 3]."""
    return Rotation.from_matrix(matrix).as_quat(canonical=True, scalar_first=True)


def angle_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angle in degrees [n] of the rotation that takes matrices `first` to `second` [n, 3, 3]."""
    # arcsin of the chord is accurate for small angles, arccos of the trace is not
    chord = np.linalg.norm(first - second, axis=(-2, -1)) / (2.0 * np.sqrt(2.0))
    return np.degrees(2.0 * np.arcsin(np.clip(chord, 0.0, 1.0)))


def random_quaternions(key: Array, n: int) -> Array:
    """Uniform rotations: unit quaternions [n, 4]."""
    q = jax.random.normal(key, (n, 4))
    return q / jnp.linalg.norm(q, axis=-1, keepdims=True)
