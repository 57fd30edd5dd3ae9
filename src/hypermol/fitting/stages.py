"""A run as data: its stages, and what a schedule of them depends on."""

from dataclasses import dataclass, replace
from typing import Literal, final

import jax
from jax import Array

from hypermol.molecule.state_basis import BASES

#: Slices that a sweep takes of each image, by what moves the particles and where poses move:
#: to tell how long is left.
_SLICES = {
    "candidates": 14.0,
    "gradient": 24.0,
    "random-walk": 8.0,
    "nodes": 8.0,
    "none": 0.0,
    "search": 0.0,
}
#: The same of a gradient step of a particle.
_GRADIENT_STEP = 3.0
#: The same of theta's part of a sweep, and of the rest of it.
_REST = 8.0
#: The same of a match of all particles with the molecule from everywhere, over kmax^4; of the
#: match that jumps are proposed by, and of the views that are weighed then.
_MATCH, _PROPOSE, _OFFERED = 7.5, 30000.0, 16.0


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
        theta: exact, mala or hmc; adam and second-mode are starts, not exact; none leaves the
            molecule alone.
        particles: candidates, gradient or random-walk; nodes and search are starts, none leaves
            them alone.
        gradient_steps: of every particle that moves, after its candidates.
        moves_poses: whether rotations and shifts are drawn.
        learns_widths: whether the widths of their priors are.
        estimates_spectrum: whether theta's spectrum follows its draws, in burn-in.
        is_shared: run once for several chains, which part after it.
        finds_radius: its molecule fills the box, and its map tells the support's radius.
        finds_axes: its map tells the molecule's point group, and is turned to its axes.
        tests_terms: the highest state terms are asked whether the images tell more.
        rises: run only if they did.
        follows: of as many terms as were found.
        finds_frame: its map is turned onto the user's own molecule.
        tests_hands: the maps of its states are asked whether some are mirror images of others.
        mends_tears: motions that were put together in the wrong order are put right.
        is_repair: run only for starts whose states were.
        begins: where a chain that enters it stands: as it was; with its particles where the input
            has them, whatever the prior says; with them in random directions; or with the map of
            one of two hands, and no particle's place.
        beta: inverse temperatures that a search begins and ends with.
        searched: particles that a sweep of it searches, None all.
        is_trial: a start from nothing run several times, of which the best goes on.
        anywhere: particles that a sweep offers poses from anywhere to.
        anywhere_settled: the same once few of them jump far.
        subset: particles that it is of; None all.
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
    gradient_steps: int = 0
    moves_poses: bool = False
    learns_widths: bool = False
    estimates_spectrum: bool = True
    is_shared: bool = False
    finds_radius: bool = False
    finds_axes: bool = False
    tests_terms: bool = False
    rises: bool = False
    follows: bool = False
    finds_frame: bool = False
    tests_hands: bool = False
    mends_tears: bool = False
    is_repair: bool = False
    begins: Literal["as it was", "at the input", "anywhere", "of one hand"] = "as it was"
    beta: tuple[float, float] = (1.0, 1.0)
    searched: int | None = None
    is_trial: bool = False
    anywhere: int = 0
    anywhere_settled: int = 0
    subset: int | None = None
    keep_every: int = 0

    def cost(self, n_particles: int) -> float:
        """Relative time of one sweep: pixels x terms x slices taken, and what is looked for
        everywhere, by how many of the particles it is of."""
        all_of_them, n_particles = n_particles, min(n_particles, self.subset or n_particles)
        slices = _SLICES[self.particles] + _GRADIENT_STEP * self.gradient_steps
        slices = slices if self.moves_poses else min(slices, 1.0)
        jumping = min(self.anywhere / max(n_particles, 1), 1.0)
        everywhere = _PROPOSE * jumping
        if self.particles == "search":
            looked = n_particles if self.searched is None else min(self.searched, n_particles)
            everywhere = _MATCH * self.kmax**4 * looked / max(n_particles, 1)
        pixels = self.kmax**2 * self.n_terms
        theta = 0.0 if self.theta == "none" else _REST
        each = pixels * (slices + _OFFERED * jumping + theta) + everywhere
        return each * n_particles / max(all_of_them, 1)

    def as_found(self, n_terms: int | None) -> "Stage":
        """With as many state terms as the images were found to tell, where it follows that."""
        return replace(self, n_terms=n_terms) if self.follows and n_terms else self

    @property
    def kernels(self) -> tuple:
        """What the exact blocks of its sweep depend on beside the posterior."""
        return (
            self.theta,
            self.particles,
            self.gradient_steps,
            self.moves_poses,
            self.learns_widths,
            self.learns_contrast,
            self.holds_contrasts,
            self.anywhere,
        )

    @property
    def learns_contrast(self) -> bool:
        """Whether the width of contrasts is drawn: not before a theta that climbs has its scale."""
        return self.theta == "exact" or self.learns_widths or not self.burn_in

    @property
    def holds_contrasts(self) -> bool:
        """Whether contrasts are held at 1, as the paper's amplitudes are at first."""
        return self.begins == "anywhere"

    @property
    def burn_in(self) -> bool:
        """Whether the stage adapts, so that its output is not a posterior sample."""
        return self.keep_every == 0


#: Share of the particles that a sweep looks for everywhere, and bounds of their number.
_SEARCHED, _LEAST_SEARCHED, _MOST_SEARCHED = 0.2, 400, 1000
#: Where a march begins, and further levels of it, as shares of the final frequency.
FIRST, SECOND, THIRD = 0.42, 0.5, 0.7
#: Gradient steps of each particle in a sweep of the last level: candidates find another place, and
#: walk slowly about in one.
_GRADIENT_STEPS = 4
#: Frequencies, in 1/box, that a search from nothing rises through.
SEARCH_LEVELS = (6, 8)


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
        rising: terms that they may rise to after all of them, stage after stage.
        theta: what draws theta in the stages that sample.
        particles: what draws the particles there.
        start_sweeps: of Adam, for classes of the user's own.
        searches: no pose is known.
        jumps: poses may be anywhere, however they began.
        knows_poses: the input's say something of where they are.
        n_particles: how many there are.
        subset: as many as a search begins with, None all; the others are placed when it knows the
            molecule.
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
    rising: tuple[int, ...] = ()
    theta: str = "exact"
    particles: str = "candidates"
    start_sweeps: int = 4
    searches: bool = False
    jumps: bool = False
    knows_poses: bool = True
    n_particles: int = 0
    subset: int | None = None

    @property
    def first_particles(self) -> int:
        """How many the march begins with."""
        if not self.searches or self.subset is None:
            return self.n_particles
        return min(self.subset, self.n_particles)

    def searched(self, n_particles: int) -> int:
        """Of so many, particles that a sweep looks for everywhere."""
        return min(max(_LEAST_SEARCHED, round(_SEARCHED * n_particles)), _MOST_SEARCHED)

    def settled(self, n_particles: int) -> int:
        """Of so many, particles that a sweep offers poses from anywhere to, once few jump far: a
        share, however many there are, or the last of many would never be asked."""
        return max(_LEAST_SEARCHED, round(_SEARCHED * n_particles)) * self.jumps

    @property
    def offered(self) -> int:
        """Particles that a sweep of burn-in offers poses from anywhere to, at first: all; of those
        of a rescue, most of which are where they should be, half."""
        return (self.n_particles if self.searches else self.n_particles // 2) * self.jumps

    @property
    def gradient_steps(self) -> int:
        """Of each particle in a sweep of the last level, beside its candidates."""
        return _GRADIENT_STEPS * (self.particles == "candidates")

    @property
    def classes(self) -> bool:
        """Whether states are classes, of which every level has the same number."""
        return self.basis in BASES and BASES[self.basis].states == "classes"

    def level(self, share: float) -> int:
        """A level of the march, as a share of the final frequency."""
        least = SEARCH_LEVELS[-1] if self.searches else 5
        return min(self.kmax, max(least, round(share * self.kmax)))

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
            learns_widths=(learns and self.move_poses) or self.jumps,
            anywhere=self.offered,
            anywhere_settled=self.settled(self.n_particles),
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
            anywhere=self.settled(self.n_particles),
            anywhere_settled=self.settled(self.n_particles),
            keep_every=self.thin,
        )

    def consensus(self) -> tuple[Stage, ...]:
        """The rigid map that every march begins with.

        At the input's poses; or until those that may be anywhere have settled, and then again with
        finer detail, by which parts of a molecule are told apart that look alike from afar.
        """
        first = Stage(
            "consensus map",
            "constant",
            self.level(FIRST),
            1,
            2 * self.burn_in if self.jumps else max(2, self.burn_in // 2),
            moves_poses=self.jumps,
            learns_widths=not self.knows_poses,
            is_shared=True,
            finds_radius=True,
            begins="as it was" if self.knows_poses or self.searches else "at the input",
            anywhere=self.offered,
            anywhere_settled=self.settled(self.n_particles),
        )
        if not self.jumps:
            return (first,)
        finer = replace(
            first,
            name="consensus map, finer",
            kmax=self.level(THIRD),
            sweeps=3 * self.burn_in // 2,
            finds_radius=False,
            begins="as it was",
            learns_widths=True,
            finds_axes=self.searches and self.basis != "own",
            finds_frame=self.searches and self.basis == "own",
        )
        return first, finer


@jax.jit
def sweep_key(seed: int, chain: int, sweep: int) -> Array:
    """The key of one sweep: it depends on nothing but these, so a resumed run repeats it."""
    key = jax.random.key(seed)
    return jax.random.fold_in(jax.random.fold_in(key, chain), sweep)
