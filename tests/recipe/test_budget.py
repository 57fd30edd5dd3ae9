"""What `budget` may say."""

import pytest

from hypermol.io.errors import InputError
from hypermol.recipe.budget import Budget, read_budget


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("30 minutes", Budget(minutes=30.0)),
        (" 1 minute ", Budget(minutes=1.0)),
        ("0.5 minutes", Budget(minutes=0.5)),
        ("400 sweeps", Budget(sweeps=400)),
        ("1e3 sweeps", Budget(sweeps=1000)),
    ],
)
def test_minutes_or_sweeps(text, budget):
    assert read_budget(text) == budget


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "minutes",
        "-3 minutes",
        "0 sweeps",
        "2.5 sweeps",
        "nan minutes",
        "inf sweeps",
        "3 hours",
        "3 sweeps more",
    ],
)
def test_all_else_is_refused_with_an_example(text):
    with pytest.raises(InputError, match="'30 minutes'"):
        read_budget(text)
