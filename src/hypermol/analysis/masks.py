"""Soft masks for scoring: a sphere, or the region that a map occupies."""

import numpy as np
from scipy import ndimage

from hypermol.space.fourier import voxel_radii


def _cosine_edge(distance: np.ndarray, edge_px: float) -> np.ndarray:
    """1 where distance <= 0, 0 beyond edge_px, a raised cosine between."""
    if edge_px <= 0:
        return (distance <= 0).astype(np.float64)
    return 0.5 * (1.0 + np.cos(np.pi * np.clip(distance / edge_px, 0.0, 1.0)))


def sphere_mask(box: int, radius_px: float | None = None, edge_px: float = 4.0) -> np.ndarray:
    """Soft sphere about voxel n // 2.

    Args:
        box: side n of the cube in pixels.
        radius_px: where the edge begins; by default the edge ends at the box's face.
        edge_px: width of the cosine edge, outside the radius.

    Returns:
        float64 [n, n, n] in [0, 1].
    """
    inner = (box - 1) // 2 - edge_px if radius_px is None else radius_px
    return _cosine_edge(voxel_radii(box) - inner, edge_px)


def mask_from_map(
    volume: np.ndarray,
    threshold: float = 0.1,
    smooth_px: float = 1.0,
    dilate_px: float = 3.0,
    edge_px: float = 4.0,
) -> np.ndarray:
    """Soft mask of the region where a map has density, e.g. the mean of the true maps.

    The map is smoothed by a Gaussian, cut at a fraction of its maximum, grown by `dilate_px`
    (Euclidean) and given a raised-cosine edge of `edge_px` outside that.

    Args:
        volume: real [n, n, n], density positive.
        threshold: fraction of the smoothed map's maximum.
        smooth_px: standard deviation of the Gaussian, pixels.
        dilate_px: how far the region is grown, pixels.
        edge_px: width of the cosine edge, pixels.

    Returns:
        float64 [n, n, n] in [0, 1].

    Raises:
        ValueError: the map has no positive density.
    """
    smooth = ndimage.gaussian_filter(np.asarray(volume, dtype=np.float64), smooth_px)
    peak = smooth.max()
    if not peak > 0:
        raise ValueError("the map has no positive density to make a mask of: is its sign inverted?")
    distance = ndimage.distance_transform_edt(smooth < threshold * peak)
    return _cosine_edge(distance - dilate_px, edge_px)
