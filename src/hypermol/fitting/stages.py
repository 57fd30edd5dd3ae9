"""A run as data: its stages, marching in spatial and state frequency together (sec. 5)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import jax
from jax import Array

from hypermol.data.particles import ParticleSet
from hypermol.io.errors import InputError
from hypermol.molecule.state_basis import BASES
from hypermol.recipe.design import AnyDesign
from hypermol.recipe.options import FitOptions, check_counts, finest_shell

#: Slices that a sweep takes of each image, by what moves the particles and where poses move:
#: to tell how long is left.
_SLICES = {"candidates": 5.0, "gradient": 24.0, "random-walk": 8.0, "nodes": 8.0, "none": 0.0}
#: The same of theta's part of a sweep, and of the rest of it.
_REST = 8.0


@final
@dataclass(frozen=True)
class Stage:
    """A run of equal sweeps.

    Attributes:
        name: shown in progress and trace.
        form: of the molecule: constant (rigid), subspace (linear), or whole, the recipe's own.
        kmax: largest spatial frequency, in 1/box.
        n_terms: terms of the state basis (principal components + 1 for a subspace).
        sweeps: how many.
        theta: exact, mala or hmc; adam and second-mode are starts, not exact.
        particles: candidates, gradient or random-walk; nodes is a start, none leaves them alone.
        moves_poses: whether rotations and shifts are drawn.
        learns_widths: whether the widths of their priors are.
        estimates_spectrum: whether theta's spectrum follows its draws, in burn-in.
        is_shared: run once for several chains, which part after it.
        finds_radius: its molecule fills the box, and its map tells the support's radius.
        keep_every: keep a posterior sample every so many sweeps; 0 marks burn-in, in which
            kernels adapt.
    """

    name: str
    form: str
    kmax: int
    n_terms: int
    sweeps: int
    theta: str = "exact"
    particles: str = "candidates"
    moves_poses: bool = False
    learns_widths: bool = False
    estimates_spectrum: bool = True
    is_shared: bool = False
    finds_radius: bool = False
    keep_every: int = 0

    @property
    def cost(self) -> float:
        """Relative time of one sweep: pixels x terms x slices taken."""
        slices = _SLICES[self.particles] if self.moves_poses else min(_SLICES[self.particles], 1.0)
        return self.kmax**2 * self.n_terms * (slices + _REST)

    @property
    def kernels(self) -> tuple:
        """What the exact blocks of its sweep depend on beside the posterior."""
        return (
            self.theta,
            self.particles,
            self.moves_poses,
            self.learns_widths,
            self.learns_contrast,
        )

    @property
    def learns_contrast(self) -> bool:
        """Whether the width of contrasts is drawn: not before a theta that climbs has its scale."""
        return self.theta == "exact" or self.learns_widths or not self.burn_in

    @property
    def burn_in(self) -> bool:
        """Whether the stage adapts, so that its output is not a posterior sample."""
        return self.keep_every == 0


@final
@dataclass(frozen=True)
class Plan:
    """What a schedule depends on.

    Attributes:
        kmax: final spatial frequency.
        n_terms: final number of state terms (1: rigid).
        basis: the final state basis, "composite", or "own" for a class of the user's own.
        move_poses: rotations and shifts are drawn, or left at the input's.
        burn_in: sweeps of each marching stage.
        samples: posterior samples to keep per chain.
        thin: sweeps a kept sample.
        n_knobs: how many states a particle has that deform it.
        few: terms of each knob, stage after stage, before all of them; none for local bases.
        theta: what draws theta in the stages that sample.
        particles: what draws the particles there.
        start_sweeps: of Adam, for classes of the user's own.
    """

    kmax: int
    n_terms: int
    basis: str
    move_poses: bool = True
    burn_in: int = 10
    samples: int = 10
    thin: int = 1
    n_knobs: int = 1
    few: tuple[int, ...] = ()
    theta: str = "exact"
    particles: str = "candidates"
    start_sweeps: int = 4

    @property
    def classes(self) -> bool:
        """Whether states are classes, of which every level has the same number."""
        return self.basis in BASES and BASES[self.basis].states == "classes"

    def level(self, share: float) -> int:
        """A level of the march, as a share of the final frequency."""
        return min(self.kmax, max(5, round(share * self.kmax)))

    def stage(self, name: str, kmax: int, n_terms: int, sweeps: int, learns: bool = False) -> Stage:
        """A stage of burn-in with the molecule whole and the final kernels."""
        return Stage(
            name,
            "whole",
            kmax,
            n_terms,
            sweeps,
            self.theta,
            self.particles,
            moves_poses=self.move_poses,
            learns_widths=learns and self.move_poses,
        )

    def sampling(self) -> Stage:
        """The last stage, whose sweeps are kept."""
        return Stage(
            "sampling",
            "whole",
            self.kmax,
            self.n_terms,
            self.samples * self.thin,
            self.theta,
            self.particles,
            moves_poses=self.move_poses,
            learns_widths=self.move_poses,
            estimates_spectrum=False,
            keep_every=self.thin,
        )

    def consensus(self) -> Stage:
        """The rigid map that every march begins with, at the input's poses."""
        sweeps = max(2, self.burn_in // 2)
        return Stage(
            "consensus map",
            "constant",
            self.level(_FIRST),
            1,
            sweeps,
            is_shared=True,
            finds_radius=True,
        )


def make_plan(options: FitOptions, particles: ParticleSet, design: AnyDesign) -> Plan:
    """Turn options into a plan, with every remedy spelled out."""
    check_counts(options)
    _refuse_empty_states(design, particles.n)
    return Plan(
        finest_shell(options, particles),
        design.n_terms,
        design.kind,
        options.poses == "refine",
        options.burn_in,
        options.samples,
        options.thin,
        design.n_knobs,
        few_terms(design),
        _kernel(options, "theta", design),
        _kernel(options, "particles", design),
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


#: Levels of the march as fractions of the final frequency.
_FIRST, _SECOND, _THIRD = 0.42, 0.5, 0.7
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
    second = plan.level(_SECOND)
    stages = [plan.consensus()]
    if plan.n_terms > 1:
        # n classes span n - 1 components; along one knob two order the particles
        components = min(max(plan.n_terms - 1, 2), _MAX_COMPONENTS) if plan.classes else 2
        stages.append(
            Stage(
                "linear subspace",
                "subspace",
                plan.level(_FIRST),
                components + 1,
                plan.burn_in,
                is_shared=True,
            )
        )
    sweeps = plan.burn_in if plan.n_knobs > 1 else max(2, plan.burn_in // 2)
    stages += [
        plan.stage(f"states, {few} terms", second, few, sweeps) for few in plan.few if few < terms
    ]
    medium = 3 * plan.burn_in // 2 if plan.move_poses else plan.burn_in
    return (
        *stages,
        plan.stage("states, coarse", second, terms, plan.burn_in),
        plan.stage("states, medium", plan.level(_THIRD), terms, medium, learns=True),
        plan.stage("states, fine", plan.kmax, plan.n_terms, max(2, plan.burn_in // 2), learns=True),
        plan.sampling(),
    )


def march_from_adam(plan: Plan) -> tuple[Stage, ...]:
    """For molecules that are not linear: consensus map, Adam over all states, then as any other."""
    start = plan.level(_THIRD)
    return (
        plan.consensus(),
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
        plan.stage("fine", plan.kmax, plan.n_terms, plan.burn_in, learns=True),
        plan.sampling(),
    )


#: Shares of the final frequencies, in space and in state, of the paper's march.
_PAPER_LEVELS = (0.4, 0.6, 0.8, 1.0)


def _papers(plan: Plan, theta: str, particles: str) -> tuple[Stage, ...]:
    """A rigid molecule, then states, with frequencies rising in space and state together."""

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
    return stage("homogeneous", "constant", _PAPER_LEVELS[0]), *rising, plan.sampling()


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


def _stages(options: FitOptions, plan: Plan, design: AnyDesign) -> tuple[Stage, ...]:
    """What the schedule makes of the plan."""
    if design.is_linear:
        return _SCHEDULES[options.schedule](plan)
    if options.schedule == "second-mode":
        raise InputError(
            f"sampling.schedule is 'second-mode' but {options.type} is not linear in theta: use "
            "'march' or 'paper'"
        )
    return march_from_adam(plan)


@jax.jit
def sweep_key(seed: int, chain: int, sweep: int) -> Array:
    """The key of one sweep: it depends on nothing but these, so a resumed run repeats it."""
    key = jax.random.key(seed)
    return jax.random.fold_in(jax.random.fold_in(key, chain), sweep)
