"""What takes one chain's states to another's, knob by knob.

Chains are compared particle by particle through the means of their sampled states. Copies of a
part share its coefficients, so that one gauge holds for the knobs of all of them; knobs of one
part that live on the same kind of space may also change places. Copies under a symmetry do not:
a molecule whose copies have changed places is the same only if its poses are turned as well, and
chains share the consensus that their poses start from. `swapped_copies` says where two chains
look as if they had.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from scipy.optimize import linear_sum_assignment

from hypermol.analysis.knobs import Knob, KnobGauge, circular_mean, class_index, same_gauge
from hypermol.molecule.composite import Composite
from hypermol.molecule.parts import Part
from hypermol.space.state_space import StateSpace

#: Copies count as swapped where that raises their mean agreement (0 to 1) by more than this.
_CLEARLY = 0.1


@final
@dataclass(frozen=True)
class StateGauge:
    """A chain's states as a reference chain's.

    Attributes:
        knobs: one gauge for each of the reference's knobs.
        source: the chain's knob that becomes each of the reference's.
    """

    knobs: tuple[KnobGauge, ...]
    source: tuple[int, ...]

    def apply(self, states: np.ndarray) -> np.ndarray:
        """A chain's states [..., dim] as the reference's."""
        moved = np.array(states, np.float64)
        for column, (gauge, place) in enumerate(zip(self.knobs, self.source, strict=True)):
            moved[..., column] = gauge.apply(states[..., place])
        return moved

    def inverse(self, states: np.ndarray) -> np.ndarray:
        """The reference's states [..., dim] as this chain's."""
        moved = np.array(states, np.float64)
        for column, (gauge, place) in enumerate(zip(self.knobs, self.source, strict=True)):
            moved[..., place] = gauge.inverse(states[..., column])
        return moved

    def apply_bins(self, values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Values [..., B] of the chain's joint bins over the reference's [..., *shape].

        Args:
            values: the last knob's bins run fastest.
            shape: bins of each knob.
        """
        first = values.ndim - 1
        axes = [*range(first), *(first + place for place in self.source)]
        joint = values.reshape(*values.shape[:-1], *shape).transpose(axes)
        for column, gauge in enumerate(self.knobs):
            along = np.moveaxis(joint, first + column, -1)
            joint = np.moveaxis(gauge.apply_bins(along), -1, first + column)
        return joint


def unchanged(knobs: Sequence[Knob]) -> StateGauge:
    """The gauge that changes nothing."""
    return StateGauge(
        tuple(same_gauge(knob) for knob in knobs), tuple(knob.column for knob in knobs)
    )


class _Fit(NamedTuple):
    """The best gauge of one kind, and how well the two agree then, 0 to 1."""

    gauge: KnobGauge
    agreement: float


class Roles(NamedTuple):
    """Knobs of which chains may differ together.

    Attributes:
        columns: for each role the knobs that play it, one a copy of the part.
        exchangeable: whether roles may be exchanged.
    """

    columns: tuple[tuple[int, ...], ...]
    exchangeable: bool


def find_gauge(
    knobs: Sequence[Knob], roles: Sequence[Roles], own: np.ndarray, reference: np.ndarray
) -> StateGauge:
    """The gauge that takes one chain's states to another's.

    Args:
        knobs: of both.
        roles: every knob in one of them.
        own: [draws, N, dim] sampled states of the chain.
        reference: [draws, N, dim] of the other, of the same particles.
    """
    gauges = [same_gauge(knob) for knob in knobs]
    source = [knob.column for knob in knobs]
    for family in roles:
        fits = [[_fit(knobs, a, b, own, reference) for b in family.columns] for a in family.columns]
        chosen = np.arange(len(fits))
        if family.exchangeable:
            scores = np.array([[fit.agreement for fit in row] for row in fits])
            chosen = linear_sum_assignment(scores, maximize=True)[1]
        for place, target in enumerate(chosen):
            for a, b in zip(family.columns[place], family.columns[target], strict=True):
                gauges[b], source[b] = fits[place][target].gauge, a
    return StateGauge(tuple(gauges), tuple(source))


def _fit(
    knobs: Sequence[Knob],
    from_columns: tuple[int, ...],
    to_columns: tuple[int, ...],
    own: np.ndarray,
    reference: np.ndarray,
) -> _Fit:
    """One gauge for knobs that share it: their particles stand side by side."""
    first, second = (
        np.concatenate([states[..., column] for column in columns], axis=-1)
        for states, columns in ((own, from_columns), (reference, to_columns))
    )
    knob = knobs[to_columns[0]]
    return _FITS[knob.kind](knob, first, second)


def _fit_interval(_: Knob, own: np.ndarray, reference: np.ndarray) -> _Fit:
    """Turned round where mean states [draws, N] are negatively correlated."""
    a, b = own.mean(axis=0), reference.mean(axis=0)
    a, b = a - a.mean(), b - b.mean()
    cosine = float(a @ b / max(np.sqrt((a @ a) * (b @ b)), 1e-30))
    return _Fit(KnobGauge(-1, 1.0) if cosine < 0 else KnobGauge(), abs(cosine))


def _fit_circle(_: Knob, own: np.ndarray, reference: np.ndarray) -> _Fit:
    """Turned and reflected to the best agreement of the mean directions."""
    a, b = (np.exp(2j * np.pi * circular_mean(states)) for states in (own, reference))
    direction = 1 if abs(np.mean(a * b.conj())) >= abs(np.mean(a * b)) else -1
    overlap = np.mean(b * (a if direction == 1 else a.conj()).conj())
    offset = float(np.angle(overlap) / (2 * np.pi))
    return _Fit(KnobGauge(direction, offset, True), float(abs(overlap)))


def _fit_classes(knob: Knob, own: np.ndarray, reference: np.ndarray) -> _Fit:
    """Matched one to one so that most particles agree."""
    n = len(knob.labels)
    a, b = (np.eye(n)[class_index(states, n)].mean(axis=0) for states in (own, reference))
    shared = a.T @ b
    matched = linear_sum_assignment(shared, maximize=True)[1]
    share = float(shared[np.arange(n), matched].sum() / len(a))
    return _Fit(KnobGauge(classes=tuple(int(c) for c in matched)), share)


def _fit_line(knob: Knob, own: np.ndarray, reference: np.ndarray) -> _Fit:
    """The base measure and the consensus fix these coordinates."""
    a, b = own.mean(axis=0).ravel(), reference.mean(axis=0).ravel()
    a, b = a - a.mean(), b - b.mean()
    return _Fit(same_gauge(knob), float(a @ b / max(np.sqrt((a @ a) * (b @ b)), 1e-30)))


_FITS: dict[str, Callable[[Knob, np.ndarray, np.ndarray], _Fit]] = {
    "interval": _fit_interval,
    "circle": _fit_circle,
    "classes": _fit_classes,
    "line": _fit_line,
}


def molecule_roles(molecule: Composite, knobs: Sequence[Knob]) -> list[Roles]:
    """Which knobs share a gauge and which may change places: what copies of parts say."""
    where = {knob.name: knob.column for knob in knobs}
    taken: set[int] = set()
    found: list[Roles] = []
    for part in molecule.parts:
        columns = _part_columns(part, where)
        free = [role for role in columns if not taken & set(columns[role])]
        alike: dict[tuple[str | StateSpace, int], list[str]] = {}
        moves = set(part.trajectory.space.names)
        for role in free:
            kind = role if role in moves else _anonymous(part, role)
            alike.setdefault((kind, len(columns[role])), []).append(role)
        for roles in alike.values():
            found.append(Roles(tuple(columns[role] for role in roles), len(roles) > 1))
            taken |= {column for role in roles for column in columns[role]}
    return found


def _part_columns(part: Part, where: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """The knobs that play each role of a part, every knob once."""
    return {
        role: tuple(dict.fromkeys(where[place.knobs[number]] for place in part.places))
        for number, role in enumerate(part.own_knobs)
    }


def _anonymous(part: Part, role: str) -> StateSpace:
    """The space of a role without its name: equal for knobs that may be exchanged."""
    space = dict(part.factors)[role]
    return space.renamed(("",) * space.dim)


def swapped_copies(
    knobs: Sequence[Knob], roles: Sequence[Roles], own: np.ndarray, reference: np.ndarray
) -> bool:
    """Whether copies of a part agree better with another copy of the reference than with their own.

    Args:
        knobs: of both chains.
        roles: of the knobs.
        own: [draws, N, dim] sampled states of a chain.
        reference: [draws, N, dim] of the other.
    """
    for columns in (columns for family in roles for columns in family.columns):
        agreement = np.array(
            [[_fit(knobs, (a,), (b,), own, reference).agreement for b in columns] for a in columns]
        )
        rows, best = linear_sum_assignment(agreement, maximize=True)
        if agreement[rows, best].mean() > agreement.diagonal().mean() + _CLEARLY:
            return True
    return False
