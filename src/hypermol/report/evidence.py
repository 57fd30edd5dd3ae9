"""Everything that the page shows, computed once and not drawn yet."""

from dataclasses import dataclass
from typing import final

import numpy as np

from hypermol.analysis.occupancy import Occupancy, occupancy
from hypermol.analysis.run import Run
from hypermol.report.convergence import Convergence, chain_agreement, convergence_table
from hypermol.report.density import Density, summarise_density
from hypermol.report.figures_sampler import Trace
from hypermol.report.leak import Leak, find_leaks, suspects
from hypermol.report.particles import (
    InputPoses,
    ParticleSummary,
    arc,
    read_input_poses,
    summarise_particles,
)
from hypermol.report.resolution import HalfSetFsc, Spectra, half_set_fsc, power_spectra

_STATES = 7


@final
@dataclass(frozen=True)
class Evidence:
    """A run, summarised.

    Attributes:
        run: the run.
        n_draws: samples of each chain.
        density: posterior of the density at a few states.
        particles: posterior of poses and states.
        given: input poses; None where the particle file is gone, and `given_note` says why.
        occupancy: of the population, with bands; None for a rigid molecule.
        halves: half-set FSC; None where the run has no half maps.
        spectra: of signal and noise.
        convergence: table of R-hat and ESS.
        agreement: least correlation between chains' mean states; None where it has no meaning.
        leaks: association of the state with what it should not follow.
        trace: lines of trace.jsonl.
    """

    run: Run
    n_draws: int
    density: Density
    particles: ParticleSummary
    given: InputPoses | None
    given_note: str
    occupancy: Occupancy | None
    halves: HalfSetFsc | None
    spectra: Spectra
    convergence: list[Convergence]
    agreement: float | None
    leaks: list[Leak]
    trace: Trace

    @property
    def has_states(self) -> bool:
        """Whether the molecule moves at all in this model."""
        return self.run.info["state_space"] != "point"

    @property
    def is_circle(self) -> bool:
        """Whether the state is periodic."""
        return self.run.info["state_space"] == "circle"

    @property
    def state_spread(self) -> float:
        """Standard deviation of all particles' states over all draws (arc in turns on a circle)."""
        states = self.run.pooled("state")[..., 0]
        if not self.is_circle:
            return float(states.std())
        centre = np.angle(np.exp(2j * np.pi * states).mean()) / (2.0 * np.pi)
        return float(np.sqrt(np.mean(arc(states - centre) ** 2)))

    @property
    def n_samples(self) -> int:
        """Samples of all chains."""
        return self.n_draws * len(self.run.chains)


def gather(run: Run) -> Evidence:
    """Compute everything; reads every sample.

    Raises:
        InputError: the run holds no samples.
    """
    density = summarise_density(run, _STATES if run.info["state_space"] != "point" else 1)
    particles = summarise_particles(run)
    given, note = read_input_poses(run)
    occupied, leaks = None, []
    if run.info["state_space"] != "point":
        edges = np.linspace(0.0, 1.0, run.pooled("occupancy").shape[-1] + 1)
        occupied = occupancy(run.pooled("state")[..., 0], edges, about="population")
        is_circle = run.info["state_space"] == "circle"
        leaks = find_leaks(particles.state, is_circle, suspects(particles, given))
    return Evidence(
        run=run,
        n_draws=density.functionals.shape[1],
        density=density,
        particles=particles,
        given=given,
        given_note=note,
        occupancy=occupied,
        halves=half_set_fsc(run, density.states),
        spectra=power_spectra(run, density.terms),
        convergence=convergence_table(run, density.functionals),
        agreement=chain_agreement(run),
        leaks=leaks,
        trace=run.directory.read_trace(),
    )
