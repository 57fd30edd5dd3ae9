"""What a user chooses about a fit, and the design that follows from it."""

from dataclasses import dataclass, field
from typing import Any, final

from hypermol.data.particles import ParticleSet
from hypermol.io.errors import InputError
from hypermol.posterior.priors import HyperPrior
from hypermol.recipe.density_priors import Tables
from hypermol.recipe.design import Design
from hypermol.recipe.part_tables import read_generic, read_parts

_DEFAULT_KMAX_FRACTION = 0.93


@final
@dataclass(frozen=True)
class FitOptions:
    """Everything a fit depends on besides the particles; `recipe` writes it as TOML.

    Attributes:
        basis: state basis: constant (rigid), cosine, chebyshev or hats (interval), fourier
            (circle), onehot or haar (classes).
        n_terms: terms of the state basis, the number of classes for onehot and haar; None takes
            the basis' default.
        state_name: name of the knob.
        poses: refine (draw rotations and shifts about the input's) or fixed.
        resolution_angstrom: finest detail to model; None takes 0.93 of Nyquist.
        radius_angstrom: radius of the ball that holds the molecule; None estimates it.
        chains: chains; they share the subspace stage, which fixes the states' gauge.
        burn_in: sweeps of each marching stage.
        samples: posterior samples kept per chain.
        thin: sweeps per kept sample.
        seed: of everything random.
        invert_contrast: multiply the images by -1 (particles dark on bright ground).
        leave_out_outliers: leave out images that differ from the others instead of refusing them.
        normalise: bring each image's background to mean 0 and sd 1.
        checkpoint_every: sweeps between checkpoints.
        part: tables of a composite's parts (`model_recipe`); none for one generic molecule.
        type: "package.module:Class" of a molecule of the user's own, in place of all these.
        arguments: what that class is called with.
        prior: of what is not particle-specific.
        start_steps: steps of Adam that a class of the user's own starts with.
        density_prior: tables of priors on the densities (`posterior.density_prior_tables`).
    """

    basis: str = "cosine"
    n_terms: int | None = None
    state_name: str = "state"
    poses: str = "refine"
    resolution_angstrom: float | None = None
    radius_angstrom: float | None = None
    chains: int = 2
    burn_in: int = 10
    samples: int = 10
    thin: int = 1
    seed: int = 0
    checkpoint_every: int = 5
    invert_contrast: bool = False
    leave_out_outliers: bool = False
    normalise: bool = False
    part: tuple[dict[str, Any], ...] = ()
    type: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    prior: HyperPrior = field(default_factory=HyperPrior)
    density_prior: Tables = field(default_factory=dict)
    start_steps: int = 1000


def make_design(options: FitOptions, box: int, pixel_size_angstrom: float) -> Design:
    """What the options say is to be modelled.

    Raises:
        InputError: the model is wrong, or a class of the user's own, which has no design.
    """
    if options.type is not None:
        raise InputError(
            f"model.type is {options.type!r}, a class of your own: from Python, fit it with "
            "hypermol.fitting.blackbox_fit.fit_black_box_run in place of hypermol.fitting.fit.fit"
        )
    if options.part:
        return read_parts(options.part, box, pixel_size_angstrom)
    return read_generic(options.basis, options.n_terms, options.state_name)


def check_counts(options: FitOptions) -> None:
    """Refuse numbers and words that no fit can run with.

    Raises:
        InputError: names the option.
    """
    if options.poses not in ("refine", "fixed"):
        raise InputError(f"poses {options.poses!r} is not known: use refine or fixed")
    for name in ("chains", "burn_in", "samples", "thin", "checkpoint_every", "start_steps"):
        if getattr(options, name) < 1:
            raise InputError(f"{name} is {getattr(options, name)}: give at least 1")


def finest_shell(options: FitOptions, particles: ParticleSet) -> int:
    """Largest spatial frequency to model, in 1/box.

    Raises:
        InputError: the images have no such resolution.
    """
    nyquist = (particles.box - 1) // 2
    kmax = max(4, int(_DEFAULT_KMAX_FRACTION * particles.box / 2))
    if options.resolution_angstrom is not None:
        box_angstrom = particles.box * particles.pixel_size_angstrom
        kmax = int(box_angstrom / options.resolution_angstrom)
        if not 4 <= kmax <= nyquist:
            raise InputError(
                f"resolution {options.resolution_angstrom} A does not fit a box of "
                f"{particles.box} px at {particles.pixel_size_angstrom} A/px: choose between "
                f"{box_angstrom / nyquist:.2f} and {box_angstrom / 4:.0f} A"
            )
    return min(kmax, nyquist)
