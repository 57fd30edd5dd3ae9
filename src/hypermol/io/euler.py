"""RELION's Euler angles and rotation vectors as rotation matrices (SciPy's, float64).

`R` takes molecule coordinates to microscope coordinates (CONVENTIONS.md); it is the inverse of the
turn that RELION's (rot, tilt, psi) describe about the molecule's own axes z, y, z.
"""

import numpy as np
from scipy.spatial.transform import Rotation

_RELION_AXES = "ZYZ"


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
    angles = np.stack(np.broadcast_arrays(rot_deg, tilt_deg, psi_deg), axis=-1)
    turn = Rotation.from_euler(_RELION_AXES, angles, degrees=True)
    return turn.inv().as_matrix()


def euler_from_rotation(rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rot, tilt, psi) in degrees, with tilt in [0, 180], of rotation matrices [..., 3, 3].

    Where tilt is within 1e-7 rad of 0 or 180 degrees, rot and psi turn about one axis: psi is 0
    and rot holds both.
    """
    turn = Rotation.from_matrix(rotation).inv()
    angles = turn.as_euler(_RELION_AXES, degrees=True, suppress_warnings=True)
    return angles[..., 0], angles[..., 1], angles[..., 2]


def rotation_from_vector(vector: np.ndarray) -> np.ndarray:
    """Rotation matrices [..., 3, 3] by |v| radians, counter-clockwise about v [..., 3]."""
    return Rotation.from_rotvec(vector).as_matrix()
