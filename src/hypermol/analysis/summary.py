"""Results of a run as files that other programs read (docs/outputs.md says what each holds)."""

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hypermol.analysis.arviz_store import write_posterior_nc
from hypermol.analysis.chains import (
    has_states,
    knob_names,
    knob_occupancy,
    pooled_states,
    run_knobs,
)
from hypermol.analysis.convergence import diagnose
from hypermol.analysis.fsc import resolution_at
from hypermol.analysis.knobs import Knob, bin_edges
from hypermol.analysis.occupancy import LEVELS, Occupancy, occupancy
from hypermol.analysis.particle_summary import ParticleSummary, summarise_particles
from hypermol.analysis.run import Run
from hypermol.analysis.volumes import (
    NOT_GOLD_STANDARD,
    HalfSetFsc,
    half_set_fsc,
    state_volumes,
)
from hypermol.io.atomic import make_folder, write_text
from hypermol.io.cryosparc_write import CS_ROWS, write_particles_cs
from hypermol.io.errors import InputError
from hypermol.io.metadata import ParticleMetadata
from hypermol.io.mrc import write_volume
from hypermol.io.run_input import NAME as INPUT_NAME
from hypermol.io.run_input import kept_input
from hypermol.io.stack_links import moved_stacks, mrcs_links, refuse_missing_stacks
from hypermol.io.star import write_particles_star

N_STATES = 10
FSC_THRESHOLD = 0.143
#: Folder of a run for links to stacks.
STACKS = "stacks"
#: Bins of a histogram of states where the model has none.
_BINS = 24


def write_results(run: Run, n_states: int = N_STATES) -> list[Path]:
    """Write every result file of a run; files that are there are replaced, each atomically.

    Args:
        run: with at least one sample; it need not be finished.
        n_states: number of states along the motion (a rigid molecule has one).

    Returns:
        Paths written.

    Raises:
        InputError: no samples yet, or a stack has gone.
    """
    folder = run.directory.path
    halves = half_set_fsc(run, run.nodes(n_states))
    written = write_state_volumes(run, n_states, halves)
    written.append(write_particles(run, folder / "particles.star"))
    if from_cryosparc(run):
        written += write_cryosparc(run, folder / "particles.cs")
    if has_states(run):
        written.append(write_occupancy(run))
    if halves is not None:
        written.append(write_fsc(run, halves))
    run.directory.write_json("diagnostics.json", diagnose(run))
    written += [folder / "diagnostics.json", Path(write_posterior_nc(run))]
    return written


def write_state_volumes(
    run: Run, n_states: int = N_STATES, halves: HalfSetFsc | None = None
) -> list[Path]:
    """volumes/state_000_mean.mrc, state_000_sd.mrc, ... and volumes/states.csv."""
    folder = run.directory.path / "volumes"
    make_folder(folder)
    volumes = state_volumes(run, run.nodes(n_states))
    pixel_size = run.info["pixel_size_angstrom"]
    rows, written = [], []
    for place, state in enumerate(volumes.states):
        names = [f"state_{place:03d}_{kind}.mrc" for kind in ("mean", "sd")]
        for name, data in zip(names, (volumes.mean[place], volumes.sd[place]), strict=True):
            write_volume(folder / name, data, pixel_size)
            written.append(folder / name)
        resolution = ""
        if halves is not None:
            resolution = f"{resolution_at(halves.curves[place], FSC_THRESHOLD, pixel_size):.2f}"
        shown = [f"{value:.6f}" for value in state] or [""]
        rows.append([place, *shown, *names, volumes.n_samples, resolution])
    header = ["index", *knob_names(run), "mean", "sd", "n_samples"]
    path = folder / "states.csv"
    write_csv(path, [*header, "half_set_resolution_angstrom"], rows)
    return [*written, path]


def run_particles(run: Run, image_dir: Path | None = None) -> ParticleMetadata:
    """The particles that the run was made of, in the order of its samples.

    They come from the run's own copy, so that it does not matter what became of the file.

    Args:
        run: any.
        image_dir: folder where the stacks are now, if they have moved since.

    Raises:
        InputError: the run has no copy, it is not of this run, or `image_dir` lacks a stack.
    """
    metadata = kept_input(run.directory)
    if len(metadata) != run.info["n_particles"]:
        raise InputError(
            f"{run.directory.path / INPUT_NAME} has {len(metadata)} particles but the run has "
            f"{run.info['n_particles']}: put the file back that `hypermol fit` wrote"
        )
    return metadata if image_dir is None else moved_stacks(metadata, image_dir)


def particle_columns(run: Run, summary: ParticleSummary) -> dict[str, np.ndarray]:
    """Extra columns of particles.star, name to values [N]; hypermolState2... is the second knob."""
    columns: dict[str, np.ndarray] = {}
    for knob in range(summary.state.shape[1]):
        stem = "hypermolState" if knob == 0 else f"hypermolState{knob + 1}"
        columns[f"{stem}Mean"] = summary.state[:, knob]
        columns[f"{stem}Sd"] = summary.state_sd[:, knob]
    columns["hypermolPoseSdDeg"] = summary.pose_sd_deg
    columns["hypermolPoseShare"] = summary.pose_share
    columns["hypermolShiftSdAngst"] = summary.shift_sd_px * run.info["pixel_size_angstrom"]
    columns["hypermolContrastMean"] = summary.contrast
    columns["hypermolContrastSd"] = summary.contrast_sd
    return columns


class Selection(NamedTuple):
    """Which particles of a run to write, and where their stacks are.

    Attributes:
        keep: bool [N]; all where it is None.
        image_dir: folder where the stacks are now, if they have moved since the fit.
    """

    keep: np.ndarray | None = None
    image_dir: Path | None = None


ALL = Selection()


def write_particles(run: Run, path: Path, selection: Selection = ALL) -> Path:
    """Write a STAR file: the input's columns, posterior mean poses and origins, extra columns.

    Stacks under names that RELION does not open get links in the run's folder `stacks`.

    Raises:
        InputError: a stack that would be named is not there, or the run has no samples.
    """
    metadata = run_particles(run, selection.image_dir)
    chosen, summary = _chosen(metadata, selection), summarise_particles(run)
    refuse_missing_stacks(metadata.take(chosen))
    columns = particle_columns(run, summary)
    write_particles_star(
        path,
        mrcs_links(metadata, run.directory.path / STACKS).take(chosen),
        extra_columns={name: values[chosen] for name, values in columns.items()},
        rotations=summary.rotations[chosen],
        shifts_angstrom=summary.shift_px[chosen] * run.info["pixel_size_angstrom"],
    )
    return path


def from_cryosparc(run: Run) -> bool:
    """Whether the run was made of a cryoSPARC file."""
    return CS_ROWS in run_particles(run).table


def write_cryosparc(run: Run, path: Path, selection: Selection = ALL) -> list[Path]:
    """Write a .cs file: the input's rows with posterior mean poses and shifts.

    Raises:
        InputError: the run was made of another kind of file, or has no samples.
    """
    metadata = run_particles(run)
    chosen, summary = _chosen(metadata, selection), summarise_particles(run)
    return write_particles_cs(
        path,
        metadata.take(chosen),
        rotations=summary.rotations[chosen],
        shifts_angstrom=summary.shift_px[chosen] * run.info["pixel_size_angstrom"],
    )


def _chosen(metadata: ParticleMetadata, selection: Selection) -> np.ndarray:
    """Rows of the particles selected."""
    if selection.keep is None:
        return np.arange(len(metadata))
    return np.flatnonzero(selection.keep)


def sampled_occupancy(run: Run, knob: Knob) -> Occupancy | None:
    """Density over a knob as the model sampled it (of the population), with bands.

    None where the knob's prior was kept as it is.
    """
    probabilities = knob_occupancy(run, knob)
    n_bins = probabilities.shape[-1]
    if n_bins == 1:
        return None
    density = probabilities.reshape(-1, n_bins) * n_bins
    tails = np.asarray(LEVELS)
    return Occupancy(
        np.linspace(0.0, 1.0, n_bins + 1),
        density.mean(axis=0),
        tails,
        np.quantile(density, (1 - tails) / 2, axis=0),
        np.quantile(density, (1 + tails) / 2, axis=0),
    )


def particle_occupancy(run: Run, knob: Knob) -> Occupancy:
    """Density over a knob from the particles' sampled states, with bands.

    A knob without an occupancy of its own still has a histogram: of a line, over the states seen.
    """
    states = pooled_states(run)[..., knob.column]
    n_bins = knob_occupancy(run, knob).shape[-1]
    return occupancy(states, bin_edges(knob, states, n_bins if n_bins > 1 else _BINS))


def write_occupancy(run: Run) -> Path:
    """occupancy.csv: density of every knob (uniform is 1) by bin, of model and particles."""
    header = ["knob", "label", "state_low", "state_high"]
    for kind in ("model", "particles"):
        header.append(f"{kind}_mean")
        for level in LEVELS:
            header += [f"{kind}_lower_{100 * level:.0f}", f"{kind}_upper_{100 * level:.0f}"]
    path = run.directory.path / "occupancy.csv"
    write_csv(path, header, [row for knob in run_knobs(run) for row in _occupancy_rows(run, knob)])
    return path


def _occupancy_rows(run: Run, knob: Knob) -> list[list[Any]]:
    """The rows of one knob; a prior that was not learned is uniform, or no density at all."""
    particles, model = particle_occupancy(run, knob), sampled_occupancy(run, knob)
    given = "" if knob.kind == "line" else 1.0
    rows: list[list[Any]] = []
    for place, (low, high) in enumerate(pairwise(particles.edges)):
        row = [knob.name, knob.labels[place] if knob.labels else "", float(low), float(high)]
        for found in (model, particles):
            if found is None:
                row += [given] * (1 + 2 * len(LEVELS))
                continue
            row.append(float(found.mean[place]))
            for lower, upper in zip(found.lower, found.upper, strict=True):
                row += [float(lower[place]), float(upper[place])]
        rows.append(row)
    return rows


def write_fsc(run: Run, halves: HalfSetFsc) -> Path:
    """fsc.csv: half-set FSC of every state by shell; its first line says what it is not."""
    box, pixel_size = run.info["box"], run.info["pixel_size_angstrom"]
    shells = np.arange(halves.curves.shape[1])
    header = ["shell", "frequency_per_angstrom", "mean"]
    header += [f"state_{place:03d}" for place in range(len(halves.curves))]
    rows = np.column_stack(
        [shells, shells / (box * pixel_size), halves.curves.mean(axis=0), halves.curves.T]
    )
    path = run.directory.path / "fsc.csv"
    write_csv(path, header, rows, comment=NOT_GOLD_STANDARD)
    return path


def write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], comment: str | None = None
) -> None:
    """Write a CSV atomically; floats to 7 digits; the comment goes on a first line after #."""
    text = io.StringIO()
    if comment is not None:
        text.write(f"# {comment}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([f"{v:.7g}" if isinstance(v, float) else v for v in row])
    write_text(path, text.getvalue())
