"""Which blocks make a sweep: by what the molecule can do, and what the stage asks."""

from collections.abc import Callable

from hypermol.fitting.blocks.hyperparameters import hyperparameters
from hypermol.fitting.blocks.moving_frame import moving_frame
from hypermol.fitting.blocks.particles_anywhere import Offers, particles_anywhere
from hypermol.fitting.blocks.particles_by_candidates import particles_by_candidates
from hypermol.fitting.blocks.particles_by_gradient import particles_by_gradient
from hypermol.fitting.blocks.particles_by_random_walk import Walks, particles_by_random_walk
from hypermol.fitting.blocks.particles_by_search import (
    SearchPlan,
    mu_of_placed,
    particles_by_search,
)
from hypermol.fitting.blocks.particles_on_nodes import particles_on_nodes
from hypermol.fitting.blocks.resting_frame import resting_frame
from hypermol.fitting.blocks.second_mode import second_mode
from hypermol.fitting.blocks.spectrum import spectrum
from hypermol.fitting.blocks.theta_by_adam import AdamPlan, theta_by_adam
from hypermol.fitting.blocks.theta_by_gradient import theta_by_gradient
from hypermol.fitting.blocks.theta_exact import theta_exact
from hypermol.fitting.blocks.trajectories import trajectories
from hypermol.fitting.stages import Stage
from hypermol.fitting.sweep import Block, Sweep
from hypermol.inference.ensemble import CandidateCounts
from hypermol.posterior.posterior import Posterior

#: Points of the lattice of states that candidates are taken from, of one knob; of each of several,
#: and of all of them together at most.
_STATES, _OF_SEVERAL, _MOST_STATES = 32, 16, 512


def sweep_blocks(stage: Stage, posterior: Posterior, start_steps: int = 1000) -> Sweep:
    """All blocks of a stage's sweep, in their order.

    theta comes first: at a new level it is drawn anew from what is known of the particles. mu
    follows its residuals, the particles mu. The moving frame stands between poses and theta, for
    after theta the old map would pull the poses back.

    Args:
        stage: what is asked for.
        posterior: what it is asked of.
        start_steps: of Adam, where that is the start.
    """
    if stage.particles == "search":
        return search_blocks(stage, posterior)
    theta = _THETA[stage.theta](posterior, stage, start_steps)
    particles = _PARTICLES[stage.particles](posterior, stage)
    if stage.theta == "none":
        return (_anywhere(posterior, stage), *particles)
    blocks: list[Block] = [*theta, *trajectories(posterior)]
    mu = hyperparameters(
        posterior,
        stage.learns_widths,
        stage.learns_contrast,
        learns_shares=stage.moves_poses,
        draws_contrasts=not stage.holds_contrasts,
    )
    if stage.particles == "nodes":  # the noise is that of the states that theta was climbed with
        return (*theta, *particles, mu)
    blocks.append(mu)
    if stage.burn_in and stage.estimates_spectrum and posterior.molecule.is_linear:
        blocks.append(spectrum(posterior))
    if stage.anywhere:
        blocks.append(_anywhere(posterior, stage))
    blocks += particles
    if stage.burn_in and stage.moves_poses and posterior.molecule.frame_is_free:
        known = posterior.pose_prior.has_width
        blocks.append(moving_frame(posterior) if known else resting_frame(posterior))
    return tuple(blocks)


def _lattice(posterior: Posterior) -> int:
    """States that are weighed at every pose: knobs that act through the weights, all together."""
    knobs = sum(not is_position for is_position in posterior.molecule.is_position)
    return _STATES if knobs < 2 else min(_OF_SEVERAL**knobs, _MOST_STATES)


def _anywhere(posterior: Posterior, stage: Stage) -> Block:
    """Jumps, as a stage offers them."""
    offers = Offers(stage.anywhere, stage.anywhere_settled)
    return particles_anywhere(posterior, offers, _lattice(posterior))


def _by_candidates(posterior: Posterior, stage: Stage) -> Sweep:
    """Candidates, and where a stage asks for it gradient steps after them."""
    states = _lattice(posterior)
    if not stage.moves_poses:
        return (particles_by_candidates(posterior, CandidateCounts(1, 1, states)),)
    drawn = particles_by_candidates(posterior, CandidateCounts(5, 3, states))
    if not stage.gradient_steps:
        return (drawn,)
    return drawn, particles_by_gradient(posterior, moves_poses=True, steps=stage.gradient_steps)


def search_blocks(stage: Stage, posterior: Posterior) -> Sweep:
    """A sweep of a search from nothing: theta and mu follow from the particles placed so far."""
    plan = SearchPlan(stage.sweeps, stage.beta, stage.searched)
    return (
        particles_by_search(posterior, plan),
        theta_exact(posterior),
        mu_of_placed(posterior),
        spectrum(posterior),
    )


def _walks(stage: Stage) -> Walks:
    return Walks(stage.moves_poses, not stage.holds_contrasts)


_Theta = Callable[[Posterior, Stage, int], Sweep]
_THETA: dict[str, _Theta] = {
    "none": lambda posterior, stage, steps: (),
    "exact": lambda posterior, stage, steps: (theta_exact(posterior),),
    "mala": lambda posterior, stage, steps: (theta_by_gradient(posterior, "mala"),),
    "hmc": lambda posterior, stage, steps: (theta_by_gradient(posterior, "hmc"),),
    "adam": lambda posterior, stage, steps: (
        theta_by_adam(posterior, adam_plan(posterior, stage, steps)),
    ),
    "second-mode": lambda posterior, stage, steps: (second_mode(posterior, _walks(stage)),),
}

_Particles = Callable[[Posterior, Stage], Sweep]
_PARTICLES: dict[str, _Particles] = {
    "candidates": _by_candidates,
    "gradient": lambda posterior, stage: (particles_by_gradient(posterior, stage.moves_poses),),
    "random-walk": lambda posterior, stage: (particles_by_random_walk(posterior, _walks(stage)),),
    "nodes": lambda posterior, stage: (particles_on_nodes(posterior, _nodes(posterior)),),
    "none": lambda posterior, stage: (),
}

#: Largest number of state nodes a start averages over, for one knob and for more.
_NODES, _NODES_OF_SEVERAL = 8, 25


def _nodes(posterior: Posterior) -> int:
    several = len(posterior.molecule.state_space.simple_spaces) > 1
    return _NODES_OF_SEVERAL if several else _NODES


def adam_plan(posterior: Posterior, stage: Stage, steps: int) -> AdamPlan:
    """The start by Adam that a stage stands for."""
    return AdamPlan(stage.sweeps, steps, nodes=_nodes(posterior))
