"""Results of a run as files that other programs read (docs/outputs.md says what each holds)."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from hypermol.analysis.arviz_store import write_posterior_nc
from hypermol.analysis.chains import aligned_occupancy, aligned_states, has_states, knob_names
from hypermol.analysis.convergence import diagnose
from hypermol.analysis.fsc import resolution_at
from hypermol.analysis.occupancy import LEVELS, Occupancy, occupancy
from hypermol.analysis.particle_summary import ParticleSummary, summarise_particles
from hypermol.analysis.run import Run
from hypermol.analysis.volumes import (
    NOT_GOLD_STANDARD,
    HalfSetFsc,
    half_set_fsc,
    state_volumes,
)
from hypermol.data.particles import load_particles
from hypermol.io.errors import InputError
from hypermol.io.metadata import ParticleMetadata
from hypermol.io.mrc import write_volume
from hypermol.io.star import write_particles_star

N_STATES = 10
FSC_THRESHOLD = 0.143


def write_results(run: Run, n_states: int = N_STATES) -> list[Path]:
    """Write every result file of a run; files that are there are replaced, each atomically.

    Args:
        run: with at least one sample; it need not be finished.
        n_states: number of states along the motion (a rigid molecule has one).

    Returns:
        Paths written.

    Raises:
        InputError: no samples yet, or the particle file has gone or changed.
    """
    folder = run.directory.path
    halves = half_set_fsc(run, run.nodes(n_states))
    written = write_state_volumes(run, n_states, halves)
    written.append(write_particles(run))
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
    folder.mkdir(exist_ok=True)
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


def run_particles(run: Run) -> ParticleMetadata:
    """The particles that the run was made of.

    Raises:
        InputError: the particle file has gone, or has another number of particles now.
    """
    options = run.info.get("particle_options", {})
    metadata = load_particles(
        run.info["particles"],
        pixel_size_angstrom=run.info["pixel_size_angstrom"],
        allow_missing=("poses", "ctf"),
        **options,
    ).metadata
    rows = run.info.get("rows")
    if rows is not None:
        metadata = metadata.take(np.asarray(rows))
    if len(metadata) != run.info["n_particles"]:
        raise InputError(
            f"{run.info['particles']} has {len(metadata)} particles but {run.directory.path} was "
            f"run on {run.info['n_particles']}: put the particle file back that the run read"
        )
    return metadata


def _further_states(run: Run) -> dict[str, np.ndarray]:
    """Means and sds of the second and later knobs: hypermolState2Mean, hypermolState2Sd, ...

    Deviations go the short way round circles. Chains are taken as they are: with several knobs
    their gauges are not matched.
    """
    space = run.state_space
    if space.dim < 2:
        return {}
    states = run.pooled("state").astype(np.float64)
    away = np.stack([space.difference(sample, states[0]) for sample in states])
    mean = np.asarray(space.wrap(jnp.asarray(states[0] + away.mean(axis=0))))
    sd = away.std(axis=0, ddof=min(1, len(states) - 1))
    found = {}
    for knob in range(1, space.dim):
        found[f"hypermolState{knob + 1}Mean"] = mean[:, knob]
        found[f"hypermolState{knob + 1}Sd"] = sd[:, knob]
    return found


def particle_columns(run: Run, summary: ParticleSummary) -> dict[str, np.ndarray]:
    """Extra columns of particles.star, name to values [N]."""
    columns: dict[str, np.ndarray] = {}
    if summary.state is not None and summary.state_sd is not None:
        columns["hypermolStateMean"] = summary.state
        columns["hypermolStateSd"] = summary.state_sd
    columns |= _further_states(run)
    columns["hypermolPoseSdDeg"] = summary.pose_sd_deg
    columns["hypermolShiftSdAngst"] = summary.shift_sd_px * run.info["pixel_size_angstrom"]
    columns["hypermolContrastMean"] = summary.contrast
    columns["hypermolContrastSd"] = summary.contrast_sd
    return columns


def write_particles(run: Run, path: Path | None = None, keep: np.ndarray | None = None) -> Path:
    """particles.star: the input's columns, posterior mean poses and origins, and extra columns.

    Args:
        run: with samples.
        path: the file; by default the run's particles.star.
        keep: bool [N], which particles; all by default.

    Raises:
        InputError: the particle file has gone or changed.
    """
    target = run.directory.path / "particles.star" if path is None else path
    metadata = run_particles(run)
    summary = summarise_particles(run)
    chosen = np.ones(len(metadata), bool) if keep is None else np.asarray(keep)
    columns = particle_columns(run, summary)
    write_particles_star(
        target,
        metadata.take(np.flatnonzero(chosen)),
        extra_columns={name: values[chosen] for name, values in columns.items()},
        rotations=summary.rotations[chosen],
        shifts_angstrom=summary.shift_px[chosen] * run.info["pixel_size_angstrom"],
    )
    return target


def sampled_occupancy(run: Run) -> Occupancy:
    """Density over the state as the model sampled it (of the population), with bands."""
    probabilities = aligned_occupancy(run)
    n_bins = probabilities.shape[-1]
    density = probabilities.reshape(-1, n_bins) * n_bins
    tails = np.asarray(LEVELS)
    return Occupancy(
        np.linspace(0.0, 1.0, n_bins + 1),
        density.mean(axis=0),
        tails,
        np.quantile(density, (1 - tails) / 2, axis=0),
        np.quantile(density, (1 + tails) / 2, axis=0),
    )


def particle_occupancy(run: Run) -> Occupancy:
    """Density over the state from the particles' sampled states, with bands."""
    states = aligned_states(run)
    n_bins = run.stacked("occupancy").shape[-1]
    if n_bins == 1:
        # a model without learned occupancy has one bin; the particles still have a histogram
        n_bins = run.state_space.n_bins(24)
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    return occupancy(states.reshape(-1, states.shape[-1]), edges)


def write_occupancy(run: Run) -> Path:
    """occupancy.csv: density (uniform is 1) by bin, of the model and of the particles."""
    particles = particle_occupancy(run)
    model = sampled_occupancy(run)
    if len(model.mean) == 1:
        model = model._replace(
            edges=particles.edges,
            **{
                name: np.repeat(getattr(model, name), len(particles.mean), axis=-1)
                for name in ("mean", "lower", "upper")
            },
        )
    header = ["state_low", "state_high"]
    columns = [particles.edges[:-1], particles.edges[1:]]
    for kind, result in (("model", model), ("particles", particles)):
        header.append(f"{kind}_mean")
        columns.append(result.mean)
        for place, level in enumerate(result.levels):
            header += [f"{kind}_lower_{100 * level:.0f}", f"{kind}_upper_{100 * level:.0f}"]
            columns += [result.lower[place], result.upper[place]]
    path = run.directory.path / "occupancy.csv"
    write_csv(path, header, np.stack(columns, axis=1))
    return path


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
    partial = path.with_name(path.name + ".part")
    partial.write_text(text.getvalue())
    os.replace(partial, path)
