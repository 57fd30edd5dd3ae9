"""A particle set before a fit: what is wrong is refused or, if asked for, repaired aloud."""

from typing import NamedTuple

import numpy as np

from hypermol.data.half_sets import half_sets
from hypermol.data.image_statistics import (
    ImageStatistics,
    common_peak,
    grey_scale,
    is_mostly_noise,
    normalisation,
    outliers,
    unusable,
)
from hypermol.data.particles import ParticleSet
from hypermol.io.errors import InputError

#: Grey scales: the ratio of the 95 % to the 5 % quantile of the images' sd, or of groups' medians.
_REFUSED_RATIO, _REFUSED_GROUPS, _SAID_RATIO = 3.0, 2.0, 1.5
#: Groups that are compared, and the share of the particles by which a group's scale is refused.
_SMALLEST_GROUP, _REFUSED_SHARE = 5, 0.05
_LARGEST_SHARE_LEFT_OUT = 0.2
_NAMED = 5
#: Means that differ by so many sd are said.
_LEVELS_SAID = 3.0
#: A group is dark (white) if its centres are below (above) its corners by so many standard errors.
_SIGN_ERRORS = 5.0

_CORRECT = "leave them out with --leave-out-outliers, or extract these particles again"


def inspect(
    particles: ParticleSet, *, leave_out_outliers: bool = False, normalise: bool = False
) -> tuple[ParticleSet, list[str]]:
    """Check particles and the grey values of their images, once, before a fit.

    Args:
        particles: as loaded.
        leave_out_outliers: leave out images that differ from the others, and unusable ones.
        normalise: bring each image's background to mean 0 and sd 1.

    Returns:
        The particles to fit, and remarks: a sentence each about what is odd, left out or changed.

    Raises:
        InputError: what cannot be fitted, naming file and rows, with the remedy.
    """
    remarks = particles.check(read_images=False)
    statistics = particles.statistics()
    broken = unusable(statistics)
    if broken and not leave_out_outliers:
        place = min(broken)
        raise InputError(
            f"{particles.where(place)}: {particles.image_name(place)} {broken[place]} "
            f"({len(broken)} such images): {_CORRECT}"
        )
    usable = np.setdiff1d(np.arange(particles.n), list(broken))
    _refuse_too_many(particles, broken)
    measured = statistics.take(usable)
    rest = particles.select(usable)
    if normalise:
        offset, factor = normalisation(measured, particles.box)
        rest, measured = rest.rescaled(offset, factor), measured.rescaled(offset, factor)
        low, high = factor.min(), factor.max()
        remarks.append(
            f"normalised {rest.n} images: backgrounds have mean 0 and sd 1 now (divided by "
            f"{1 / high:.3g} to {1 / low:.3g})"
        )
    else:
        remarks += _scales(rest, measured) + _levels(rest, measured)
    remarks += _signs(rest, measured) + _common_peaks(rest, measured)
    found = outliers(measured, particles.box)
    if not found and not broken:
        return _with_halves(rest, remarks)
    strange = broken | {int(usable[place]): how for place, how in found.items()}
    named = _name(particles, strange)
    if not leave_out_outliers:
        raise InputError(
            f"{particles.source_name}: {len(strange)} of {particles.n} images differ from the "
            f"others, {named}: {_CORRECT}"
        )
    _refuse_too_many(particles, strange)
    remarks.append(f"left out {len(strange)} of {particles.n} images as outliers, {named}")
    return _with_halves(rest.select(np.setdiff1d(np.arange(rest.n), list(found))), remarks)


def _with_halves(particles: ParticleSet, remarks: list[str]) -> tuple[ParticleSet, list[str]]:
    """The particles, with what is to be said about their half sets."""
    _, said = half_sets(particles)
    return particles, remarks if said is None else [*remarks, said]


def _refuse_too_many(particles: ParticleSet, strange: dict[int, str]) -> None:
    if len(strange) > _LARGEST_SHARE_LEFT_OUT * particles.n:
        raise InputError(
            f"{particles.source_name}: {len(strange)} of {particles.n} images are unusable or "
            f"differ from the others, {_name(particles, strange)}: these are no outliers; extract "
            "the particles again, or give --normalise where their grey scales differ"
        )


def _name(particles: ParticleSet, strange: dict[int, str]) -> str:
    """The first few rows with what is strange about each."""
    rows = particles.metadata.row_numbers
    named = [f"row {rows[place]} ({strange[place]})" for place in sorted(strange)[:_NAMED]]
    more = len(strange) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


class _Groups(NamedTuple):
    """A grouping of images: what a group is called, labels [G], group of each image [N]."""

    kind: str
    labels: np.ndarray
    members: np.ndarray


def _groupings(particles: ParticleSet) -> list[_Groups]:
    """Ways to group the images, the coarsest first; groups of a few images are left out."""
    metadata = particles.metadata
    table = metadata.table.get("particles")
    keys = {
        "optics group": metadata.optics_group,
        "half set": metadata.half_set,
        "contrast sign": metadata.contrast_sign,
        "stack": metadata.stack_paths,
    }
    if table is not None and "rlnMicrographName" in table:
        keys["micrograph"] = table["rlnMicrographName"].to_numpy(dtype=str)
    found = []
    for kind, values in keys.items():
        labels, members, counts = np.unique(values, return_inverse=True, return_counts=True)
        large = np.flatnonzero(counts >= _SMALLEST_GROUP)
        if len(large) > 1:
            place = np.full(len(labels), -1)
            place[large] = np.arange(len(large))
            found.append(_Groups(kind, labels[large], place[members]))
    return found


def _scales(particles: ParticleSet, statistics: ImageStatistics) -> list[str]:
    """A remark where images' grey scales differ a little, or may do so by their signal.

    Raises:
        InputError: they differ much.
    """
    scale = grey_scale(statistics)
    low, high = np.quantile(scale, [0.05, 0.95])
    ratio, between, which = high / low, 1.0, ""
    for groups in _groupings(particles):
        medians = np.array(
            [np.median(scale[groups.members == g]) for g in range(len(groups.labels))]
        )
        first, last = int(np.argmin(medians)), int(np.argmax(medians))
        if medians[last] > _SAID_RATIO * medians[first]:
            smaller = min(np.sum(groups.members == g) for g in (first, last))
            if smaller >= _REFUSED_SHARE * particles.n:
                between = medians[last] / medians[first]
            which = (
                f"; the median is {medians[first]:.3g} in {groups.kind} {groups.labels[first]} "
                f"and {medians[last]:.3g} in {groups.kind} {groups.labels[last]}"
            )
            break
    noisy = is_mostly_noise(statistics)
    said = (
        f"{particles.source_name}: the grey scales of the images differ: the standard deviation of "
        f"{'their noise' if noisy else 'the images, which are mostly signal,'} is {low:.3g} to "
        f"{high:.3g} (5 % to 95 % of the images){which}"
    )
    if noisy and (ratio > _REFUSED_RATIO or between > _REFUSED_GROUPS):
        raise InputError(
            f"{said}: give --normalise, which brings each image's background to mean 0 and sd 1, "
            "or normalise at extraction"
        )
    if which or ratio > (_SAID_RATIO if noisy else _REFUSED_RATIO):
        return [f"{said}; --normalise brings each image's background to mean 0 and sd 1"]
    return []


def _levels(particles: ParticleSet, statistics: ImageStatistics) -> list[str]:
    low, high = np.quantile(statistics.mean, [0.05, 0.95])
    if high - low <= _LEVELS_SAID * np.median(statistics.sd):
        return []
    return [
        f"{particles.source_name}: the grey levels of the images differ: their means are {low:.3g} "
        f"to {high:.3g} (5 % to 95 % of the images); the fit leaves an image's mean out"
    ]


def _common_peaks(particles: ParticleSet, statistics: ImageStatistics) -> list[str]:
    peak = common_peak(statistics, particles.box)
    if peak is None:
        return []
    return [
        f"{particles.source_name}: most images have a pixel that is {peak:.0f} of their own sd "
        "from its neighbours, as noise has none: look for hot pixels of the camera"
    ]


def _signs(particles: ParticleSet, statistics: ImageStatistics) -> list[str]:
    """A remark where particles are white in one group of images and dark in another."""
    contrast = statistics.centre / statistics.sd
    for groups in _groupings(particles):
        errors = []
        for g in range(len(groups.labels)):
            values = contrast[groups.members == g]
            errors.append(values.mean() / max(values.std() / np.sqrt(len(values)), 1e-12))
        dark, white = int(np.argmin(errors)), int(np.argmax(errors))
        if errors[dark] < -_SIGN_ERRORS and errors[white] > _SIGN_ERRORS:
            return [
                f"{particles.source_name}: particles are white on dark ground in {groups.kind} "
                f"{groups.labels[white]} but dark on light ground in {groups.kind} "
                f"{groups.labels[dark]}: bring them to one contrast before a fit"
            ]
    return []
