"""Sweeps as data: the stages of a run, marching in spatial and state frequency (sec. 5)."""

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.particles import ParticleSet
from hypermol.inference.ensemble import CandidateCounts, MoveSize
from hypermol.io.errors import InputError
from hypermol.molecule.state_basis import BASES
from hypermol.recipe.design import Design
from hypermol.recipe.options import FitOptions, check_counts, finest_shell, make_design

#: Shares of candidate steps that should move a rotation or a shift. Steps of rotations that leave
#: the prior as it is decorrelate fastest when they are bold: benchmarks/results/rotations.md.
ROTATION_TARGET = 0.3
SHIFT_TARGET = 0.7
#: Least width of the proposals of rotations in radians, bounds of those of shifts in pixels.
LEAST_ROTATION = 0.002
SHIFT_BOUNDS = (0.02, 2.0)


@final
@dataclass(frozen=True)
class Stage:
    """A run of equal sweeps.

    Attributes:
        name: shown in progress and trace.
        basis: constant, subspace, or the recipe's own state basis.
        kmax: largest spatial frequency, in 1/box.
        n_terms: terms of the state basis (components + 1 for a subspace).
        sweeps: how many.
        candidates: what a particle step weighs.
        learn_widths: whether the widths of the pose priors are drawn.
        keep_every: keep a posterior sample every so many sweeps; 0 marks burn-in, in which
            widths of proposals adapt and the prior's spectrum is estimated.
    """

    name: str
    basis: str
    kmax: int
    n_terms: int
    sweeps: int
    candidates: CandidateCounts
    learn_widths: bool = False
    keep_every: int = 0

    @property
    def cost(self) -> float:
        """Relative time of one sweep, to tell how long is left: pixels x terms x slices taken."""
        return self.kmax**2 * self.n_terms * (self.candidates.rotations + 8.0)

    @property
    def burn_in(self) -> bool:
        """Whether the stage adapts, so that its output is not a posterior sample."""
        return self.keep_every == 0


@final
@dataclass(frozen=True)
class Plan:
    """What the default schedule depends on.

    Attributes:
        kmax: final spatial frequency.
        n_terms: final number of state terms (1: rigid).
        basis: the final state basis.
        move_poses: rotations and shifts are drawn, or left at the input's.
        burn_in: sweeps of each marching stage.
        samples: posterior samples to keep per chain.
        thin: sweeps a kept sample.
        n_knobs: how many states a particle has that deform it.
    """

    kmax: int
    n_terms: int
    basis: str
    move_poses: bool = True
    burn_in: int = 10
    samples: int = 10
    thin: int = 1
    n_knobs: int = 1

    @property
    def classes(self) -> bool:
        """Whether states are classes, of which every level has the same number."""
        return self.basis in BASES and BASES[self.basis].states == "classes"


def make_plan(options: FitOptions, particles: ParticleSet) -> Plan:
    """Turn options into a plan, with every remedy spelled out."""
    check_counts(options)
    kmax = finest_shell(options, particles)
    design = make_design(options, particles.box, particles.pixel_size_angstrom)
    _refuse_empty_states(design, particles.n)
    return Plan(
        kmax,
        design.n_terms,
        design.kind,
        options.poses == "refine",
        options.burn_in,
        options.samples,
        options.thin,
        design.n_knobs,
    )


def _refuse_empty_states(design: Design, n_particles: int) -> None:
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
_STATES = 32
#: Components of a subspace that is to tell classes apart.
_MAX_COMPONENTS = 5
#: Terms of each knob, stage after stage, while several knobs are told apart.
_FEW_TERMS = (2, 3)


def default_schedule(plan: Plan) -> tuple[Stage, ...]:
    """Consensus map, linear subspace, then states and poses with rising frequencies.

    The subspace stage finds the motion without any start: its first principal components order
    the particles along an interval or round a circle. Along one knob that is a good order; several
    knobs are mixed in them, and with many terms a molecule would bend to fit the mixture and stay
    so. With few terms it cannot, and only knobs that are independent of one another fit.
    """

    def level(fraction: float) -> int:
        return min(plan.kmax, max(5, round(fraction * plan.kmax)))

    still = CandidateCounts(1, 1, _STATES)
    moving = CandidateCounts(5, 3, _STATES) if plan.move_poses else still
    first, half = level(_FIRST), max(2, plan.burn_in // 2)
    medium = 3 * plan.burn_in // 2 if plan.move_poses else plan.burn_in
    known = BASES.get(plan.basis)  # none for a composite
    fewer = known is not None and not known.is_local and not known.in_pairs
    terms = max(1, plan.n_terms - fewer)
    moves = plan.move_poses
    stages = [Stage("consensus map", "constant", first, 1, half, still)]
    if plan.n_terms > 1:
        # n classes span n - 1 components; along one knob two order the particles
        components = min(max(plan.n_terms - 1, 2), _MAX_COMPONENTS) if plan.classes else 2
        stages.append(
            Stage("linear subspace", "subspace", first, components + 1, plan.burn_in, still)
        )
    if plan.n_knobs > 1 and not plan.classes:
        stages += [
            Stage(f"states, {few} terms", plan.basis, level(_SECOND), few, plan.burn_in, moving)
            for few in _FEW_TERMS
            if few < terms
        ]
    stages += [
        Stage("states, coarse", plan.basis, level(_SECOND), terms, plan.burn_in, moving),
        Stage("states, medium", plan.basis, level(_THIRD), terms, medium, moving, moves),
        Stage("states, fine", plan.basis, plan.kmax, plan.n_terms, half, moving, moves),
        Stage(
            "sampling",
            plan.basis,
            plan.kmax,
            plan.n_terms,
            plan.samples * plan.thin,
            moving,
            moves,
            plan.thin,
        ),
    ]
    return tuple(stages)


def adapt(
    size: MoveSize,
    moved_rotation: Array | np.ndarray,
    moved_shift: Array | np.ndarray,
    gain: float,
    widest_rad: Array | float,
) -> MoveSize:
    """Robbins-Monro step of each particle's proposal widths towards the target rates.

    Only for burn-in: adaptation breaks the chain's exactness.

    Args:
        size: widths now, per particle.
        moved_rotation, moved_shift: shares of the last sweep's steps that moved.
        gain: of the step.
        widest_rad: the prior's standard deviation, beyond which rotations go no wider.
    """

    def towards(
        width: Array,
        moved: Array | np.ndarray,
        target: float,
        bounds: tuple[float, Array | float],
    ) -> Array:
        return jnp.clip(width * jnp.exp(gain * (moved - target)), *bounds)

    return MoveSize(
        towards(size.rotation_rad, moved_rotation, ROTATION_TARGET, (LEAST_ROTATION, widest_rad)),
        towards(size.shift_px, moved_shift, SHIFT_TARGET, SHIFT_BOUNDS),
    )


def sweep_key(seed: int, chain: int, sweep: int) -> Array:
    """The key of one sweep: it depends on nothing but its place, so a resumed run repeats it."""
    key = jax.random.key(seed)
    return jax.random.fold_in(jax.random.fold_in(key, chain), sweep)
