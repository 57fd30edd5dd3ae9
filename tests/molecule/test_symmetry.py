"""Names of point groups and their operators."""

import numpy as np
import pytest

from hypermol.molecule.symmetry import group_of, symmetry_operators


@pytest.mark.parametrize(
    ("group", "order"), [("C1", 1), ("C2", 2), ("C7", 7), ("D2", 4), ("D5", 10)]
)
def test_a_group_is_closed_and_known_by_its_operators(group: str, order: int):
    operators = np.asarray(symmetry_operators(group))
    assert len(operators) == order
    products = operators[:, None] @ operators[None]
    gaps = np.abs(products[:, :, None] - operators[None, None]).max(axis=(3, 4)).min(axis=2)
    assert gaps.max() < 1e-6
    assert group_of(symmetry_operators(group)[::-1]) == group


def test_what_is_no_group_has_no_name():
    across = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))
    assert group_of([*symmetry_operators("C1"), across]) is None
    assert group_of(symmetry_operators("C3")[:2]) is None


def test_other_names_are_refused():
    with pytest.raises(ValueError, match="use C1, C2"):
        symmetry_operators("T")
