"""Where a run's molecule moves: its variation over the particles, judged by its half maps.

The variation of the density at a voxel is Var_i V(r, tau_i) over the particles. Estimated from one
set of maps it holds their noise too; from the maps of one half set times those of the other, whose
noise is independent given poses and states, it does not: where nothing moves it scatters about 0,
and how far it falls below tells how far it rises by chance. Poses and states were found with all
images, though: what states took from the noise of all, both halves share.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from hypermol.analysis.masks import mask_from_map, sphere_mask
from hypermol.analysis.run import Run
from hypermol.io.errors import InputError

#: A voxel moves where its variation is so many times what chance reaches, and this share of the
#: largest.
_CHANCE, _SHARE = 2.0, 0.1
#: A region is told where it holds this share of all that moves.
_LEAST = 0.05
#: Standard deviation of the smoothing, and how far regions are grown, in units of the resolution.
_SMOOTH, _GROW = 0.35, 0.5
_EDGE_PX = 3.0


class MovingRegion(NamedTuple):
    """A part of space in which the molecule moves.

    Attributes:
        mask: float32 [box, box, box], 0 to 1 with a soft edge.
        share: of the variation of the whole molecule, 0 to 1.
        centre_angstrom: [3] (x, y, z), where its variation is.
    """

    mask: np.ndarray
    share: float
    centre_angstrom: np.ndarray


class Motion(NamedTuple):
    """What moves in a run.

    Attributes:
        variation: float32 [box, box, box], variance of the density over the particles, smoothed.
        chance: how far it falls below 0, and so rises by chance where nothing moves.
        regions: the largest first; none where nothing moves.
    """

    variation: np.ndarray
    chance: float
    regions: tuple[MovingRegion, ...]


def find_motion(run: Run) -> Motion:
    """The regions in which a run's molecule moves.

    Args:
        run: with states, and the half maps that a finished run has.

    Raises:
        InputError: it has neither.
    """
    resolution_px = run.info["box"] / run.info["kmax"]
    variation = ndimage.gaussian_filter(_variation(run), _SMOOTH * resolution_px)
    chance = max(-float(variation.min()), 0.0)
    moves = variation > max(_CHANCE * chance, _SHARE * variation.max())
    labels, count = ndimage.label(moves, np.ones((3, 3, 3)))
    places = np.arange(1, count + 1)
    power = np.asarray(ndimage.sum_labels(variation, labels, places))
    share = power / max(power.sum(), 1e-30)
    regions = tuple(
        _region(run, variation, labels == places[k], float(share[k]), resolution_px)
        for k in np.argsort(-share)
        if share[k] >= _LEAST
    )
    return Motion(variation.astype(np.float32), chance, regions)


def _variation(run: Run) -> np.ndarray:
    """Variance over the particles, [box, box, box], of one half's maps with the other's."""
    if not run.directory.has("halves.npz"):
        raise InputError(
            f"{run.directory.path} has no half maps (halves.npz): let `hypermol fit` finish "
            "(--resume goes on)"
        )
    if run.state_space.dim == 0:
        raise InputError(
            f"{run.directory.path} is of a rigid molecule, which has no motion: fit one with states"
        )
    halves = run.directory.read_arrays("halves.npz")
    states = run.stacked("state")[0, -1]  # the half maps are made with the first chain's last
    spread = np.cov(run.weights(states), rowvar=False).reshape(len(halves["half1"]), -1)
    values, vectors = np.linalg.eigh(spread)
    total = 0.0
    for value, vector in zip(values, vectors.T, strict=True):
        one, other = (
            run.to_box(np.tensordot(vector.astype(np.float32), halves[name], axes=1))
            for name in ("half1", "half2")
        )
        total = total + value * one.astype(np.float64) * other
    return np.asarray(total)


def _region(
    run: Run, variation: np.ndarray, inside: np.ndarray, share: float, resolution_px: float
) -> MovingRegion:
    own = np.where(inside, variation, 0.0)
    middle = np.asarray(ndimage.center_of_mass(own))[::-1] - len(own) // 2
    mask = mask_from_map(
        inside.astype(float), 0.5, 0.0, dilate_px=_GROW * resolution_px, edge_px=_EDGE_PX
    )
    pixel = run.info["pixel_size_angstrom"]
    mask = mask * sphere_mask(len(mask), run.info["radius_angstrom"] / pixel, 0.0)
    return MovingRegion(mask.astype(np.float32), share, middle * pixel)
