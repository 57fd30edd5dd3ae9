"""Where in a map the axes of a point group would lie: for C_2 ... C_n and D_2 ... D_n the frame in
which the map's own copies under the group agree best.

Agreement is the correlation of the map with its copy, over |k| <= kmax and at the best shift, the
mean of every shell left out, which all rotations share. It orders axes of one group. It does not
say which group the molecule has: nearly symmetric molecules correlate too.
"""

from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
from scipy import optimize
from scipy.spatial.transform import Rotation

from hypermol.analysis.gauge import Gauge, apply_to_volume
from hypermol.analysis.map_matching import (
    Interpolant,
    centred_transform,
    half_ball,
    interpolant,
    norms,
    reference_at,
    score_rotations,
)
from hypermol.analysis.masks import sphere_mask
from hypermol.molecule.symmetry import symmetry_operators

#: Orders of the groups that are tried.
ORDERS = (2, 3, 4, 5, 6, 7, 8)
#: Axes that are tried: neighbours are about 4 degrees apart.
_AXES = 1500
#: Shells by which axes are found, and refined.
_COARSE, _FINE = 7, 12
#: Angles that a two-fold axis across is looked for at, in degrees.
_STEP_DEG = 3.0
#: Best axes of a group that are refined, and how far apart they are.
_REFINED, _APART_DEG = 3, 12.0


@final
class PointGroup(NamedTuple):
    """A group, and where it would lie.

    Attributes:
        name: C1, C2, ..., D2, ...
        frame: takes the map to the frame of `molecule.symmetry`: main axis z, two-fold axis x.
        agreement: mean correlation of the map with its copies.
    """

    name: str
    frame: Gauge
    agreement: float


class _Map(NamedTuple):
    """A map ready to be compared with itself."""

    moving: Interpolant
    values: np.ndarray
    points: np.ndarray
    box: int

    def agreement(self, frame: np.ndarray, centre: np.ndarray, operators: np.ndarray) -> float:
        """Mean correlation with copies under operators [m, 3, 3] that hold in a frame about a
        centre (voxels)."""
        turns = frame.T @ operators @ frame
        shifts = centre - turns @ centre
        phases = np.exp((-2j * np.pi / self.box) * (shifts @ self.points.T))
        copies = self.moving.at(self.points @ turns) * phases
        cross = (copies @ self.values.conj()).real
        return float(np.mean(cross) / norms(self.moving, self.values, self.points))


def _prepared(volume: np.ndarray, kmax: int) -> _Map:
    """The map's transform, the mean of every shell taken out."""
    box = len(volume)
    axis = np.arange(box) - box // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    shells = np.rint(np.sqrt(x**2 + y**2 + z**2)).astype(int)
    transform = centred_transform(sphere_mask(box) * volume, box)
    totals = [
        np.bincount(shells.ravel(), part.ravel()) for part in (transform.real, transform.imag)
    ]
    means = (totals[0] + 1j * totals[1]) / np.maximum(np.bincount(shells.ravel()), 1)
    transform = transform - means[shells]
    varied = np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(transform)).real)
    points = half_ball(kmax)
    return _Map(interpolant(varied, kmax), reference_at(transform, points), points, box)


def _hemisphere(n: int) -> np.ndarray:
    """[n, 3] directions spread evenly over half a sphere: a spiral."""
    z = (np.arange(n) + 0.5) / n
    angle = np.pi * (1.0 + np.sqrt(5.0)) * np.arange(n)
    across = np.sqrt(1.0 - z**2)
    return np.stack([across * np.cos(angle), across * np.sin(angle), z], axis=-1)


def _to_z(axis: np.ndarray) -> np.ndarray:
    """A rotation that takes a direction to z."""
    return Rotation.align_vectors([[0.0, 0.0, 1.0]], [axis])[0].as_matrix()


def _centre(turns: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """The point that operators [m, 3, 3] with shifts [m, 3] leave where it is, nearest to 0."""
    return np.linalg.lstsq(
        (np.eye(3) - turns).reshape(-1, 3), np.asarray(shifts).reshape(-1), rcond=None
    )[0]


def _refined(
    found: _Map, frame: np.ndarray, centre: np.ndarray, operators: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """(agreement, frame, centre) of greatest agreement near by (BFGS)."""
    lever = found.box / 4.0  # a rotation of 1 / lever moves a typical voxel by one

    def loss(x: np.ndarray) -> float:
        turned = Rotation.from_rotvec(x[:3] / lever).as_matrix() @ frame
        return -found.agreement(turned, x[3:], operators)

    start = np.concatenate([np.zeros(3), centre])
    best = optimize.minimize(
        loss, start, method="BFGS", options={"gtol": 1e-4, "eps": 1e-4, "maxiter": 20}
    ).x
    turned = Rotation.from_rotvec(best[:3] / lever).as_matrix() @ frame
    return -loss(best), turned, best[3:]


def _cyclic(coarse: _Map, fine: _Map, n: int) -> tuple[float, np.ndarray, np.ndarray]:
    """The best frame of C_n."""
    axes = _hemisphere(_AXES)
    turns = Rotation.from_rotvec(2.0 * np.pi / n * axes).as_matrix()
    scored = score_rotations(coarse.moving, coarse.values, coarse.points, turns, coarse.box)
    candidates = [(*found, axis) for found, axis in zip(scored, axes, strict=True)]
    candidates.sort(key=lambda candidate: -candidate[0])
    kept: list[np.ndarray] = []
    best: list[tuple[float, np.ndarray, np.ndarray]] = []
    for _, turn, shift, axis in candidates:
        if any(abs(axis @ other) > np.cos(np.radians(_APART_DEG)) for other in kept):
            continue
        kept.append(axis)
        operators = np.asarray(symmetry_operators(f"C{n}"))[1:2]
        start = _to_z(axis), _centre(turn[None], shift)
        best.append(_refined(fine, *_refined(coarse, *start, operators)[1:], operators))
        if len(kept) == _REFINED:
            break
    return max(best, key=lambda candidate: candidate[0])


def _dihedral(
    coarse: _Map, fine: _Map, n: int, frame: np.ndarray, centre: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """The best frame of D_n about the axis of C_n."""
    operators = np.asarray(symmetry_operators(f"D{n}"))
    across = operators[[1, n]]  # a turn about z, and the half turn about x
    angles = np.arange(0.0, 180.0 / n, _STEP_DEG)
    frames = Rotation.from_euler("z", -angles[:, None], degrees=True).as_matrix() @ frame
    turns = np.swapaxes(frames, 1, 2) @ operators[n] @ frames
    scored = list(score_rotations(coarse.moving, coarse.values, coarse.points, turns, coarse.box))
    best = max(range(len(scored)), key=lambda i: scored[i][0])
    both = np.stack([frame.T @ operators[1] @ frame, turns[best]])
    shifts = np.stack([centre - both[0] @ centre, scored[best][2]])
    start = frames[best], _centre(both, shifts)
    return _refined(fine, *_refined(coarse, *start, across)[1:], across)


def find_point_groups(
    volume: np.ndarray, voxel_size_angstrom: float, orders: Sequence[int], kinds: str = "CD"
) -> tuple[PointGroup, ...]:
    """The best frame of every group C_n and D_n.

    Args:
        volume: real [m, m, m].
        voxel_size_angstrom: of the map.
        orders: n of the groups, each 2 or more.
        kinds: C, D or both.
    """
    nyquist = (len(volume) - 1) // 2
    coarse, fine = (_prepared(volume, min(kmax, nyquist)) for kmax in (_COARSE, _FINE))
    groups = []
    for n in orders:
        places = {"C": _cyclic(coarse, fine, n)}
        if "D" in kinds:
            places["D"] = _dihedral(coarse, fine, n, *places["C"][1:])
        for kind in kinds:
            name, (_, frame, centre) = f"{kind}{n}", places[kind]
            operators = np.asarray(symmetry_operators(name))[1:]
            gauge = Gauge(frame, -voxel_size_angstrom * (frame @ centre))
            groups.append(PointGroup(name, gauge, fine.agreement(frame, centre, operators)))
    return tuple(groups)


def symmetrised(group: PointGroup, volume: np.ndarray, voxel_size_angstrom: float) -> np.ndarray:
    """The mean [m, m, m] of a map and its copies, where the map is."""
    there = apply_to_volume(group.frame, volume, voxel_size_angstrom)
    copies = [
        apply_to_volume(Gauge(np.asarray(operator)), there, voxel_size_angstrom)
        for operator in symmetry_operators(group.name)
    ]
    return apply_to_volume(group.frame.inverse(), np.mean(copies, axis=0), voxel_size_angstrom)
