"""A run's state variables ("knobs") one by one: what each lives on, and its gauge.

The parametrisation of a knob is a gauge (sec. 6.2): an interval may run backwards, a circle may
begin elsewhere and turn the other way, and classes may be numbered in another order.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np

from hypermol.molecule.parts import factor_columns
from hypermol.space.state_space import StateSpace

#: "interval": [0, 1] with ends. "circle": modulo 1. "classes": a finite set without order.
#: "line": unbounded coordinates of subspaces and free rigid motions.
Kind = Literal["interval", "circle", "classes", "line"]


class Knob(NamedTuple):
    """One state variable.

    Attributes:
        name: as the recipe calls it.
        column: its index in a state [..., dim].
        kind: what its states live on.
        labels: of its classes; empty for other kinds.
    """

    name: str
    column: int
    kind: Kind
    labels: tuple[str, ...] = ()


def space_knobs(space: StateSpace) -> tuple[Knob, ...]:
    """The knobs of a space, in the order of its coordinates."""
    return tuple(
        Knob(name, int(column), _kind(factor), factor.state_labels)
        for factor, columns in factor_columns(space)
        for name, column in zip(factor.names, columns, strict=True)
    )


def _kind(space: StateSpace) -> Kind:
    if space.state_labels:
        return "classes"
    if space.is_periodic:
        return "circle"
    return "interval" if space.has_occupancy else "line"


def knob_bins(space: StateSpace, n_bins: int) -> tuple[int, ...]:
    """Bins of each knob where `n_bins` are shared by all; 1 for knobs without occupancy."""
    factors = factor_columns(space)
    shape = space.bin_shape(n_bins)
    return tuple(size for size, (_, columns) in zip(shape, factors, strict=True) for _ in columns)


def bin_edges(knob: Knob, states: np.ndarray, n: int) -> np.ndarray:
    """Edges [B + 1] of about n equal bins: one a class; of a line over the states [...] seen."""
    low, high = (0.0, 1.0) if knob.kind != "line" else (float(states.min()), float(states.max()))
    return np.linspace(low, high, (len(knob.labels) or n) + 1)


def class_index(states: np.ndarray, n: int) -> np.ndarray:
    """Class int [...] of states [...] among n."""
    return np.clip((np.asarray(states) * n).astype(np.intp), 0, n - 1)


def circular_mean(turns: np.ndarray, axis: int = 0) -> np.ndarray:
    """Mean direction of states in turns, in [0, 1)."""
    resultant = np.exp(2j * np.pi * np.asarray(turns, np.float64)).mean(axis=axis)
    return np.mod(np.angle(resultant) / (2 * np.pi), 1.0)


def numbers(knob: Knob, states: np.ndarray) -> np.ndarray:
    """States [...] of a knob as real numbers [..., p] whose means have a meaning.

    Cosine and sine on a circle; of n classes the indicators of all but the last; the states
    themselves otherwise.
    """
    if knob.kind == "classes":
        n = len(knob.labels)
        return np.eye(n)[class_index(states, n)][..., : max(n - 1, 1)]
    if knob.kind == "circle":
        angles = 2.0 * np.pi * np.asarray(states, np.float64)
        return np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return np.asarray(states, np.float64)[..., None]


@final
@dataclass(frozen=True)
class KnobGauge:
    """tau' = direction * tau + offset, modulo 1 on circles: a knob's states as a reference's.

    Of classes, the permutation that takes them to the reference's.

    Attributes:
        direction: +1 or -1.
        offset: in units of the state; 1 for an interval that is turned round.
        circular: whether states are modulo 1.
        classes: the reference's class of each class; empty where states are not classes.
    """

    direction: int = 1
    offset: float = 0.0
    circular: bool = False
    classes: tuple[int, ...] = ()

    def apply(self, states: np.ndarray) -> np.ndarray:
        """States [...] as the reference's."""
        if self.classes:
            return _renumber(states, np.asarray(self.classes))
        return self._wrap(self.direction * np.asarray(states) + self.offset)

    def inverse(self, states: np.ndarray) -> np.ndarray:
        """The reference's states [...] as this knob's."""
        if self.classes:
            return _renumber(states, np.argsort(self.classes))
        return self._wrap(self.direction * (np.asarray(states) - self.offset))

    def apply_bins(self, values: np.ndarray) -> np.ndarray:
        """Values [..., B] of equal bins of the knob's states, over the reference's bins."""
        n_bins = values.shape[-1]
        centres = (np.arange(n_bins) + 0.5) / n_bins
        source = np.floor(self.inverse(centres) * n_bins).astype(np.intp)
        return values[..., np.clip(source, 0, n_bins - 1)]

    def _wrap(self, states: np.ndarray) -> np.ndarray:
        return np.mod(states, 1.0) if self.circular else states


def _renumber(states: np.ndarray, new: np.ndarray) -> np.ndarray:
    """States [...] of classes c as those of classes new[c]."""
    return (new[class_index(states, len(new))] + 0.5) / len(new)


def same_gauge(knob: Knob) -> KnobGauge:
    """The gauge that changes nothing."""
    return KnobGauge(circular=knob.kind == "circle", classes=tuple(range(len(knob.labels))))
