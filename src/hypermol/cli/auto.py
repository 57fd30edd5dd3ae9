"""`hypermol fit --auto`: the regions that a run proposes are accepted and fitted."""

from dataclasses import replace
from pathlib import Path

from hypermol.cli.regions import particles_of, parts_folder, poses_after
from hypermol.data.source import ParticleSource
from hypermol.io.errors import InputError
from hypermol.io.store import RunDirectory
from hypermol.recipe.options import FitOptions
from hypermol.recipe.toml import read_recipe

#: Options of the first fit that the second one has too; its recipe says the others.
_KEPT = ("chains", "starts", "burn_in", "samples", "thin", "seed", "checkpoint_every")


def check_auto(options: FitOptions, out: Path, resume: bool) -> None:
    """Refuse what cannot go on by itself, before anything is fitted.

    Raises:
        InputError: the model has parts already or is rigid, or the second folder is taken.
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
        RunDirectory(parts_folder(out)).check_free()


def fit_of_regions(
    source: ParticleSource, out: Path, recipe: Path, options: FitOptions
) -> tuple[ParticleSource, FitOptions]:
    """The particles with the poses of the run in `out`, and the options of the fit of its regions.

    Args:
        source: of that run.
        out: its folder.
        recipe: of its regions.
        options: its own.
    """
    kept = {name: getattr(options, name) for name in _KEPT}
    parts = replace(read_recipe(recipe), poses=poses_after(out), **kept)
    return replace(source, path=particles_of(out)), parts
