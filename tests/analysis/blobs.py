"""A molecule of Gaussian balls: density and projection are known in closed form."""

import numpy as np

SIGMA_PX = 1.8


def blob_points(seed: int = 3, n: int = 14, radius_px: float = 9.0) -> tuple[np.ndarray, ...]:
    """Centres [n, 3] (x, y, z) in pixels, no symmetry, and masses [n]."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n, 3)) * np.array([1.0, 0.6, 0.35]) * radius_px
    return np.clip(centres, -11, 11), rng.uniform(0.5, 1.5, n)


def blob_volume(centres: np.ndarray, masses: np.ndarray, box: int) -> np.ndarray:
    """[box, box, box] density (z, y, x) sampled at voxels, origin box // 2."""
    axis = np.arange(box) - box // 2
    out = np.zeros((box, box, box))
    for (x, y, z), mass in zip(centres, masses, strict=True):
        gx, gy, gz = (np.exp(-((axis - c) ** 2) / (2 * SIGMA_PX**2)) for c in (x, y, z))
        out += mass * gz[:, None, None] * gy[None, :, None] * gx
    return out


def blob_image(
    centres: np.ndarray, masses: np.ndarray, rotation: np.ndarray, shift: np.ndarray, box: int
) -> np.ndarray:
    """[box, box] integral over z of the rotated molecule, moved by +shift (x, y)."""
    axis = np.arange(box) - box // 2
    moved = centres @ rotation.T
    moved[:, :2] += shift
    out = np.zeros((box, box))
    for (x, y, _), mass in zip(moved, masses, strict=True):
        gx, gy = (np.exp(-((axis - c) ** 2) / (2 * SIGMA_PX**2)) for c in (x, y))
        out += mass * np.sqrt(2 * np.pi) * SIGMA_PX * gy[:, None] * gx
    return out
