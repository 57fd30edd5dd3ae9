"""Fits that follow a run: of the regions that move, and of equal copies."""

from pathlib import Path
from typing import Any, NamedTuple

from hypermol.analysis.run import Run, load_run
from hypermol.recipe.options import FitOptions
from hypermol.recipe.toml import read_recipe

#: States of a part's own knob: the run's, where it has one basis that may leave its constant term
#: out; else these.
_KEPT = ("cosine", "chebyshev", "fourier", "haar")
_BASIS = "cosine"
#: Files of a run's folder of proposals.
REGIONS_RECIPE, COPIES_RECIPE, COPIES_PARTICLES = "recipe.toml", "copies.toml", "copies.star"


class NextFit(NamedTuple):
    """A fit that is proposed.

    Attributes:
        particles: with the run's poses, in the frame that the recipe wants.
        recipe: of its model.
        poses: how it takes them.
        out: where it goes.
    """

    particles: Path
    recipe: Path
    poses: str
    out: Path

    @property
    def command(self) -> str:
        """What a user types."""
        return (
            f"hypermol fit {self.particles} --recipe {self.recipe} --poses {self.poses} "
            f"--out {self.out}"
        )


def proposed(run: Path, folder: Path) -> list[NextFit]:
    """The fits whose recipes are in a folder of proposals."""
    poses = poses_after(run)
    fits = [
        NextFit(particles_of(run), folder / REGIONS_RECIPE, poses, parts_folder(run)),
        NextFit(folder / COPIES_PARTICLES, folder / COPIES_RECIPE, poses, copies_folder(run)),
    ]
    return [fit for fit in fits if fit.recipe.exists()]


def poses_after(run: Path) -> str:
    """How a fit takes the run's poses: those of a search may be anywhere still."""
    return "refine" if load_run(run).info["poses"] in ("refine", "fixed") else "rescue"


def parts_folder(run: Path) -> Path:
    """Where the fit of a run's regions goes."""
    return run.with_name(run.name + "-parts")


def copies_folder(run: Path) -> Path:
    """Where the fit of its copies goes."""
    return run.with_name(run.name + "-copies")


def particles_of(run: Path) -> Path:
    """The run's particles with its poses."""
    return run / ("particles.cs" if (run / "particles.cs").exists() else "particles.star")


def states_like(run: Run) -> dict[str, Any]:
    """Entries of a part's table: the basis of its states, and how many terms where the run's recipe
    says so; the images tell otherwise."""
    ours = read_recipe(run.directory.path / "recipe.toml")
    if run.info["basis"] not in _KEPT:
        return {"state_basis": _BASIS}
    terms = {} if ours.n_terms is None else {"n_terms": run.info["n_terms"]}
    return {"state_basis": run.info["basis"], **terms}


def recipe_like(run: Run, parts: tuple[dict[str, Any], ...]) -> FitOptions:
    """Options of a fit of parts to the images of a run, as they were taken there."""
    ours = read_recipe(run.directory.path / "recipe.toml")
    return FitOptions(
        part=parts,
        resolution_angstrom=ours.resolution_angstrom,
        radius_angstrom=float(run.info["radius_angstrom"]),
        invert_contrast=ours.invert_contrast,
        leave_out_outliers=ours.leave_out_outliers,
        normalise=ours.normalise,
        density_prior=ours.density_prior,
        prior=ours.prior,
    )
