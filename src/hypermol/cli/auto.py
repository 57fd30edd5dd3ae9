"""`hypermol fit --auto`: the models that a run proposes are fitted."""

from dataclasses import replace
from pathlib import Path

from hypermol.cli.next_fits import NextFit, copies_folder, parts_folder
from hypermol.data.source import ParticleSource
from hypermol.io.errors import InputError
from hypermol.io.store import RunDirectory
from hypermol.recipe.options import FitOptions
from hypermol.recipe.toml import read_recipe

#: Options of the first fit that the second one has too; its recipe says the others.
_KEPT = ("chains", "starts", "burn_in", "samples", "thin", "budget", "seed", "checkpoint_every")


def check_auto(options: FitOptions, out: Path, resume: bool) -> None:
    """Refuse what cannot go on by itself, before anything is fitted.

    Raises:
        InputError: the model has parts already or is rigid, or a folder of the next fits is taken.
    """
    given = "model.type" if options.type is not None else "model.part"
    if options.type is not None or options.part:
        raise InputError(
            f"--auto looks for the regions in which a generic molecule moves, but the recipe has "
            f"{given}: remove one of the two"
        )
    if options.basis == "constant" or options.n_terms == 1:
        raise InputError(
            "--auto looks for the regions in which a molecule moves, but the model is rigid (one "
            "term): give it states, or leave out --auto"
        )
    if not resume:
        for folder in (parts_folder(out), copies_folder(out)):
            RunDirectory(folder).check_free()


def fit_that_follows(
    source: ParticleSource, following: NextFit, options: FitOptions
) -> tuple[ParticleSource, FitOptions]:
    """The particles with the poses of the run, and the options of a fit that follows it.

    Args:
        source: of that run.
        following: what is proposed.
        options: its own.
    """
    kept = {name: getattr(options, name) for name in _KEPT}
    chosen = replace(read_recipe(following.recipe), poses=following.poses, **kept)
    # a STAR file always, whatever the run's particles came from
    return replace(source, path=following.particles, passthrough=()), chosen
