"""State bases by name: all that recipes, runs and the command line know of each."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from hypermol.molecule.state_basis.base import StateBasis
from hypermol.molecule.state_basis.local import Haar, Hats, OneHot
from hypermol.molecule.state_basis.smooth import Chebyshev, Constant, Cosine, Fourier
from hypermol.space.discrete import Discrete
from hypermol.space.state_space import Circle, Interval, Point, StateSpace

#: What states live on, in the words of `--state`.
States = Literal["rigid", "interval", "circle", "classes"]


class NamedBasis(NamedTuple):
    """A state basis that a name and one knob suffice for.

    Attributes:
        make: the basis of so many terms over a knob of a name.
        states: what its states live on.
        n_terms: as many where nothing is said.
        terms: what its terms are called.
        is_local: each term belongs to some states alone: all of them are there or none, and
            there are at least two.
        in_pairs: terms beyond the constant come in pairs.
    """

    make: Callable[[int, str], StateBasis]
    states: States
    n_terms: int
    terms: str = "terms"
    is_local: bool = False
    in_pairs: bool = False

    @property
    def can_rise(self) -> bool:
        """Whether a molecule of few terms can go on with more: they are frequencies."""
        return self.states != "rigid" and not self.is_local

    def fault(self, n_terms: int) -> str | None:
        """What is wrong with a number of terms, and what to give."""
        if isinstance(n_terms, bool) or not isinstance(n_terms, int):
            return "give a whole number"
        if self.states == "rigid" and n_terms > 1:
            return "it does not change with the state: leave n_terms out, or take another basis"
        if n_terms < 1 + self.is_local:
            return f"give the number of {self.terms}, at least {1 + self.is_local}"
        if self.in_pairs and n_terms % 2 == 0:
            return "give an odd number (one constant, then cosine and sine pairs)"
        return None

    def capped(self, n_terms: int, most: int) -> int:
        """Terms at a level that allows `most`; one pair is always there."""
        if self.is_local:
            return n_terms
        capped = min(n_terms, max(most, 3) if self.in_pairs else most)
        return capped - 1 if self.in_pairs and capped % 2 == 0 else capped


#: The bases by name.
BASES: dict[str, NamedBasis] = {
    "cosine": NamedBasis(lambda n, name: Cosine(n, Interval(name)), "interval", 5),
    "chebyshev": NamedBasis(lambda n, name: Chebyshev(n, Interval(name)), "interval", 5),
    "hats": NamedBasis(lambda n, name: Hats(n, Interval(name)), "interval", 5, "nodes", True),
    "fourier": NamedBasis(lambda n, name: Fourier(n, Circle(name)), "circle", 9, in_pairs=True),
    "haar": NamedBasis(lambda n, name: Haar(Discrete(name, n)), "classes", 2, "classes", True),
    "onehot": NamedBasis(lambda n, name: OneHot(Discrete(name, n)), "classes", 2, "classes", True),
    "constant": NamedBasis(lambda n, name: Constant(), "rigid", 1),
}

#: The basis that each kind of states stands for, and the kind of each space.
BASIS_OF: dict[str, str] = {
    "interval": "cosine",
    "circle": "fourier",
    "classes": "haar",
    "rigid": "constant",
}
STATES_OF: dict[type[StateSpace], States] = {
    Point: "rigid",
    Interval: "interval",
    Circle: "circle",
    Discrete: "classes",
}


def named_state_basis(kind: str, n_terms: int, state_name: str) -> StateBasis:
    """The basis a recipe or run names, one of `BASES`.

    Args:
        kind: its name.
        n_terms: terms; for bases of classes their number.
        state_name: name of the knob.

    Raises:
        ValueError: unknown kind, or a number of terms it cannot have.
    """
    if kind not in BASES:
        raise ValueError(f"state basis {kind!r} is not known: use {', '.join(BASES)}")
    fault = BASES[kind].fault(n_terms)
    if fault is not None:
        raise ValueError(f"n_terms is {n_terms} for a {kind} basis: {fault}")
    return BASES[kind].make(n_terms, state_name)
