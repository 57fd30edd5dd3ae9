"""Schedules: marching, what samples are kept of, what each kind of molecule begins with."""

from dataclasses import replace

import pytest

from hypermol.data.source import load_particles
from hypermol.fitting.schedules import (
    few_terms,
    make_plan,
    march,
    march_from_adam,
    paper,
    second_mode,
)
from hypermol.fitting.stages import Plan
from hypermol.recipe.options import FitOptions, make_design
from small_data import write_pretzel

PLAN = Plan(kmax=30, n_terms=5, basis="cosine", samples=7, thin=3)


@pytest.mark.parametrize("schedule", [march, march_from_adam, paper, second_mode])
def test_every_schedule_marches_and_keeps_only_the_last_stage(schedule) -> None:
    stages = schedule(PLAN)
    assert [stage.kmax for stage in stages] == sorted(stage.kmax for stage in stages)
    assert [stage.burn_in for stage in stages] == [True] * (len(stages) - 1) + [False]
    assert stages[-1].sweeps == 21 and stages[-1].keep_every == 3
    assert stages[0].finds_radius and stages[0].is_shared and not stages[-1].is_shared
    assert not stages[-1].estimates_spectrum
    assert stages[-1].theta not in ("adam", "second-mode") and stages[-1].particles != "none"


@pytest.mark.parametrize("schedule", [march, march_from_adam, paper, second_mode])
def test_held_poses_never_move(schedule) -> None:
    stages = schedule(replace(PLAN, move_poses=False))
    assert all(not stage.moves_poses and not stage.learns_widths for stage in stages)


def test_widths_of_contrasts_wait_for_a_theta_that_climbs() -> None:
    assert all(stage.learns_contrast for stage in march(PLAN))
    papers = paper(replace(PLAN, theta="mala", particles="random-walk"))
    assert [stage.learns_contrast for stage in papers] == [False] * (len(papers) - 1) + [True]


def test_states_begin_with_few_terms() -> None:
    one, two = (march(Plan(30, 5, "composite", n_knobs=n, few=(2, 3))) for n in (1, 2))
    assert [stage.n_terms for stage in one[2:]] == [2, 3, 5, 5, 5, 5]
    assert one[2].kmax == one[3].kmax == one[4].kmax
    assert (one[2].sweeps, two[2].sweeps, one[4].sweeps) == (5, 10, 10)
    few = march(Plan(30, 3, "composite", few=(2, 3)))
    assert [stage.n_terms for stage in few[2:]] == [2, 3, 3, 3, 3]


@pytest.mark.parametrize(
    ("given", "few"),
    [
        ({"basis": "cosine", "n_terms": 6}, (2, 3)),
        ({"basis": "fourier", "n_terms": 9}, (3, 5)),
        ({"basis": "haar", "n_terms": 8}, ()),
        ({"basis": "hats", "n_terms": 8}, ()),
        ({"n_terms": 1}, ()),
    ],
)
def test_state_frequencies_rise_for_smooth_bases_alone(given, few) -> None:
    assert few_terms(make_design(FitOptions(**given), 24, 4.0)) == few


def test_a_subspace_has_the_components_that_classes_span() -> None:
    for basis, terms, components in (("haar", 2, 2), ("onehot", 5, 4), ("hats", 8, 2)):
        stages = march(Plan(12, terms, basis))
        assert stages[1].form == "subspace" and stages[1].n_terms == components + 1
        assert {stage.n_terms for stage in stages[2:]} == {terms}


def test_the_papers_frequencies_rise_in_space_and_state_together() -> None:
    stages = paper(PLAN)[1:]
    assert [stage.n_terms for stage in stages] == [2, 3, 4, 5, 5]
    assert [stage.kmax for stage in stages] == [12, 18, 24, 30, 30]


@pytest.mark.parametrize("schedule", [paper, second_mode])
def test_from_nothing_the_papers_schedules_start_several_times(schedule) -> None:
    """With the paper's kernels alone: no jumps, no search."""
    known, stages = schedule(PLAN), schedule(replace(PLAN, searches=True))
    assert stages[0].is_trial and stages[0].begins == "anywhere" and not stages[0].finds_radius
    assert stages[0].form == "constant" and stages[0].kmax == 12
    assert [stage.name for stage in stages[1:]] == [stage.name for stage in known]
    assert not any(stage.is_trial or stage.begins != "as it was" for stage in stages[1:])
    assert not any(stage.anywhere for stage in stages)
    assert [stage.holds_contrasts for stage in stages] == [True] + [False] * len(known)


def test_jumps_are_of_the_march_alone(tmp_path) -> None:
    particles = load_particles(write_pretzel(tmp_path))
    design = make_design(FitOptions(), particles.box, particles.pixel_size_angstrom)
    for schedule, jumps in (("march", True), ("paper", False)):
        options = FitOptions(poses="search", schedule=schedule)
        assert make_plan(options, particles, design).jumps == jumps


def test_a_sampling_stage_runs_on_the_bench_of_the_last_one() -> None:
    """Its exact kernels are those of the stage before, so that nothing is compiled twice."""
    for schedule in (march, march_from_adam):
        *_, fine, sampling = schedule(PLAN)
        assert sampling.gradient_steps > 0
        assert fine.kernels == sampling.kernels and fine.kmax == sampling.kmax


def test_poses_that_may_be_anywhere_jump_in_every_stage_after_the_search() -> None:
    plan = replace(PLAN, jumps=True, searches=True, knows_poses=False, n_particles=3000)
    stages = march(plan)
    searching = [stage for stage in stages if stage.particles == "search"]
    assert [stage.is_trial for stage in searching] == [True, True, False]
    assert searching[-1].searched is None and searching[-1].sweeps == 1
    rest = stages[len(searching) :]
    assert [stage.anywhere for stage in rest if stage.form == "whole"] == [3000, 600, 600]
    assert {stage.anywhere_settled for stage in rest if stage.moves_poses} == {600}
    assert rest[0].anywhere == 3000 and rest[0].moves_poses and rest[0].learns_widths
    started = march(replace(plan, searches=False))
    assert [stage.name for stage in started] == [stage.name for stage in rest]
    assert [stage.begins for stage in started] == ["at the input"] + ["as it was"] * (len(rest) - 1)
    assert all(stage.learns_widths for stage in started if stage.moves_poses)
    rescued = march(replace(plan, searches=False, knows_poses=True))
    assert [stage.name for stage in rescued] == [stage.name for stage in rest]
    assert not any(stage.begins == "at the input" for stage in (*rest, *rescued))
    # poses begin at the input's very ones: a width drawn from those would be nothing
    held = [stage.name for stage in rescued if stage.moves_poses and not stage.learns_widths]
    assert held == ["consensus map"]
    assert rescued[0].anywhere == 1500 and rescued[-1].anywhere == rest[-1].anywhere
    assert not any(stage.anywhere for stage in march(PLAN))
    assert rest[0].cost(3000) > march(PLAN)[0].cost(3000)


def test_burn_in_up_to_medium_is_run_once_for_all_chains_of_a_search_alone() -> None:
    plan = replace(PLAN, n_terms=5, few=(2, 3), n_particles=3000)
    for jumps in (True, False):
        stages = march(replace(plan, jumps=jumps, searches=jumps))
        stages = tuple(stage for stage in stages if not stage.is_repair)
        few = [stage for stage in stages if "terms" in stage.name]
        assert [stage.n_terms for stage in few] == [2, 3]
        assert {stage.is_shared for stage in few} == {jumps}
        medium = next(stage for stage in stages if stage.name == "states, medium")
        assert medium.is_shared == jumps
        assert not any(stage.is_shared for stage in stages[stages.index(medium) + 1 :])


def test_a_large_search_begins_with_some_and_places_the_others() -> None:
    plan = replace(PLAN, jumps=True, searches=True, n_particles=20000, subset=4000)
    *first, placing, fine, sampling = march(plan)
    assert {stage.subset for stage in first} == {4000}
    assert placing.theta == "none" and placing.subset is None and placing.anywhere == 20000
    # once few jump, a fifth of those that a stage is of, however many these are
    assert {stage.anywhere_settled for stage in first if stage.anywhere} == {800}
    assert placing.anywhere_settled == sampling.anywhere == sampling.anywhere_settled == 4000
    assert fine.subset is None and sampling.subset is None
    assert [stage.name for stage in march(replace(plan, n_particles=4000))] == [
        stage.name for stage in (*first, fine, sampling)
    ]
    # a sweep of a fifth of the particles costs a fifth
    one, every = first[-1], replace(first[-1], subset=None)
    assert one.cost(20000) == pytest.approx(every.cost(20000) / 5.0)


def test_axes_are_asked_for_after_a_search_alone() -> None:
    found = march(replace(PLAN, jumps=True, searches=True, n_particles=3000))
    assert [stage.name for stage in found if stage.finds_axes] == ["consensus map, finer"]
    assert not any(stage.finds_axes for stage in march(PLAN))


def test_poses_that_may_be_anywhere_never_see_less_detail_than_before() -> None:
    stages = march(replace(PLAN, jumps=True, searches=True, n_particles=3000, few=(2, 3)))
    for repairs in (False, True):  # these begin again
        moving = [s.kmax for s in stages if s.moves_poses and s.is_repair == repairs]
        assert moving == sorted(moving)


def test_a_search_of_states_asks_for_hands_and_can_begin_again() -> None:
    plan = replace(PLAN, jumps=True, searches=True, n_terms=5, few=(2, 3), n_particles=3000)
    stages = march(plan)
    tested = [stage for stage in stages if stage.tests_hands]
    assert [stage.name for stage in tested] == ["states, 3 terms"]
    repairs = [stage for stage in stages if stage.is_repair]
    assert stages[stages.index(tested[0]) + 1] is repairs[0] and repairs[0].begins == "of one hand"
    assert {stage.begins for stage in repairs[1:]} == {"as it was"}
    names = [stage.name.removesuffix(", one hand") for stage in repairs]
    start = [stage.name for stage in stages].index("search, everywhere")
    assert names == [stage.name for stage in stages[start : start + len(names)]]
    assert not any(stage.is_trial or stage.finds_radius for stage in repairs)
    for other in (replace(plan, searches=False), replace(plan, few=()), PLAN):
        assert not any(stage.is_repair or stage.tests_hands for stage in march(other))
