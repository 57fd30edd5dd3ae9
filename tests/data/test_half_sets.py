"""Half sets: the input's, or made and said."""

from collections.abc import Callable

import numpy as np
import pytest

from hypermol.data import half_sets, load_particles

N = 4


def halves_of(write_star: Callable, blocks: dict, subset: list[int] | None):
    if subset is None:
        del blocks["particles"]["rlnRandomSubset"]
    else:
        blocks["particles"]["rlnRandomSubset"] = subset
    return half_sets(load_particles(write_star(blocks)))


def test_the_inputs_own_are_kept(write_star: Callable, relion31: dict):
    made, said = halves_of(write_star, relion31, [2, 2, 1, 2])
    assert made.tolist() == [2, 2, 1, 2] and said is None


@pytest.mark.parametrize(
    ("subset", "words"),
    [
        (
            [1, 1, 1, 1],
            "has 4 particles in half set 1 and 0 in half set 2 of 4: half maps are made",
        ),
        ([2, 2, 2, 2], "has 0 particles in half set 1 and 4 in half set 2"),
        ([0, 0, 0, 1], "has 1 particles in half set 1 and 0 in half set 2"),
        (None, "has no half sets: half maps are made of odd and even images"),
        ([0, 0, 0, 0], "has no half sets"),
    ],
)
def test_half_sets_are_made_and_said(write_star: Callable, relion31: dict, subset, words):
    made, said = halves_of(write_star, relion31, subset)
    assert made.tolist() == [1, 2, 1, 2] and words in said and "particles.star" in said


def test_particles_in_no_half_are_put_into_one(write_star: Callable, relion31: dict):
    made, said = halves_of(write_star, relion31, [1, 0, 2, 0])
    assert made.tolist() == [1, 1, 2, 2] and "has 2 particles in no half set" in said


def test_rows_of_one_image_stay_together(write_star: Callable, relion31: dict):
    relion31["particles"]["rlnImageName"] = ["3@s.mrcs", "3@s.mrcs", "1@s.mrcs", "1@t.mrcs"]
    made, _ = halves_of(write_star, relion31, [1, 1, 1, 1])
    assert made.tolist() == [1, 1, 2, 1]
    relion31["particles"]["rlnRandomSubset"] = [1, 2, 1, 2]
    made, said = half_sets(load_particles(write_star(relion31)))
    assert made.tolist() == [1, 1, 2, 1] and "has 1 images in both half sets" in said


def test_image_numbers_follow_the_rows(write_star: Callable, relion31: dict):
    relion31["particles"]["rlnImageName"] = ["3@z.mrcs", "1@a.mrcs", "3@z.mrcs", "2@a.mrcs"]
    numbers = load_particles(write_star(relion31)).image_numbers()
    np.testing.assert_array_equal(numbers, [0, 1, 0, 2])
