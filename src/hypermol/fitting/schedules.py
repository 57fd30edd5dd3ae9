"""Schedules: which stages make a run, marching in spatial and state frequency together (sec. 5)."""

from collections.abc import Callable
from dataclasses import replace

from hypermol.data.particles import ParticleSet
from hypermol.fitting.stages import FIRST, SEARCH_LEVELS, SECOND, THIRD, Plan, Stage
from hypermol.io.errors import InputError
from hypermol.molecule.state_basis import BASES
from hypermol.recipe.design import AnyDesign
from hypermol.recipe.options import FitOptions, check_counts, finest_shell

#: Where poses may be anywhere.
_JUMPING = ("search", "rescue", "start")


def make_plan(options: FitOptions, particles: ParticleSet, design: AnyDesign) -> Plan:
    """Turn options into a plan, with every remedy spelled out."""
    check_counts(options)
    _refuse_empty_states(design, particles.n)
    return Plan(
        finest_shell(options, particles),
        design.n_terms,
        design.kind,
        options.poses != "fixed",
        options.burn_in,
        options.samples,
        options.thin,
        design.n_knobs,
        few_terms(design),
        rising_terms(design),
        _kernel(options, "theta", design),
        _kernel(options, "particles", design),
        searches=options.poses == "search",
        jumps=options.poses in _JUMPING and options.schedule == "march",
        knows_poses=options.knows_poses,
        n_particles=particles.n,
        subset=options.subset,
    )


#: Kernels of a molecule that is linear, of one that is not, and of the paper's schedule.
_LINEAR = {"theta": "exact", "particles": "candidates"}
_ANY = {"theta": "hmc", "particles": "gradient"}
_PAPERS = {"theta": "mala", "particles": "random-walk"}


def _kernel(options: FitOptions, name: str, design: AnyDesign) -> str:
    """The kernel asked for, or the one that the molecule and the schedule have by themselves."""
    own = _LINEAR if design.is_linear else _ANY
    chosen = getattr(options, name) or (own if options.schedule == "march" else _PAPERS)[name]
    if chosen == "exact" and not design.is_linear:
        raise InputError(
            f"sampling.theta is 'exact' but {options.type} is not known to be linear in theta: "
            "use 'hmc' or 'mala'"
        )
    return chosen


def _refuse_empty_states(design: AnyDesign, n_particles: int) -> None:
    """More classes or nodes than particles: some of them could not have any."""
    for part, basis, terms in design.bases:
        if BASES[basis].is_local and terms > n_particles:
            where = f"part {part!r} of the model: " if part else ""
            raise InputError(
                f"{where}n_terms is {terms} for a {basis} basis but there are {n_particles} "
                f"particles, so that {BASES[basis].terms} would have none: give fewer"
            )


#: Components of a subspace that is to tell classes apart.
_MAX_COMPONENTS = 5
#: Terms of each knob, stage after stage, while its states find their order; where they are pairs.
_FEW_TERMS, _FEW_IN_PAIRS = (2, 3), (3, 5)


def few_terms(design: AnyDesign) -> tuple[int, ...]:
    """How the march rises in state frequency; not at all for classes and nodes, which have none."""
    smooth = [BASES[kind] for _, kind, n in design.bases if n > 1 and not BASES[kind].is_local]
    smooth = [kind for kind in smooth if kind.states != "classes"]
    if not smooth:
        return ()
    return _FEW_IN_PAIRS if any(kind.in_pairs for kind in smooth) else _FEW_TERMS


#: How often the terms may rise, and by what factor each time.
_RISES, _FACTOR = 2, 1.5


def rising_terms(design: AnyDesign) -> tuple[int, ...]:
    """Numbers of terms that a march may go on with, as long as the images tell; none where all
    numbers are given."""
    found, terms = [], design.n_terms
    in_pairs = any(BASES[kind].in_pairs for part, kind, _ in design.bases if part in design.rising)
    for _ in range(_RISES if design.rising else 0):
        terms = round(_FACTOR * terms)
        terms -= in_pairs and terms % 2 == 0  # a constant, and pairs
        found.append(terms)
    return tuple(found)


#: Sweeps of a search's levels, and inverse temperatures.
_SEARCH_SWEEPS, _SEARCH_BETA = (40, 30), ((0.3, 0.8), (0.6, 1.0))


def search(plan: Plan) -> tuple[Stage, ...]:
    """A rigid map from nothing: frequencies rise and the temperature falls (sec. 5: zero start).

    Both levels are tried several times; the best goes on, and places every particle. From there
    on jumps are exact, and cost less.
    """

    def stage(name: str, kmax: int, sweeps: int, beta: tuple[float, float]) -> Stage:
        return Stage(
            name,
            "constant",
            min(kmax, plan.kmax),
            1,
            sweeps,
            particles="search",
            moves_poses=True,
            is_shared=True,
            beta=beta,
            searched=plan.searched(plan.first_particles),
            is_trial=True,
        )

    levels = zip(SEARCH_LEVELS, _SEARCH_SWEEPS, _SEARCH_BETA, strict=True)
    trials = [stage(f"search, {kmax} waves", kmax, sweeps, beta) for kmax, sweeps, beta in levels]
    everywhere = replace(
        trials[-1],
        name="search, everywhere",
        sweeps=1,
        beta=(1.0, 1.0),
        searched=None,
        is_trial=False,
    )
    return (*trials, everywhere)


def with_one_hand(stages: list[Stage]) -> list[Stage]:
    """The last stage asks whether its states are of one hand; if not, all but the trials are run
    again from one state's map."""
    tested = replace(stages[-1], tests_hands=True)
    again = [
        replace(stage, name=f"{stage.name}, one hand", is_repair=True, finds_radius=False)
        for stage in stages
        if not stage.is_trial
    ]
    return [*stages[:-1], tested, replace(again[0], begins="of one hand"), *again[1:]]


#: Sweeps in which particles that a search did not begin with find their places: after eight of them
#: 0.90 of 15,000 were aligned, and 0.98 of the 5,000 that it began with.
_PLACINGS = 20


def march(plan: Plan) -> tuple[Stage, ...]:
    """Consensus map, linear subspace, then states and poses with rising frequencies.

    The subspace stage finds the motion without any start: its first principal components order
    the particles along an interval or round a circle. That order is rough, and mixes several
    knobs: with many terms a molecule would bend to fit it and stay so, torn, with an arc of its
    states in the wrong place. With few terms it cannot: only states in their order fit, and only
    knobs that are independent of one another.
    """
    known = BASES.get(plan.basis)  # none for a composite
    fewer = known is not None and not known.is_local and not known.in_pairs
    terms = max(1, plan.n_terms - fewer)
    # with less detail than the rigid map had, poses that may be anywhere would be lost again
    second = plan.level(THIRD if plan.jumps else SECOND)
    stages = [*(search(plan) if plan.searches else ()), *plan.consensus()]
    if plan.n_terms > 1:
        # n classes span n - 1 components; along one knob two order the particles
        components = min(max(plan.n_terms - 1, 2), _MAX_COMPONENTS) if plan.classes else 2
        stages.append(
            Stage(
                "linear subspace",
                "subspace",
                plan.level(FIRST),
                components + 1,
                plan.burn_in,
                is_shared=True,
            )
        )
    sweeps = plan.burn_in if plan.n_knobs > 1 else max(2, plan.burn_in // 2)
    # what costs a search its time is done once, for all chains that part from it
    rising = [
        replace(plan.stage(f"states, {few} terms", second, few, sweeps), is_shared=plan.jumps)
        for few in plan.few
        if few < terms
    ]
    stages += rising
    if plan.searches and rising:
        stages = with_one_hand(stages)
    medium = 3 * plan.burn_in // 2 if plan.move_poses else plan.burn_in
    if not plan.jumps:
        coarse = plan.stage("states, coarse", second, terms, plan.burn_in)
        stages.append(replace(coarse, mends_tears=True))
    whole = plan.stage("states, medium", plan.level(THIRD), terms, medium, learns=True)
    stages.append(replace(whole, is_shared=plan.jumps, tests_terms=bool(plan.rising)))
    stages += with_more_terms(plan, stages[-1])
    if plan.first_particles < plan.n_particles:
        stages = _with_others_placed(plan, stages)
    return (*stages, *_last(plan, "states, fine", max(2, plan.burn_in // 2)))


def _with_others_placed(plan: Plan, stages: list[Stage]) -> list[Stage]:
    """The stages with the particles that a search begins with, and one that places the others."""
    some, everyone = plan.first_particles, stages[-1]
    few = plan.settled(some)
    first = [
        replace(stage, subset=some, anywhere_settled=min(stage.anywhere_settled, few))
        for stage in stages
    ]
    placing = replace(
        everyone,
        name="placing the others",
        n_terms=plan.n_terms,
        theta="none",
        sweeps=_PLACINGS,
        tests_terms=False,
        rises=False,
        follows=bool(plan.rising),
    )
    return [*first, placing]


def with_more_terms(plan: Plan, last: Stage) -> list[Stage]:
    """Stages of more and more state terms, each run if those before it were not enough."""
    found = []
    for terms in plan.rising:
        name, sweeps = f"states, {terms} terms", max(2, plan.burn_in // 2)
        more = replace(last, name=name, n_terms=terms, sweeps=sweeps, rises=True)
        found.append(replace(more, tests_terms=terms != plan.rising[-1]))
    return found


def _last(plan: Plan, name: str, sweeps: int) -> tuple[Stage, Stage]:
    """The last level: burn-in with the kernels of sampling, and sampling."""
    # only here: a schedule without such a burn-in would sample with steps that nobody adapted
    follows = bool(plan.rising)
    last = replace(plan.sampling(), gradient_steps=plan.gradient_steps, follows=follows)
    fine = plan.stage(name, plan.kmax, plan.n_terms, sweeps, learns=True)
    fine = replace(fine, follows=follows)
    # almost none of those that are offered poses from anywhere takes one by now
    return replace(fine, anywhere=last.anywhere, gradient_steps=last.gradient_steps), last


def march_from_adam(plan: Plan) -> tuple[Stage, ...]:
    """For molecules that are not linear: consensus map, Adam over all states, then as any other."""
    start = plan.level(THIRD)
    return (
        *(search(plan) if plan.searches else ()),
        *plan.consensus(),
        Stage(
            "start by Adam",
            "whole",
            start,
            plan.n_terms,
            plan.start_sweeps,
            "adam",
            "nodes",
            is_shared=True,
        ),
        plan.stage("medium", start, plan.n_terms, plan.burn_in),
        *_last(plan, "fine", plan.burn_in),
    )


#: Shares of the final frequencies, in space and in state, of the paper's march.
_PAPER_LEVELS = (0.4, 0.6, 0.8, 1.0)


def _papers(plan: Plan, theta: str, particles: str) -> tuple[Stage, ...]:
    """A rigid molecule, then states, with frequencies rising in space and state together.

    From nothing, the rigid molecule begins at zero and particles in random directions, several
    times (the paper starts again at a low resolution); the best goes on.
    """

    def stage(name: str, form: str, share: float) -> Stage:
        terms = 1 if form == "constant" else max(min(2, plan.n_terms), round(share * plan.n_terms))
        return Stage(
            name,
            form,
            plan.level(share),
            terms,
            plan.burn_in,
            theta,
            particles,
            moves_poses=plan.move_poses,
            is_shared=form == "constant",
            finds_radius=form == "constant",
        )

    rising = [stage(f"states, {share:.0%}", "whole", share) for share in _PAPER_LEVELS]
    first = stage("homogeneous", "constant", _PAPER_LEVELS[0])
    restarts = replace(
        first,
        name="homogeneous, from nothing",
        is_trial=True,
        finds_radius=False,
        begins="anywhere",
    )
    return *((restarts,) if plan.searches else ()), first, *rising, plan.sampling()


def paper(plan: Plan) -> tuple[Stage, ...]:
    """Sec. 5: MALA on theta, random walks of direction, state, shift and contrast."""
    return _papers(plan, plan.theta, plan.particles)


def second_mode(plan: Plan) -> tuple[Stage, ...]:
    """Sec. 5's second mode while burning in, the first while sampling."""
    return _papers(plan, "second-mode", "none")


_SCHEDULES: dict[str, Callable[[Plan], tuple[Stage, ...]]] = {
    "march": march,
    "paper": paper,
    "second-mode": second_mode,
}


def make_schedule(
    options: FitOptions, particles: ParticleSet, design: AnyDesign
) -> tuple[Stage, ...]:
    """The stages that a recipe's `sampling.schedule` names.

    Raises:
        InputError: options that no fit can run with, or a schedule that the molecule cannot run.
    """
    plan = make_plan(options, particles, design)
    stages = _stages(options, plan, design)
    if options.spectrum == "flat":
        return tuple(replace(stage, estimates_spectrum=False) for stage in stages)
    return stages


def _refuse_search(design: AnyDesign) -> None:
    """What cannot be searched from nothing.

    Raises:
        InputError: says what to do instead.
    """
    if design.is_linear and design.axes is None:
        raise InputError(
            "poses is 'search' but the model has parts that stand somewhere, in a frame of its own "
            "that a search does not know: search with one generic molecule, and give this model "
            "the particles.star of that run, turned into its frame"
        )


def _stages(options: FitOptions, plan: Plan, design: AnyDesign) -> tuple[Stage, ...]:
    """What the schedule makes of the plan."""
    if options.poses in ("rescue", "start") and options.schedule != "march":
        raise InputError(
            f"poses is {options.poses!r} but sampling.schedule is {options.schedule!r}, which "
            "knows no far jumps: use 'march'"
        )
    if options.poses == "search":
        _refuse_search(design)
    if design.is_linear:
        return _SCHEDULES[options.schedule](plan)
    if options.schedule == "second-mode":
        raise InputError(
            f"sampling.schedule is 'second-mode' but {options.type} is not linear in theta: use "
            "'march' or 'paper'"
        )
    return march_from_adam(plan)
