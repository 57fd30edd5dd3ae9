"""State bases by name: what recipes and runs write."""

from hypermol.molecule.state_basis.base import StateBasis
from hypermol.molecule.state_basis.local import Haar, Hats, OneHot
from hypermol.molecule.state_basis.smooth import Chebyshev, Constant, Cosine, Fourier
from hypermol.space.discrete import Discrete
from hypermol.space.state_space import Circle, Interval

#: Names that `named_state_basis` knows, with their default number of terms.
BASES = {
    "constant": 1,
    "cosine": 5,
    "chebyshev": 5,
    "fourier": 9,
    "hats": 5,
    "onehot": 2,
    "haar": 2,
}


def named_state_basis(kind: str, n_terms: int, state_name: str) -> StateBasis:
    """The basis a recipe or run names, one of `BASES`.

    Args:
        kind: constant (rigid), cosine, chebyshev or hats (interval), fourier (circle), onehot or
            haar (classes).
        n_terms: terms; for onehot and haar the number of classes.
        state_name: name of the knob.

    Raises:
        ValueError: unknown kind, or a number of terms it cannot have.
    """
    if n_terms < 1:
        raise ValueError(f"n_terms is {n_terms}: give at least 1")
    if kind == "constant":
        return Constant()
    if kind == "cosine":
        return Cosine(n_terms, Interval(state_name))
    if kind == "chebyshev":
        return Chebyshev(n_terms, Interval(state_name))
    if kind == "fourier":
        if n_terms % 2 == 0:
            raise ValueError(
                f"n_terms is {n_terms} for a fourier basis: give an odd number "
                "(one constant, then cosine and sine pairs)"
            )
        return Fourier(n_terms, Circle(state_name))
    if kind in ("hats", "onehot", "haar"):
        if n_terms < 2:
            what = "states to interpolate between" if kind == "hats" else "classes"
            raise ValueError(
                f"n_terms is {n_terms} for a {kind} basis: give the number of {what}, at least 2"
            )
        if kind == "hats":
            return Hats(n_terms, Interval(state_name))
        classes = Discrete(state_name, n_terms)
        return OneHot(classes) if kind == "onehot" else Haar(classes)
    raise ValueError(f"state basis {kind!r} is not known: use {', '.join(BASES)}")
