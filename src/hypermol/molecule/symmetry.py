"""Point groups C_n and D_n as rotation matrices, about z (and x), as RELION and cryoSPARC do."""

import re
from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

Matrix = tuple[tuple[float, float, float], ...]

#: Largest difference of two operators that rounding explains.
_SAME = 1e-4


def symmetry_operators(group: str) -> tuple[Matrix, ...]:
    """Operators of C1, C2, ... or D2, D3, ..., the identity first.

    Args:
        group: C followed by n (n turns about z), or D followed by n (and a two-fold axis x).

    Raises:
        ValueError: another name.
    """
    found = re.fullmatch(r"([CD])([1-9]\d*)", group.strip().upper())
    if found is None:
        raise ValueError(f"symmetry {group!r} is not known: use C1, C2, ... or D2, D3, ...")
    kind, n = found.group(1), int(found.group(2))
    turns = Rotation.from_euler("z", 360.0 / n * np.arange(n)[:, None], degrees=True).as_matrix()
    if kind == "D":
        flip = Rotation.from_euler("x", 180.0, degrees=True).as_matrix()
        turns = np.concatenate([turns, turns @ flip])
    rounded = np.where(np.abs(turns) < 1e-12, 0.0, turns)
    return tuple(tuple((float(a), float(b), float(c)) for a, b, c in matrix) for matrix in rounded)


def group_of(operators: Sequence[Matrix]) -> str | None:
    """The name of the group that rotation matrices, in any order, are; None if they are none.

    Groups are those of `symmetry_operators`: half a turn about x alone is none of them.
    """
    count = len(operators)
    names = [f"C{count}"] + ([f"D{count // 2}"] if count % 2 == 0 and count > 2 else [])
    for name in names:
        gaps = np.asarray(symmetry_operators(name))[:, None] - np.asarray(operators)[None]
        if np.all(np.abs(gaps).max(axis=(2, 3)).min(axis=1) < _SAME):
            return name
    return None
