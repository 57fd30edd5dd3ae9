"""Half sets of particles: the input's own, or made here where the input has none to use."""

import numpy as np

from hypermol.data.particles import ParticleSet

#: The smaller half must hold this share of the particles.
_LEAST_SHARE = 0.25


def half_sets(particles: ParticleSet) -> tuple[np.ndarray, str | None]:
    """Half set int64 [N], 1 or 2, of each particle, and a remark where they are not the input's.

    Halves that are made here alternate over the images in the input's order. Rows of one image
    (symmetry expansion) stay in one half: halves that share noise agree for no good reason.
    """
    given = particles.half_set
    counts = [int(np.sum(given == half)) for half in (1, 2)]
    assigned = sum(counts)
    source = particles.source_name
    if assigned == 0:
        return _alternating(particles), (
            f"{source} has no half sets: half maps are made of odd and even images"
        )
    if min(counts) < _LEAST_SHARE * particles.n:
        return _alternating(particles), (
            f"{source} has {counts[0]} particles in half set 1 and {counts[1]} in half set 2 of "
            f"{particles.n}: half maps are made of odd and even images instead"
        )
    made = given.copy()
    said = None
    if assigned < particles.n:
        rest = np.flatnonzero(given == 0)
        made[rest] = 1 + np.arange(len(rest)) % 2
        said = (
            f"{source} has {len(rest)} particles in no half set: they were put into 1 and 2 by "
            "turns"
        )
    image = particles.image_numbers()
    both = np.intersect1d(image[made == 1], image[made == 2])
    if len(both):
        return _alternating(particles), (
            f"{source} has {len(both)} images in both half sets, which would agree by their noise: "
            "half maps are made of odd and even images instead"
        )
    return made, said


def _alternating(particles: ParticleSet) -> np.ndarray:
    return 1 + particles.image_numbers() % 2
