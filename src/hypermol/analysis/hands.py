"""Whether some states of a molecule are mirror images of others (figure 5 of the paper).

A molecule and its reflection give the same projections, so that a model with states may show both,
each to a part of the particles, and call the difference a motion. Then a state is more alike to
the mirror image of another one, turned as fits best, than to that other one itself.
"""

from typing import NamedTuple

import numpy as np

from hypermol.analysis.alignment import align_both_hands
from hypermol.space.fourier import crop_or_pad_volume

#: Voxels a side that hands are told on, and states that are compared.
_BOX, _STATES = 28, 5
#: A state has the other hand if its mirror image agrees by so much more, and by so much.
_CLEARLY, _ALIKE = 0.05, 0.7
#: A molecule some of whose states agree so well with mirror images is nearly its own. Agreements
#: that were met: the cat, which is, 0.94 to 0.98; adk and pretzels, 0.47 to 0.73.
_OWN_MIRROR = 0.92


class HandStanding(NamedTuple):
    """How states agree with the strongest one of them.

    Attributes:
        states: [K, d], that one first.
        kept: [K - 1] correlations of the others with it, turned as fits best.
        mirrored: [K - 1] of their mirror images.
    """

    states: list[list[float]]
    kept: list[float]
    mirrored: list[float]

    @property
    def other_hand(self) -> list[bool]:
        """Which of the others are its mirror image, more or less."""
        pairs = zip(self.kept, self.mirrored, strict=True)
        return [bool(m > k + _CLEARLY and m > _ALIKE) for k, m in pairs]

    @property
    def is_mixed(self) -> bool:
        """Whether any is."""
        return any(self.other_hand)

    @property
    def is_own_mirror(self) -> bool:
        """Whether the molecule is nearly its own mirror image, so that one half of a motion may be
        taken for mirror images of the other."""
        return max(self.mirrored, default=0.0) > _OWN_MIRROR


def judge_hands(states: np.ndarray, volumes: np.ndarray) -> HandStanding:
    """Compare states [K, d] with the one whose volume has most power.

    Args:
        states: [K, d].
        volumes: [K, n, n, n] of these states, in any units.
    """
    small = crop_or_pad_volume(volumes, min(_BOX, volumes.shape[-1]))
    power = np.var(small.reshape(len(small), -1), axis=1)
    first = int(np.argmax(power))
    others = [place for place in range(len(small)) if place != first]
    hands = [align_both_hands(small[place], small[first], 1.0) for place in others]
    return HandStanding(
        np.asarray(states, np.float64)[[first, *others]].tolist(),
        [float(hand.kept.score) for hand in hands],
        [float(hand.mirrored.score) for hand in hands],
    )


def states_apart(states: np.ndarray, n: int = _STATES) -> np.ndarray:
    """Up to n different states [K, d] of the states [N, d] of particles, far from one another.

    The first is the one in the middle, each further one the one farthest from those before it.
    """
    nearest = ((states - np.median(states, axis=0)) ** 2).sum(axis=1)
    chosen = [int(np.argmin(nearest))]
    nearest = ((states - states[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < n and nearest.max() > 0.0:
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, ((states - states[chosen[-1]]) ** 2).sum(axis=1))
    return states[chosen]
