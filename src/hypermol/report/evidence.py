"""Everything that the page shows, computed once and not drawn yet."""

from dataclasses import dataclass
from typing import final

from hypermol.analysis.chains import has_states, is_circle
from hypermol.analysis.occupancy import Occupancy
from hypermol.analysis.particle_summary import ParticleSummary, summarise_particles
from hypermol.analysis.run import Run
from hypermol.analysis.summary import particle_occupancy, sampled_occupancy
from hypermol.report.convergence import Convergence, convergence_table
from hypermol.report.density import Density, summarise_density
from hypermol.report.figures_sampler import Trace
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


@final
@dataclass(frozen=True)
class Evidence:
    """A run, summarised.

    Attributes:
        run: the run.
        density: posterior of the density at a few states.
        particles: posterior of poses and states.
        given: input poses; None where the particle file is gone, and `given_note` says why.
        occupancy: of the population, with bands; None for a rigid molecule.
        spread: standard deviation of all particles' states; None for a rigid molecule.
        halves: half-set FSC; None where the run has no half maps.
        spectra: of signal and noise.
        convergence: table of R-hat and ESS.
        agreement: least correlation between chains' mean states; None where it has no meaning.
        leaks: association of the state with what it should not follow.
        trace: lines of trace.jsonl.
    """

    run: Run
    density: Density
    particles: ParticleSummary
    given: InputPoses | None
    given_note: str
    occupancy: Occupancy | None
    spread: float | None
    halves: HalfSetCurves | None
    spectra: Spectra
    convergence: list[Convergence]
    agreement: float | None
    leaks: list[Leak]
    trace: Trace

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
    moves = has_states(run)
    particles = summarise_particles(run)
    given, note = read_input_poses(run)
    density = summarise_density(run, _STATES if moves else 1)
    leaks: list[Leak] = []
    if particles.state is not None:
        leaks = find_leaks(particles.state, is_circle(run), suspects(particles, given))
    return Evidence(
        run=run,
        density=density,
        particles=particles,
        given=given,
        given_note=note,
        occupancy=_occupancy(run) if moves else None,
        spread=state_spread(run),
        halves=half_set_curves(run, density.states),
        spectra=power_spectra(run, density.terms),
        convergence=convergence_table(run),
        agreement=chain_agreement(run),
        leaks=leaks,
        trace=run.directory.read_trace(),
    )


def _occupancy(run: Run) -> Occupancy:
    """As the model sampled it; where it was not learned, of the particles' sampled states."""
    model = sampled_occupancy(run)
    return model if len(model.mean) > 1 else particle_occupancy(run)
