"""Figures 4 and 5 of the paper: what a search finds first, and if its states have two hands."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from hypermol.analysis.alignment import align_both_hands
from hypermol.analysis.gauge import Gauge, apply_to_volume
from hypermol.analysis.run import Run
from hypermol.analysis.truth import Truth
from hypermol.analysis.volumes import mean_state_volumes
from hypermol.data import ParticleSource
from hypermol.fitting import checkpoint
from hypermol.fitting.found import load_found
from hypermol.fitting.level import Levels
from hypermol.fitting.point_group import GroupStanding
from hypermol.fitting.schedules import make_schedule
from hypermol.recipe.options import FitOptions, make_design
from hypermol.report.hands import run_hands
from hypermol.report.style import new_figure, no_ticks
from hypermol.space.fourier import crop_or_pad_volume

#: Voxels a side of all maps that are drawn.
SIDE = 48


def first_map(run: Run, source: ParticleSource, options: FitOptions) -> np.ndarray:
    """The chosen trial's rigid map, turned to the axes that were found, [SIDE, SIDE, SIDE]."""
    found = load_found(run.directory)
    particles = source.load()
    design = make_design(options, particles.box, particles.pixel_size_angstrom)
    schedule = make_schedule(options, particles, design)
    stage = [stage for stage in schedule if stage.is_trial][-1]
    # a search's molecule fills the box: it is of before the radius was known
    unbounded = replace(found, radius_angstrom=None)
    molecule = Levels(particles, options, design, stage.kmax).form(stage, unbounded).molecule
    saved = checkpoint.load(run.directory, checkpoint.trial_name(found.trial))
    theta = molecule.init(jax.random.key(0))
    theta = theta._replace(maps={"": jnp.asarray(saved.arrays["state.theta.maps."])})
    density = crop_or_pad_volume(np.asarray(molecule.mean(theta)), SIDE)
    voxel = particles.box * particles.pixel_size_angstrom / SIDE
    groups = [GroupStanding(**group) for group in found.point_groups or []]
    named = groups and (groups[0].is_clear or design.axes != "C1")
    frame = groups[0].frame if named else Gauge()
    return apply_to_volume(frame, density, voxel)


def draw_first_map(density: np.ndarray, truth: Truth, path: Path) -> None:
    """Figure 4: projections along x, y and z, and of the mean true map, turned as fits best."""
    mean = crop_or_pad_volume(truth.maps.astype(np.float32).mean(axis=0), SIDE)
    hands = align_both_hands(mean, density, 1.0)
    best = max((hands.kept, hands.mirrored), key=lambda gauge: gauge.score)
    rows = {"first map": density, "mean of the truth": apply_to_volume(best, mean, 1.0)}
    figure = new_figure(6.4, 4.4, tight=True)
    axes = figure.subplots(2, 3)
    for row, (label, volume) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(label)
        for ax, axis, name in zip(row, (2, 1, 0), "xyz", strict=True):
            ax.imshow(volume.sum(axis=axis), cmap="gray", origin="lower")
            ax.set_title(f"along {name}", fontsize=8)
            no_ticks(ax)
    figure.suptitle(f"Correlation {best.score:.2f}, turned as fits best", fontsize=9)
    figure.savefig(path, dpi=150)


def draw_hands(run: Run, path: Path) -> None:
    """Figure 5: states far apart (green) over the strongest one (red), as they are and mirrored."""
    standing = run_hands(run)
    if standing is None:
        return
    volumes = crop_or_pad_volume(mean_state_volumes(run, np.array(standing.states)), SIDE)
    figure = new_figure(2.4 * len(standing.kept) + 0.6, 5.0, tight=True)
    axes = figure.subplots(2, len(standing.kept), squeeze=False)
    for column, other in enumerate(volumes[1:]):
        hands = align_both_hands(other, volumes[0], 1.0)
        for ax, gauge, label in zip(
            axes[:, column], (hands.kept, hands.mirrored), ("as it is", "mirrored"), strict=True
        ):
            shown = [v.sum(axis=1) for v in (volumes[0], apply_to_volume(gauge, other, 1.0))]
            red, green = (np.clip(image / image.max(), 0.0, 1.0) for image in shown)
            ax.imshow(np.stack([red, green, np.minimum(red, green)], axis=-1), origin="lower")
            state = ", ".join(f"{value:.2f}" for value in standing.states[column + 1])
            ax.set_title(f"state {state}\n{label}: {gauge.score:.2f}", fontsize=8)
            no_ticks(ax)
    strongest = ", ".join(f"{value:.2f}" for value in standing.states[0])
    figure.suptitle(f"Green: other states, turned as fits best. Red: state {strongest}", fontsize=9)
    figure.savefig(path, dpi=150)
