"""Where the mirror image of a motion lies on the motion itself, for molecules that are nearly their
own mirror images.

Of such a molecule the mirror image of state u, turned as fits, looks like another state: turn - u,
for the mirror image runs backwards.
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize
from scipy.spatial.transform import Rotation

from hypermol.analysis.alignment import align_mirrored
from hypermol.analysis.gauge import Gauge, flip_hand
from hypermol.analysis.map_matching import (
    Interpolant,
    centred_transform,
    half_ball,
    interpolant,
    reference_at,
)

#: Nodes whose mirror images are laid onto each other at first, places where turn is looked for, and
#: the shell up to which all of them are compared.
_PAIRED, _TURNS, _SHELL = 4, 81, 8


class MirrorMotion(NamedTuple):
    """The mirror image of a motion.

    Attributes:
        gauge: takes the mirror image of state u to state turn - u; shifts in Angstrom. Its score is
            the correlation of the two over all states that have a mirror image.
        turn: between 0 and 2; the state turn / 2 is its own mirror image.
    """

    gauge: Gauge
    turn: float


class _Motion(NamedTuple):
    """A motion and its mirror image in Fourier space.

    Attributes:
        mirrored: of each node.
        values: complex [K, n_points] of the motion itself.
        points: int [n_points, 3] in 1/box.
        box: voxels a side.
    """

    mirrored: list[Interpolant]
    values: np.ndarray
    points: np.ndarray
    box: int

    @property
    def states(self) -> np.ndarray:
        """Of the nodes, [K]."""
        return np.linspace(0.0, 1.0, len(self.values))

    def at(self, states: np.ndarray) -> np.ndarray:
        """The motion at states [m] within 0 and 1, or at the nearest end, [m, n_points]."""
        place = np.clip(states, 0.0, 1.0) * (len(self.values) - 1)
        low = np.minimum(place.astype(int), len(self.values) - 2)
        share = (place - low)[:, None]
        return (1.0 - share) * self.values[low] + share * self.values[low + 1]

    def images(self, rotation: np.ndarray, shift_px: np.ndarray) -> np.ndarray:
        """The nodes' mirror images, turned and shifted, [K, n_points]."""
        phase = np.exp((-2j * np.pi / self.box) * (self.points @ shift_px))
        return phase * np.stack([node.at(self.points @ rotation) for node in self.mirrored])


def mirror_motion(volumes: np.ndarray, voxel_size_angstrom: float) -> MirrorMotion:
    """Lay a motion's mirror image onto it.

    Args:
        volumes: [K, n, n, n] of even states from 0 to 1, both included.
        voxel_size_angstrom: of the volumes.
    """
    paired = np.linspace(0, len(volumes) - 1, _PAIRED).round().astype(int)
    gauges = [
        align_mirrored(volumes[j], volumes[k], voxel_size_angstrom)
        for place, j in enumerate(paired)
        for k in paired[place:]
    ]
    first = max(gauges, key=lambda found: found.score)
    box = volumes.shape[-1]
    shell = min(_SHELL, (box - 1) // 2)
    points = half_ball(shell)
    values = [reference_at(centred_transform(volume, box), points) for volume in volumes]
    mirrored = [interpolant(flip_hand(volume), shell) for volume in volumes]
    motion = _Motion(mirrored, np.stack(values), points, box)
    return _refined(motion, first, voxel_size_angstrom)


def _has_image(states: np.ndarray, turn: float) -> np.ndarray:
    """bool [K]: states u for which turn - u is one."""
    return (turn - states >= -1e-9) & (turn - states <= 1.0 + 1e-9)


def _nearest_turn(motion: _Motion, images: np.ndarray) -> float:
    """Where these mirror images are nearest to what they are laid onto."""

    def apart(turn: float) -> float:
        known = _has_image(motion.states, turn)
        if not known.any():
            return np.inf
        onto = motion.at(turn - motion.states[known])
        return float(np.mean(np.abs(images[known] - onto) ** 2))

    return float(min(np.linspace(0.0, 2.0, _TURNS), key=apart))


def _refined(motion: _Motion, first: Gauge, voxel_size: float) -> MirrorMotion:
    """Rotation, shift and turn of the least squares over all states with a mirror image."""
    start_px = first.shift_angstrom / voxel_size
    start = _nearest_turn(motion, motion.images(first.rotation, start_px))
    known = _has_image(motion.states, start)
    some = motion._replace(mirrored=[m for m, k in zip(motion.mirrored, known, strict=True) if k])
    power, lever = np.sum(np.abs(motion.values[known]) ** 2), motion.box / 4.0

    def parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        turned = Rotation.from_rotvec(x[:3] / lever).as_matrix() @ first.rotation
        return turned, start_px + x[3:6], start + x[6] / lever

    def laid(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rotation, shift, turn = parts(x)
        return some.images(rotation, shift), motion.at(turn - motion.states[known])

    def loss(x: np.ndarray) -> float:
        images, onto = laid(x)
        return float(np.sum(np.abs(images - onto) ** 2) / power)

    found = optimize.minimize(
        loss, np.zeros(7), method="BFGS", options={"gtol": 1e-5, "eps": 1e-4, "maxiter": 30}
    )
    rotation, shift, turn = parts(found.x)
    images, onto = laid(found.x)
    agreement = np.vdot(images, onto).real / (np.linalg.norm(images) * np.linalg.norm(onto))
    gauge = Gauge(rotation, shift * voxel_size, True, float(agreement))
    return MirrorMotion(gauge, float(np.clip(turn, 0.0, 2.0)))
