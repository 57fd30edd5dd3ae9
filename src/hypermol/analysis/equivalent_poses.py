"""Poses and states that a molecule of parts under a symmetry cannot tell apart.

Copies of a part at places S_p share everything but their states, so that V(S r, pi tau) = V(r, tau)
where S permutes the places and pi their states: an image of (R, tau) is one of (R S^T, pi tau) too.
Parts that stand at one place alone are left out of this: a rigid base that has not the symmetry
tells the two apart, if it is seen well enough.
"""

from typing import NamedTuple

import numpy as np

from hypermol.analysis.gauge import Gauge, align_poses, apply_to_poses, pose_errors
from hypermol.molecule.composite import Composite
from hypermol.molecule.parts import Part

Poses = tuple[np.ndarray, np.ndarray]

_ROUNDS = 5
#: Particles whose gauge is tried, those that are counted then, and the angle within which they are.
_TRIED, _COUNTED, _NEAR_DEG = 60, 400, 25.0


class Equivalent(NamedTuple):
    """Another description of the same image: R S^T, with states in another order.

    Attributes:
        rotation: [3, 3] S.
        source: for every coordinate of the state the one that it is taken from.
    """

    rotation: np.ndarray
    source: tuple[int, ...]


class Choice(NamedTuple):
    """Which description of each particle is nearest to the truth.

    Attributes:
        gauge: takes the chosen poses to the true ones.
        which: int [N], 0 where a particle stays as it is.
    """

    gauge: Gauge
    which: np.ndarray


def equivalents(molecule: Composite) -> tuple[Equivalent, ...]:
    """All descriptions of an image, as it is first; only that one where no part has copies."""
    same = Equivalent(np.eye(3), tuple(range(molecule.state_space.dim)))
    shared = [part for part in molecule.parts if len(part.places) > 1]
    where = {name: column for column, name in enumerate(molecule.state_space.names)}
    found = [same]
    for place in shared[0].places[1:] if shared else ():
        operator = np.asarray(place.rotation) @ np.asarray(shared[0].places[0].rotation).T
        source = _order(shared, operator, where)
        if source is not None:
            found.append(Equivalent(operator, source))
    return tuple(found)


def _order(
    parts: list[Part], operator: np.ndarray, where: dict[str, int]
) -> tuple[int, ...] | None:
    """The order of states that goes with an operator; None where it is no symmetry of a part."""
    source: dict[int, int] = {}
    for part in parts:
        rotations = np.array([place.rotation for place in part.places])
        for place in part.places:
            gaps = np.abs(rotations - operator.T @ np.asarray(place.rotation)).max(axis=(1, 2))
            if gaps.min() > 1e-3:
                return None
            other = part.places[int(gaps.argmin())]
            for name, taken in zip(place.knobs, other.knobs, strict=True):
                if source.setdefault(where[name], where[taken]) != where[taken]:
                    return None
    return tuple(source.get(column, column) for column in range(len(where)))


def turned(poses: Poses, choices: tuple[Equivalent, ...], index: np.ndarray) -> Poses:
    """Rotations [N, 3, 3] and shifts [N, 2] of the descriptions int [N]."""
    operators = np.array([choice.rotation for choice in choices])[index]
    return poses[0] @ np.swapaxes(operators, -1, -2), poses[1]


def _angles(
    gauge: Gauge, estimated: Poses, true: Poses, choices: tuple[Equivalent, ...]
) -> np.ndarray:
    """Angle of every description to the truth in degrees, [choices, N]."""
    places = [np.full(len(true[0]), place) for place in range(len(choices))]
    return np.stack(
        [pose_errors(gauge, turned(estimated, choices, place), true)[0] for place in places]
    )


def _first(estimated: Poses, true: Poses, choices: tuple[Equivalent, ...]) -> Gauge:
    """The gauge of one particle, of some, in which most are near the truth in some description.

    The mean over particles is of no use here: where each has its own description at random, it
    lies between them.
    """
    count = len(true[0])
    some = np.linspace(0, count - 1, min(count, _COUNTED)).astype(int)
    few, true_few = (estimated[0][some], estimated[1][some]), (true[0][some], true[1][some])
    best, most = Gauge(), -1.0
    for flipped in (False, True):
        own, _ = apply_to_poses(Gauge(flipped=flipped), *estimated)
        for row in np.linspace(0, count - 1, min(count, _TRIED)).astype(int):
            gauge = Gauge(true[0][row].T @ own[row], flipped=flipped)
            near = float(np.mean(_angles(gauge, few, true_few, choices).min(axis=0) < _NEAR_DEG))
            if near > most:
                best, most = gauge, near
    return best


def choose(estimated: Poses, true: Poses, choices: tuple[Equivalent, ...]) -> Choice:
    """The description of each particle whose pose is nearest to the truth's, gauge and all.

    Gauge and descriptions are found in turn, from the gauge in which most particles are near.
    """
    index = np.zeros(len(true[0]), np.intp)
    gauge = align_poses(estimated, true) if len(choices) == 1 else _first(estimated, true, choices)
    for _ in range(_ROUNDS if len(choices) > 1 else 0):
        before, index = index, np.argmin(_angles(gauge, estimated, true, choices), axis=0)
        if np.array_equal(before, index):
            break
        gauge = align_poses(turned(estimated, choices, index), true)
    return Choice(gauge, index)


def reordered(states: np.ndarray, choices: tuple[Equivalent, ...], index: np.ndarray) -> np.ndarray:
    """States [..., N, dim] of the descriptions int [N]."""
    source = np.array([choice.source for choice in choices], np.intp)[index]
    return np.take_along_axis(states, np.broadcast_to(source, states.shape), axis=-1)
