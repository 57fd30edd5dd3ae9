"""Everything that the page shows, computed once and not drawn yet."""

from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from hypermol.analysis.chains import (
    aligned_states,
    chains_of_swapped_copies,
    has_states,
    run_knobs,
)
from hypermol.analysis.dependence import (
    Dependence,
    JointOccupancy,
    joint_occupancies,
    run_dependences,
)
from hypermol.analysis.hands import HandStanding
from hypermol.analysis.knobs import Knob
from hypermol.analysis.occupancy import Occupancy
from hypermol.analysis.particle_summary import ParticleSummary, summarise_particles
from hypermol.analysis.run import Run
from hypermol.analysis.summary import particle_occupancy, sampled_occupancy
from hypermol.report.convergence import Convergence, convergence_table
from hypermol.report.density import Density, summarise_density
from hypermol.report.figures_sampler import Trace
from hypermol.report.hands import run_hands
from hypermol.report.leak import Leak, find_leaks, suspects
from hypermol.report.particles import (
    InputPoses,
    chain_agreement,
    read_input_poses,
    state_spread,
)
from hypermol.report.resolution import (
    HalfSetCurves,
    Spectra,
    half_set_curves,
    power_spectra,
)

_STATES = 7


class KnobEvidence(NamedTuple):
    """One state variable.

    Attributes:
        knob: which.
        state: [N] posterior mean of each particle.
        state_sd: [N] its sd.
        model: occupancy of the population with bands; None where it was not learned.
        observed: occupancy of these particles' sampled states, with bands.
        spread: standard deviation of all particles' states.
        agreement: least agreement of two chains' mean states; None with one chain.
        leaks: association of the state with what it should not follow.
    """

    knob: Knob
    state: np.ndarray
    state_sd: np.ndarray
    model: Occupancy | None
    observed: Occupancy
    spread: float
    agreement: float | None
    leaks: list[Leak]

    @property
    def occupancy(self) -> Occupancy:
        """As the model sampled it; where it was not learned, of the sampled states."""
        return self.observed if self.model is None else self.model


@final
@dataclass(frozen=True)
class Evidence:
    """A run, summarised.

    Attributes:
        run: the run.
        density: posterior of the density at a few states.
        particles: posterior of poses and states.
        given: input poses; None where the particle file is gone, and `given_note` says why.
        knobs: the state variables one by one; none for a rigid molecule.
        dependences: of every two knobs.
        joints: joint occupancies of the same pairs.
        swapped: chains whose copies of a part look like other copies in the first chain.
        halves: half-set FSC; None where the run has no half maps.
        spectra: of signal and noise.
        convergence: table of R-hat and ESS.
        trace: lines of trace.jsonl.
        hands: how states far apart stand to one another's hand; None for a rigid molecule.
    """

    run: Run
    density: Density
    particles: ParticleSummary
    given: InputPoses | None
    given_note: str
    knobs: tuple[KnobEvidence, ...]
    dependences: list[Dependence]
    joints: list[JointOccupancy]
    swapped: list[int]
    halves: HalfSetCurves | None
    spectra: Spectra
    convergence: list[Convergence]
    trace: Trace
    hands: HandStanding | None

    @property
    def has_states(self) -> bool:
        """Whether the molecule moves at all in this model."""
        return has_states(self.run)

    @property
    def n_samples(self) -> int:
        """Samples of all chains."""
        return self.particles.n_samples


def gather(run: Run) -> Evidence:
    """Compute everything; reads every sample.

    Raises:
        InputError: the run holds no samples.
    """
    particles = summarise_particles(run)
    given, note = read_input_poses(run)
    density = summarise_density(run, _STATES if has_states(run) else 1)
    return Evidence(
        run=run,
        density=density,
        particles=particles,
        given=given,
        given_note=note,
        knobs=_knobs(run, particles, given),
        dependences=run_dependences(run),
        joints=joint_occupancies(run),
        swapped=chains_of_swapped_copies(run),
        halves=half_set_curves(run, density.states),
        spectra=power_spectra(run, density.terms),
        convergence=convergence_table(run),
        trace=run.directory.read_trace(),
        hands=run_hands(run),
    )


def _knobs(
    run: Run, particles: ParticleSummary, given: InputPoses | None
) -> tuple[KnobEvidence, ...]:
    if not has_states(run):
        return ()
    states = aligned_states(run)
    quantities = suspects(particles, given)
    found = []
    for knob in run_knobs(run):
        own = states[..., knob.column]
        mean = particles.state[:, knob.column]
        found.append(
            KnobEvidence(
                knob,
                mean,
                particles.state_sd[:, knob.column],
                sampled_occupancy(run, knob),
                particle_occupancy(run, knob),
                state_spread(knob, own.reshape(-1, own.shape[-1])),
                chain_agreement(knob, own),
                find_leaks(knob, mean, quantities),
            )
        )
    return tuple(found)
