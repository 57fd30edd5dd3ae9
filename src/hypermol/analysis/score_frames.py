"""Scores of runs whose poses were found from nothing, each state in its own frame.

Where no pose was known, nothing in the images says how a molecule that deforms stands in one state
relative to another: V(g(tau) r, tau) seen from poses R g(tau) gives the same images (sec. 6.2). The
truth's superposition is one choice of g and the run's is another. Here g is told from poses: one
gauge for each of a few bins of the true state, as the one gauge of all particles is elsewhere.
"""

from typing import Any, NamedTuple

import numpy as np

from hypermol.analysis.fsc import per_image_fsc
from hypermol.analysis.gauge import (
    Gauge,
    align_poses,
    apply_to_poses,
    apply_to_volume,
    pose_errors,
)
from hypermol.analysis.masks import mask_from_map
from hypermol.analysis.truth import Truth
from hypermol.analysis.volumes import ImageVolumes
from hypermol.space.rotation import angle_between

#: Bins of the true state, by quantiles.
_BINS = 12
#: An image that is so near counts as aligned.
_ALIGNED_DEG = 10.0

Poses = tuple[np.ndarray, np.ndarray]


class Frames(NamedTuple):
    """The gauge of each bin of true states, and the bin of each particle [N]."""

    gauges: tuple[Gauge, ...]
    which: np.ndarray

    def apply(self, poses: Poses) -> Poses:
        """Rotations [N, 3, 3] and shifts [N, 2] of all particles in the truth's frame."""
        rotations, shifts = (np.array(values, np.float64) for values in poses)
        for place, gauge in enumerate(self.gauges):
            own = self.which == place
            rotations[own], shifts[own] = apply_to_poses(gauge, rotations[own], shifts[own])
        return rotations, shifts

    def errors(self, estimated: Poses, true: Poses) -> tuple[np.ndarray, np.ndarray]:
        """Angles in degrees and distances of shifts, [N] each."""
        return pose_errors(Gauge(), self.apply(estimated), true)


def one_frame(gauge: Gauge, n_particles: int) -> Frames:
    """The same gauge for all particles."""
    return Frames((gauge,), np.zeros(n_particles, np.intp))


def state_frames(estimated: Poses, truth: Truth) -> Frames:
    """One gauge for each bin, of the same hand: that of all particles.

    Args:
        estimated: rotations [N, 3, 3] and shifts in Angstrom [N, 2].
        truth: with one state variable.
    """
    states = truth.states[:, 0]
    edges = np.quantile(states, np.linspace(0.0, 1.0, _BINS + 1)[1:-1])
    which = np.searchsorted(edges, states, side="right")
    true = truth.rotations, truth.shifts_angstrom
    whole = align_poses(estimated, true)
    gauges = []
    for place in range(_BINS):
        own = which == place
        gauge = whole
        if own.sum() > 1:
            found = align_poses(tuple(p[own] for p in estimated), tuple(p[own] for p in true))
            gauge = found if found.flipped == whole.flipped else whole
        gauges.append(gauge)
    return Frames(tuple(gauges), which)


def score_frames(
    frames: Frames,
    estimated: Poses,
    truth: Truth,
    images: np.ndarray,
    volumes: ImageVolumes,
    pixel_size: float,
) -> dict[str, Any]:
    """Errors of poses, and per-image FSC areas, after each bin's own gauge.

    Args:
        frames: of `state_frames`.
        estimated: posterior mean rotations [N, 3, 3] and shifts in Angstrom [N, 2].
        truth: of the same particles, with one state variable.
        images: the scored ones.
        volumes: theirs.
        pixel_size: Angstrom.
    """
    angles, distances = frames.errors(estimated, (truth.rotations, truth.shifts_angstrom))
    areas: dict[str, list[float]] = {"unmasked": [], "masked": []}
    mask = mask_from_map(truth.mean_map())
    for image in images:
        found = apply_to_volume(
            frames.gauges[frames.which[image]], volumes.volume(image), pixel_size
        )
        true = truth.maps[truth.frame[image]].astype(np.float32)
        for kind, used in (("unmasked", None), ("masked", mask)):
            areas[kind].append(_area(found, true, used))
    turns = np.stack([gauge.rotation for gauge in frames.gauges])
    return {
        "rotation_error_deg_median": float(np.median(angles)),
        "aligned_within_10_deg": float(np.mean(angles < _ALIGNED_DEG)),
        "shift_error_px_median": float(np.median(distances) / pixel_size),
        "span_deg": float(angle_between(turns[:, None], turns[None]).max()),
        **{f"area_{kind}": float(np.mean(values)) for kind, values in areas.items()},
    }


def _area(found: np.ndarray, true: np.ndarray, mask: np.ndarray | None) -> float:
    """CryoBench's FSC area of one image's volume."""
    return per_image_fsc(lambda _: found, lambda _: true, [0], mask).mean
