"""After a search from nothing: the molecule's point group, and the frame in which it stands.

Candidates are where a map's axes would lie (`analysis.point_groups`). They are judged by images
that the map has not seen: averaged over the copies, a map of the right group has less noise and
predicts them better; of a wrong one, it predicts them worse. Nothing is turned where no group is
better than none.
"""

from dataclasses import dataclass, replace
from typing import final

import jax.numpy as jnp
import numpy as np

from hypermol.analysis.gauge import Gauge
from hypermol.analysis.point_groups import ORDERS, PointGroup, find_point_groups, symmetrised
from hypermol.fitting.blocks.particles_by_search import held_out_blocks, held_out_evidence
from hypermol.fitting.frames import rigid_theta
from hypermol.fitting.level import Level
from hypermol.fitting.maps import thetas_of_parts
from hypermol.fitting.sweep import ChainState
from hypermol.space.fourier import half_plane, plane_columns

#: Frequency, in 1/box, that images held out are matched at.
_WAVES = 8
#: A group is taken where it is better than none by so many standard errors.
_CLEARLY = 2.0


@final
@dataclass(frozen=True)
class GroupStanding:
    """A group, how well it predicts, and where it would stand.

    Attributes:
        group: its name.
        agreement: correlation of the map with its copies.
        gain: mean log-likelihood of an image held out, less that of the map as it is.
        gain_error: standard error of that difference, over images.
        rotation: rows of the rotation to the frame of the group.
        shift_angstrom: and its shift.
    """

    group: str
    agreement: float
    gain: float
    gain_error: float
    rotation: list[list[float]]
    shift_angstrom: list[float]

    @property
    def is_clear(self) -> bool:
        """Whether it predicts clearly better than no symmetry."""
        return self.gain > _CLEARLY * self.gain_error

    @property
    def frame(self) -> Gauge:
        """What takes the map to the frame of the group."""
        return Gauge(np.asarray(self.rotation), np.asarray(self.shift_angstrom))


def judge_point_groups(level: Level, state: ChainState, wanted: str | None) -> list[GroupStanding]:
    """Every candidate, best first.

    Args:
        level: of a rigid molecule.
        state: whose particles have their places.
        wanted: the group that the model has; None tries all.
    """
    images, plane = level.data.images, level.posterior.plane
    kept = np.broadcast_to(~held_out_blocks(len(images.present))[:, None], images.present.shape)
    theta = thetas_of_parts(level, state, [kept])[0]
    volume, voxel = level.molecule.mean(theta), level.grid.voxel_size_angstrom
    orders, kinds = (ORDERS, "CD") if wanted is None else ((int(wanted[1:]),), wanted[0])
    groups = find_point_groups(volume, voxel, orders, kinds)
    coarse = half_plane(plane.box, min(_WAVES, plane.kmax))
    columns = plane_columns(plane, coarse)
    pixels, ctf = (jnp.take(values, columns, axis=-1) for values in (images.pixels, images.ctf))
    data = level.data._replace(images=images._replace(pixels=pixels, ctf=ctf))
    evidence = held_out_evidence(replace(level.posterior, plane=coarse), data)
    plain = evidence(rigid_theta(level, volume), state.mu)
    found = []
    for group in groups:
        averaged = symmetrised(group, volume, voxel)
        found.append(_standing(group, evidence(rigid_theta(level, averaged), state.mu) - plain))
    return sorted(found, key=lambda standing: -standing.gain)


def _standing(group: PointGroup, gains: np.ndarray) -> GroupStanding:
    frame = group.frame
    return GroupStanding(
        group.name,
        group.agreement,
        float(gains.mean()),
        float(gains.std(ddof=1) / np.sqrt(len(gains))),
        frame.rotation.tolist(),
        np.asarray(frame.shift_angstrom).tolist(),
    )
