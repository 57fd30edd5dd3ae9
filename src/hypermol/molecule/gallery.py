"""The paper's toys: the cat, whose head turns (sec. 3.1.1), and the pretzel, whose two arms curl
independently (sec. 3.1.2). Sums of Gaussians, so that their projections are exact.
"""

from dataclasses import dataclass
from typing import final

import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.io.errors import InputError
from hypermol.molecule.moving_gaussians import MovingGaussians, Theta
from hypermol.space.product import Product
from hypermol.space.state_space import Circle, Interval, StateSpace

#: Names that `toy` knows.
TOYS = ("cat", "pretzel")

_PRIOR_SPREAD = 0.1
_BASE_WIDTH = 0.080
_ARM_WIDTH = 0.068
_PRETZEL_LINK = 0.112
_ARM_BLOBS = 8
_BASE_BLOBS = 11
#: Bend of each link of a fully curled arm, in radians: 7 links make most of a turn.
_FULL_CURL = 0.66
_HELD_ARM = 0.3
_ARMS = Product((Interval("arm_1"), Interval("arm_2")))
_CAT_TURN = np.deg2rad(240.0)


def toy(name: str, radius_angstrom: float = 140.0) -> MovingGaussians:
    """A toy by name: one of `TOYS`.

    Raises:
        InputError: no toy has that name.
    """
    if name == "cat":
        return cat(radius_angstrom)
    if name == "pretzel":
        return pretzel(radius_angstrom)
    raise InputError(f"no toy molecule is called {name!r}: choose one of {', '.join(TOYS)}")


def cat(radius_angstrom: float = 140.0, *, circle: bool = False) -> MovingGaussians:
    """The cat: body, legs and tail at rest, a head that turns about the vertical (z) axis.

    The state is the direction of the head: -120 to +120 degrees from straight ahead (+x) on the
    interval, a whole turn on the circle.

    Args:
        radius_angstrom: distance from the centre of rotation to the outermost blob centre.
        circle: let the head turn all the way round.
    """
    rest, head, pivot = _cat_blobs()
    centres = np.concatenate([rest[:, :3], head[:, :3]])
    middle = 0.5 * (centres.min(axis=0) + centres.max(axis=0))
    scale = radius_angstrom / np.linalg.norm(centres - middle, axis=-1).max()
    path = {
        "rest": scale * (rest[:, :3] - middle),
        "head": scale * (head[:, :3] - pivot),
        "pivot": scale * (pivot - middle),
    }
    widths = scale * np.concatenate([rest[:, 3], head[:, 3]])
    space: StateSpace = Circle("head") if circle else Interval("head")
    return _fixed(space, _CatPath(circle), path, widths)


def pretzel(radius_angstrom: float = 140.0, *, arms: int = 2) -> MovingGaussians:
    """The pretzel: a rigid S-shaped base and two equal arms, each curling with its own state.

    The arms are related by a half turn about z (C2): turning the molecule by it is the same as
    exchanging the two states. An arm is straight at 0 and curled at 1.

    Args:
        radius_angstrom: distance from the centre to the tip of a straight arm.
        arms: 2 for independent states of both arms (a square of states), 1 to hold the second
            arm still (an interval).
    """
    if arms not in (1, 2):
        raise InputError(f"the pretzel has 1 or 2 moving arms, not {arms}: choose arms=1 or 2")
    base, root, frame = _pretzel_parts()
    straight = root + _PRETZEL_LINK * (np.arange(_ARM_BLOBS)[:, None] + 1.0) * frame[0]
    scale = radius_angstrom / np.linalg.norm(np.concatenate([base, straight]), axis=-1).max()
    path = {
        "base": scale * base,
        "root": scale * root,
        "link": scale * _PRETZEL_LINK * frame,
        "curl": np.array(_FULL_CURL),
    }
    widths = scale * np.repeat([_BASE_WIDTH, _ARM_WIDTH], [_BASE_BLOBS, 2 * _ARM_BLOBS])
    space: StateSpace = _ARMS if arms == 2 else Interval("arm")
    return _fixed(space, _PretzelPath(arms), path, widths)


@final
@dataclass(frozen=True)
class _CatPath:
    """Centres of the cat: `rest` as it is, `head` (relative to `pivot`) turned about z."""

    circle: bool

    def __call__(self, path: dict[str, Array], tau: Array) -> Array:
        """Centres [n, 3]."""
        angle = 2.0 * np.pi * tau[0] if self.circle else _CAT_TURN * (tau[0] - 0.5)
        c, s = jnp.cos(angle), jnp.sin(angle)
        x, y, z = path["head"].T
        head = jnp.stack([c * x - s * y, s * x + c * y, z], axis=-1) + path["pivot"]
        return jnp.concatenate([path["rest"], head])


@final
@dataclass(frozen=True)
class _PretzelPath:
    """Centres of the pretzel: the base, then arm 1, then arm 2 (arm 1 turned half round z).

    Path parameters: base [11, 3], root [3], link [2, 3] (a link of the straight arm, and the same
    length at right angles to it, into which it curls), curl (radians a link).
    """

    arms: int

    def __call__(self, path: dict[str, Array], tau: Array) -> Array:
        """Centres [n, 3]."""
        half_turn = jnp.array([-1.0, -1.0, 1.0])
        first = self._arm(path, tau[0])
        second = self._arm(path, tau[1] if self.arms == 2 else _HELD_ARM)
        return jnp.concatenate([path["base"], first, half_turn * second])

    @staticmethod
    def _arm(path: dict[str, Array], t: Array | float) -> Array:
        """A chain of links [8, 3], each bent by t times the full curl against the one before."""
        heading = path["curl"] * t * jnp.arange(_ARM_BLOBS)
        links = jnp.cos(heading)[:, None] * path["link"][0]
        links = links + jnp.sin(heading)[:, None] * path["link"][1]
        return path["root"] + jnp.cumsum(links, axis=0)


def _fixed(
    space: StateSpace,
    path_function: _CatPath | _PretzelPath,
    path: dict[str, np.ndarray],
    widths: np.ndarray,
) -> MovingGaussians:
    """A molecule whose `init` gives exactly this shape; every blob has a peak density of 1."""
    mean: Theta = {
        "amplitude": jnp.asarray((2.0 * np.pi * widths**2) ** 1.5, jnp.float32),
        "width": jnp.asarray(widths, jnp.float32),
        "path": {name: jnp.asarray(value, jnp.float32) for name, value in path.items()},
    }
    size = float(np.mean(widths))
    sd: Theta = {
        "amplitude": _PRIOR_SPREAD * mean["amplitude"],
        "width": _PRIOR_SPREAD * mean["width"],
        "path": {
            name: jnp.full(np.shape(value), _PRIOR_SPREAD * (1.0 if name == "curl" else size))
            for name, value in path.items()
        },
    }
    return MovingGaussians(space, path_function, mean, sd, init_spread=0.0)


def _pretzel_parts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Base [11, 3], root of arm 1 [3] and its frame [2, 3] (straight, curling), in radii."""
    s = np.linspace(-1.0, 1.0, _BASE_BLOBS)
    base = np.stack([0.36 * np.sin(np.pi * s), 0.40 * s, 0.14 * np.cos(np.pi * s)], axis=-1)
    root = base[-1]
    straight = np.array([-0.55, 0.45, -0.55])
    straight /= np.linalg.norm(straight)
    inward = np.array([0.45, 0.35, 1.0])
    curling = inward - straight * (inward @ straight)
    return base, root, np.stack([straight, curling / np.linalg.norm(curling)])


def _cat_blobs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blobs (x, y, z, width) at rest and of the head, and the neck's pivot [3].

    The cat stands on four legs along x and looks to +x; z is up.
    """

    def line(start: list[float], end: list[float], n: int, width: float) -> np.ndarray:
        t = np.linspace(0.0, 1.0, n)[:, None]
        points = (1.0 - t) * np.array(start) + t * np.array(end)
        return np.concatenate([points, np.full((n, 1), width)], axis=1)

    legs = [
        line([x, y, -0.20], [x + 0.02, 1.15 * y, -0.68], 5, 0.055)
        for x in (-0.42, 0.30)
        for y in (-0.15, 0.15)
    ]
    turn = np.linspace(0.0, 1.0, 8)[:, None]
    tail = np.concatenate(
        [
            -0.52 - 0.26 * np.sin(0.5 * np.pi * turn),
            0.14 * turn**2,
            0.08 + 0.62 * turn**1.5,
            np.full((8, 1), 0.05),
        ],
        axis=1,
    )
    body = line([-0.44, 0.0, 0.0], [0.32, 0.0, 0.0], 6, 0.12)
    neck = line([0.38, 0.0, 0.12], [0.44, 0.0, 0.26], 2, 0.085)
    head = np.array(
        [
            [0.50, 0.0, 0.42, 0.13],
            [0.64, 0.0, 0.40, 0.105],
            [0.79, 0.0, 0.35, 0.075],
            [0.90, 0.0, 0.32, 0.055],
            [0.49, 0.14, 0.58, 0.055],
            [0.49, -0.14, 0.58, 0.055],
            [0.49, 0.18, 0.69, 0.045],
            [0.49, -0.18, 0.69, 0.045],
        ]
    )
    return np.concatenate([body, neck, tail, *legs]), head, np.array([0.44, 0.0, 0.40])
