"""Whether a run's molecule may be several copies of one part, each in a state of its own.

The mean map over all states of a molecule of n equal parts about an axis agrees with itself under
the axis' turns, though hardly any image does: copies are in different states, of which a generic
model tells those apart that differ most. That it agrees is no proof. It says where the axis would
be; whether a model of copies predicts images better than others do, its fit tells
(`fitting.comparison`).
"""

from hypermol.analysis.point_groups import ORDERS, PointGroup, find_point_groups
from hypermol.analysis.run import Run
from hypermol.analysis.volumes import mean_state_volumes
from hypermol.molecule.symmetry import symmetry_operators

#: Copies agree by so much at least, and the largest group is taken whose do by this share of the
#: best's.
_LEAST, _NEARLY = 0.7, 0.95
#: States that are averaged over.
_NODES = 8


def find_copies(run: Run) -> PointGroup | None:
    """The group that a model of equal copies is worth trying with, and its frame; None for none.

    Args:
        run: with samples.
    """
    mean = mean_state_volumes(run, run.nodes(_NODES)).mean(axis=0)
    groups = find_point_groups(mean, run.info["pixel_size_angstrom"], ORDERS)
    least = max(_LEAST, _NEARLY * max(group.agreement for group in groups))
    agreeing = [group for group in groups if group.agreement >= least]
    return max(agreeing, key=_rank, default=None)


def _rank(group: PointGroup) -> tuple[int, float]:
    """Groups of more copies first, of as many the one that agrees better."""
    return len(symmetry_operators(group.name)), group.agreement
