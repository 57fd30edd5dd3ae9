"""RELION's Euler angles and rotation vectors as rotation matrices (NumPy, float64).

`R` takes molecule coordinates to microscope coordinates (CONVENTIONS.md).
"""

import numpy as np


def rotation_from_euler(
    rot_deg: np.ndarray | float, tilt_deg: np.ndarray | float, psi_deg: np.ndarray | float
) -> np.ndarray:
    """`R = Rz(-psi) Ry(-tilt) Rz(-rot)`, RELION's Euler matrix.

    Args:
        rot_deg: [...] first angle, about z, in degrees.
        tilt_deg: [...] second angle, about y, in degrees.
        psi_deg: [...] third angle, about z (in the image plane), in degrees.

    Returns:
        float64 [..., 3, 3].
    """
    angles = np.broadcast_arrays(*(np.deg2rad(a) for a in (rot_deg, tilt_deg, psi_deg)))
    ca, cb, cg = (np.cos(a) for a in angles)
    sa, sb, sg = (np.sin(a) for a in angles)
    entries = [
        [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
        [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
        [sb * ca, sb * sa, cb],
    ]
    return np.stack([np.stack(row, axis=-1) for row in entries], axis=-2)


def euler_from_rotation(rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rot, tilt, psi) in degrees, with tilt in [0, 180], of rotation matrices [..., 3, 3].

    psi is what remains once rot and tilt are undone, so that the three angles give back the
    rotation also where tilt is 0 or 180 degrees and rot alone means nothing.
    """
    matrix = np.asarray(rotation, dtype=np.float64)
    sin_tilt = np.hypot(matrix[..., 2, 0], matrix[..., 2, 1])
    rot = np.arctan2(matrix[..., 2, 1], matrix[..., 2, 0])
    tilt = np.arctan2(sin_tilt, matrix[..., 2, 2])
    without_psi = rotation_from_euler(np.rad2deg(rot), np.rad2deg(tilt), 0.0)
    first_row = matrix[..., 0, :]
    psi = np.arctan2(
        np.sum(first_row * without_psi[..., 1, :], axis=-1),
        np.sum(first_row * without_psi[..., 0, :], axis=-1),
    )
    return np.rad2deg(rot), np.rad2deg(tilt), np.rad2deg(psi)


def rotation_from_vector(vector: np.ndarray) -> np.ndarray:
    """Rotation matrices [..., 3, 3] by |v| radians, counter-clockwise about v [..., 3]."""
    v = np.asarray(vector, dtype=np.float64)
    angle = np.linalg.norm(v, axis=-1)[..., None, None]
    zero = np.zeros_like(v[..., 0])
    x, y, z = v[..., 0], v[..., 1], v[..., 2]
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    cross = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    first = np.sinc(angle / np.pi)
    second = 0.5 * np.sinc(angle / (2.0 * np.pi)) ** 2
    return np.eye(3) + first * cross + second * (cross @ cross)
