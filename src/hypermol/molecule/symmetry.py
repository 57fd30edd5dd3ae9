"""Point groups C_n and D_n as rotation matrices, about z (and x), as RELION and cryoSPARC do."""

import re

import numpy as np
from scipy.spatial.transform import Rotation

Matrix = tuple[tuple[float, float, float], ...]


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
