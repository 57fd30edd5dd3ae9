"""Fits that follow a run: of the regions that move, and of equal copies."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hypermol.analysis.gauge import Gauge, apply_to_poses
from hypermol.analysis.particle_summary import summarise_particles
from hypermol.analysis.run import Run, load_run
from hypermol.analysis.summary import run_particles
from hypermol.io.star import write_particles_star
from hypermol.recipe.options import FitOptions
from hypermol.recipe.toml import read_recipe

#: States of a part's own knob: the run's, where it has one basis that may leave its constant term
#: out; else these.
_KEPT = ("cosine", "chebyshev", "fourier", "haar")
_BASIS = "cosine"
#: Files of a run's folder of proposals.
REGIONS_RECIPE, REGIONS_PARTICLES = "recipe.toml", "particles.star"
COPIES_RECIPE, COPIES_PARTICLES = "copies.toml", "copies.star"


class NextFit(NamedTuple):
    """A fit that is proposed.

    Attributes:
        particles: with poses to begin with, in the frame that the recipe wants.
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
    poses = poses_after(load_run(run))
    fits = [
        NextFit(folder / REGIONS_PARTICLES, folder / REGIONS_RECIPE, poses, parts_folder(run)),
        NextFit(folder / COPIES_PARTICLES, folder / COPIES_RECIPE, poses, copies_folder(run)),
    ]
    return [fit for fit in fits if fit.recipe.exists()]


def poses_after(run: Run) -> str:
    """How a fit that follows takes poses: as the run did; those that it found from nothing say
    where to begin, and nothing more: they come from the very images."""
    poses = str(run.info["poses"])
    return "start" if poses in ("search", "start") else poses


def base_poses(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """What a fit that follows is told of poses, rotations [N, 3, 3] and shifts in Angstrom [N, 2]:
    those that the run found from nothing, else the input's.

    A prior about poses that were refined with these images would count the images twice: its width
    would shrink to nothing, and hold every pose where it was.
    """
    if poses_after(run) == "start":
        summary = summarise_particles(run)
        return summary.rotations, summary.shift_px * run.info["pixel_size_angstrom"]
    metadata = run_particles(run)
    return metadata.rotations, metadata.shifts_angstrom


def write_base(run: Run, path: Path, frame: Gauge) -> None:
    """The run's particles with those poses, seen in a frame."""
    rotations, shifts = apply_to_poses(frame, *base_poses(run))
    metadata = run_particles(run)
    if read_recipe(run.directory.path / "recipe.toml").invert_contrast:  # the next fit's does too
        metadata = replace(metadata, contrast_sign=-metadata.contrast_sign)
    write_particles_star(path, metadata, rotations=rotations, shifts_angstrom=shifts)


def parts_folder(run: Path) -> Path:
    """Where the fit of a run's regions goes."""
    return run.with_name(run.name + "-parts")


def copies_folder(run: Path) -> Path:
    """Where the fit of its copies goes."""
    return run.with_name(run.name + "-copies")


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
