"""Whether a run's states show one hand of the molecule (figure 5 of the paper)."""

import numpy as np

from hypermol.analysis.chains import has_states, pooled_states
from hypermol.analysis.hands import HandStanding, judge_hands, states_apart
from hypermol.analysis.run import Run
from hypermol.analysis.volumes import mean_state_grids
from hypermol.fitting.found import Found
from hypermol.report.finding import Finding

#: States that are compared here.
_STATES = 3


def run_hands(run: Run) -> HandStanding | None:
    """How states of the run that are far apart stand to one another's hand; None without states."""
    if not has_states(run):
        return None
    states = states_apart(pooled_states(run)[-1], _STATES)
    if len(states) < 2:
        return None  # all particles are in one class
    return judge_hands(states, mean_state_grids(run, states))


def hands_finding(standing: HandStanding | None, found: Found) -> Finding | None:
    """The verdict's sentence.

    Args:
        standing: of the run's states.
        found: what its search found, of a motion that was unfolded too.
    """
    if standing is None:
        return None
    told = "; ".join(
        f"{_named(state)}: {kept:.2f} as it is, {mirrored:.2f} mirrored"
        for state, kept, mirrored in zip(
            standing.states[1:], standing.kept, standing.mirrored, strict=True
        )
    )
    told = told[0].upper() + told[1:]
    text = f"Correlation with {_named(standing.states[0])}, turned as fits best. {told}."
    if found.was_unfolded:
        return Finding(
            "note",
            "The molecule is nearly its own mirror image",
            f"{text} Half of the motion had been taken for mirror images of the other half, and "
            "was unfolded by what the molecule lacks to being symmetric: one end of the motion is "
            "nearly the mirror image of the other. Images that do not show what is lacking, as "
            "those seen from straight beside, may be on either side: their states have two "
            "places, which samples pass between seldom.",
        )
    if standing.is_mixed:
        return Finding(
            "warning",
            "Some states are mirror images of others",
            f"{text} A molecule and its reflection have the same projections, so a model with "
            "states may show both and call the difference a motion. Only a molecule that is seen "
            "in between moves so: look at the occupancy there. Poses of both hands in the input "
            "have this effect too: --poses search finds them anew.",
        )
    if standing.is_own_mirror:
        return Finding(
            "warning",
            "The molecule is nearly its own mirror image",
            f"{text} A molecule and its reflection have the same projections. Where a motion leads "
            "through a form that is its own mirror image, the images of its second half look like "
            "mirror images of the first, and may have been taken for these: half of the motion is "
            "then missing, and the states of these particles run backwards. Look whether the map "
            "at an end of the states is its own mirror image, and whether the occupancy piles up "
            "there; only what is not symmetric tells, at a resolution that shows it.",
        )
    return Finding("good", "One hand in all states", text)


def _named(state: list[float]) -> str:
    return f"state {', '.join(f'{value:.2f}' for value in np.asarray(state))}"
