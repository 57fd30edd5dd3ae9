"""What a user chooses about a fit, and the design that follows from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from hypermol.data.particles import ParticleSet
from hypermol.io.errors import InputError
from hypermol.posterior.priors import HyperPrior
from hypermol.recipe.budget import read_budget
from hypermol.recipe.density_priors import Tables
from hypermol.recipe.design import AnyDesign
from hypermol.recipe.own_class import load_model, own_design
from hypermol.recipe.part_tables import read_generic, read_parts

_DEFAULT_KMAX_FRACTION = 0.93
#: State basis and knob of a generic molecule where nothing is said.
BASIS, STATE_NAME = "cosine", "state"
#: Options that describe a generic molecule, and no other.
GENERIC = ("basis", "n_terms", "state_name", "spatial_basis")


@final
@dataclass(frozen=True)
class FitOptions:
    """Everything a fit depends on besides the particles; `recipe.toml` writes it.

    Attributes:
        basis: of the generic molecule's states, one of `BASES`; None takes `BASIS`.
        n_terms: of that basis, or the number of classes; None begins with the
            basis' default and rises as long as the images tell more.
        state_name: name of its knob; None takes `STATE_NAME`.
        spatial_basis: of its density, one of `SPATIAL_BASES`; None takes voxels.
        poses: refine (draw rotations and shifts about the input's), rescue (the same, and some of
            them may be anywhere), fixed, or search (from nothing: the input's are not read).
        resolution_angstrom: finest detail to model; None takes 0.93 of Nyquist.
        radius_angstrom: radius of the ball that holds the molecule; None estimates it.
        chains: chains; those of one start share its stages, which fix the states' gauge.
        starts: independent starts that the chains are shared out to.
        trials: searches from nothing, of which the best goes on; for poses = search.
        subset: particles that a search begins with, the others being placed later.
        schedule: march, paper (sec. 5 of the paper) or second-mode (its second mode, then paper).
        theta: what draws theta: exact, mala or hmc; None lets molecule and schedule choose.
        particles: what draws the particles: candidates, gradient or random-walk; None as theta.
        spectrum: of theta's Gaussian prior: estimated, or flat (a loose L2 prior).
        burn_in: sweeps of each marching stage.
        samples: posterior samples kept per chain.
        thin: sweeps per kept sample.
        budget: what the run may take to have more chains, until its samples are worth enough
            independent ones for intervals of 90 %: "30 minutes" in all, or "400 sweeps" of
            sampling in all (`recipe.budget`); None has the chains that are asked for.
        seed: of everything random.
        invert_contrast: multiply the images by -1 (particles dark on bright ground).
        leave_out_outliers: leave out images that differ from the others instead of refusing them.
        normalise: bring each image's background to mean 0 and sd 1.
        checkpoint_every: sweeps between checkpoints.
        part: tables of a composite's parts (`recipe.part_tables`); none for one generic molecule.
        type: "package.module:Class" of a molecule of the user's own, in place of all these.
        arguments: what that class is called with.
        folder: where its module is looked for besides Python's own path; a recipe's own folder
            if it says nothing.
        prior: of what is not particle-specific.
        start_steps: steps of Adam that a class of the user's own starts with.
        density_prior: tables of priors on the densities (`recipe.density_priors`).
    """

    basis: str | None = None
    n_terms: int | None = None
    state_name: str | None = None
    spatial_basis: str | None = None
    poses: str = "refine"
    resolution_angstrom: float | None = None
    radius_angstrom: float | None = None
    chains: int = 2
    starts: int = 1
    trials: int = 3
    subset: int = 5000
    schedule: str = "march"
    theta: str | None = None
    particles: str | None = None
    spectrum: str = "estimated"
    burn_in: int = 10
    samples: int = 10
    thin: int = 1
    budget: str | None = None
    seed: int = 0
    checkpoint_every: int = 5
    invert_contrast: bool = False
    leave_out_outliers: bool = False
    normalise: bool = False
    part: tuple[dict[str, Any], ...] = ()
    type: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    folder: str | None = None
    prior: HyperPrior = field(default_factory=HyperPrior)
    density_prior: Tables = field(default_factory=dict)
    start_steps: int = 1000

    @property
    def needless(self) -> tuple[str, ...]:
        """Parts of a particle file that the fit does not read."""
        return ("poses",) if self.poses == "search" else ()

    @property
    def knows_poses(self) -> bool:
        """Whether the particle file's poses say anything of where particles are."""
        return self.poses not in ("search", "start")

    def __post_init__(self) -> None:
        clash = clashing(vars(self))
        if clash is not None:
            raise InputError(
                f"model.{clash[0]} and model.{clash[1]} do not go together: remove one of the two"
            )
        if self.arguments and self.type is None:
            raise InputError("model.arguments go with model.type: add it")


def clashing(given: Mapping[str, Any]) -> tuple[str, str] | None:
    """Two of the given options that describe different kinds of model: parts, a user's own class,
    or one generic molecule. None where all go together; what is None or empty is not given."""
    for model, others in (("type", ("part", *GENERIC)), ("part", GENERIC)):
        for other in others:
            if given.get(model) and given.get(other) not in (None, ()):
                return model, other
    return None


def make_design(options: FitOptions, box: int, pixel_size_angstrom: float) -> AnyDesign:
    """What the options say is to be modelled.

    Raises:
        InputError: the model is wrong.
    """
    if options.type is not None:
        model = load_model(options.type, options.arguments, options.folder)
        return own_design(model, box, pixel_size_angstrom)
    if options.part:
        return read_parts(options.part, box, pixel_size_angstrom)
    return read_generic(
        options.basis or BASIS,
        options.n_terms,
        options.state_name or STATE_NAME,
        options.spatial_basis or "voxels",
    )


#: Options that are words, and the words they may be.
_WORDS = {
    "poses": ("refine", "rescue", "fixed", "search", "start"),
    "schedule": ("march", "paper", "second-mode"),
    "theta": ("exact", "mala", "hmc"),
    "particles": ("candidates", "gradient", "random-walk"),
    "spectrum": ("estimated", "flat"),
}
_COUNTS = (
    "chains",
    "starts",
    "trials",
    "subset",
    "burn_in",
    "samples",
    "thin",
    "checkpoint_every",
    "start_steps",
)


def check_counts(options: FitOptions) -> None:
    """Refuse numbers and words that no fit can run with.

    Raises:
        InputError: names the option.
    """
    for name, words in _WORDS.items():
        given = getattr(options, name)
        if given is not None and given not in words:
            raise InputError(f"{name} {given!r} is not known: use {_either(words)}")
    for name in _COUNTS:
        if getattr(options, name) < 1:
            raise InputError(f"{name} is {getattr(options, name)}: give at least 1")
    _check_budget(options)
    if not 0.0 < options.prior.misplaced < 1.0:
        raise InputError(
            f"prior.misplaced is {options.prior.misplaced}: give a share between 0 and 1"
        )
    if options.type is not None and options.density_prior:
        raise InputError(
            f"prior.{next(iter(options.density_prior))} is for molecules that recipes describe: "
            f"put it into the log_prior of {options.type}"
        )


def _check_budget(options: FitOptions) -> None:
    """Refuse a budget that cannot be read, or is not enough for the samples."""
    if options.budget is None:
        return
    sweeps = read_budget(options.budget).sweeps
    least = options.chains * options.samples * options.thin
    if sweeps is not None and sweeps < least:
        raise InputError(
            f"budget is {sweeps} sweeps, but chains x samples x thin are {least}: give as many or "
            "more"
        )


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


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
