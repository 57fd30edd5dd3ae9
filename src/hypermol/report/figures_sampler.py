"""Figures about resolution and about the sampler."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hypermol.analysis.run import Run
from hypermol.analysis.summary import FSC_THRESHOLD
from hypermol.report.figures_molecule import state_label
from hypermol.report.resolution import HalfSetCurves, Spectra
from hypermol.report.style import (
    BLUE,
    CHAIN_COLOURS,
    GREY,
    RED,
    SKY,
    legend,
    new_figure,
    resolution_axis,
    tidy,
)

Trace = list[dict[str, Any]]

_TRACES = (
    ("log_likelihood", "log-likelihood"),
    ("misfit", "misfit (half χ²)"),
    ("rotation_step_deg", "rotation step (°)"),
    ("moved_rotation", "rotations moved per step"),
    ("guessed_rotation", "rotations drawn anew"),
    ("moved_shift", "shifts moved per step"),
    ("accepted_particles", "gradient steps accepted"),
    ("accepted_molecule", "density steps accepted"),
    ("accepted_motion", "trajectory steps accepted"),
    ("placed", "particles placed"),
    ("jumped", "share offered that jumped"),
    ("jumped_far", "jumped more than 20°"),
    ("misplaced", "share of misplaced rotations"),
    ("misplaced_shifts", "share of misplaced shifts"),
    ("misplaced_shift_sd_px", "misplaced shift spread (px)"),
    ("frame_turn_deg", "shared turn undone (°)"),
    ("pose_sd_deg", "pose spread (°)"),
    ("shift_sd_px", "shift spread (px)"),
    ("contrast_sd", "contrast spread"),
    ("noise", "noise variance, mean"),
    ("cg_iterations", "CG iterations"),
    ("seconds", "seconds per sweep"),
)


def fsc_figure(run: Run, halves: HalfSetCurves) -> Figure:
    """Half-set FSC per state with the 0.143 line."""
    figure = new_figure(9.0, 3.6)
    ax = figure.subplots()
    colours = colormaps["viridis"](np.linspace(0.0, 0.9, len(halves.states)))
    rows = zip(halves.states, halves.curves, halves.resolution_angstrom, colours, strict=True)
    for state, curve, resolution, colour in rows:
        prefix = f"{state_label(run, state)}: " if len(state) else ""
        label = prefix + (f"{resolution:.1f} Å" if np.isfinite(resolution) else "none")
        ax.plot(halves.frequency, curve, color=colour, lw=1.6, label=label)
    ax.axhline(FSC_THRESHOLD, color=RED, lw=1, ls="--")
    ax.text(0.0, FSC_THRESHOLD + 0.015, " 0.143", color=RED, fontsize=8.5)
    ax.axhline(0.0, color=GREY, lw=0.7)
    lowest = np.min(halves.curves, initial=0.0, where=np.isfinite(halves.curves))
    ax.set_ylim(min(-0.08, float(lowest) - 0.05), 1.03)
    tidy(ax, "", "Fourier shell correlation")
    resolution_axis(ax, halves.frequency)
    legend(ax, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def spectra_figure(spectra: Spectra) -> Figure:
    """Noise variance per shell with a 90 % band; power of each term and its prior."""
    figure = new_figure(9.0, 3.5)
    left, right = figure.subplots(1, 2)
    low, middle, high = spectra.noise
    left.fill_between(
        spectra.frequency, low, high, color=SKY, alpha=0.5, lw=0, step="mid", label="90 % band"
    )
    left.step(spectra.frequency, middle, where="mid", color=BLUE, lw=1.5, label="median")
    left.set_ylim(bottom=0.0, top=1.15 * float(high.max()))
    tidy(left, "", "noise variance per coefficient", "noise")
    resolution_axis(left, spectra.frequency)
    legend(left, loc="lower right")
    colours = colormaps["viridis"](np.linspace(0.0, 0.9, len(spectra.signal)))
    for q, (power, prior, colour) in enumerate(
        zip(spectra.signal, spectra.prior, colours, strict=True)
    ):
        right.plot(spectra.frequency, np.maximum(power, 1e-30), color=colour, lw=1.5, label=f"{q}")
        right.plot(spectra.frequency, prior, color=colour, lw=1.0, ls=":")
    right.set_yscale("log")
    right.set_ylim(bottom=max(float(spectra.signal.max()) * 1e-7, 1e-30))
    tidy(right, "", "power per coefficient", "signal of each term (dotted: prior)")
    resolution_axis(right, spectra.frequency)
    beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    columns = 2 if len(spectra.signal) > 12 else 1
    legend(right, title="term", title_fontsize=8.5, ncols=columns, **beside)
    return figure


def trace_figure(trace: Trace) -> Figure:
    """Every recorded quantity by sweep, chains in colour, stages shaded."""
    shown = [(key, label) for key, label in _TRACES if _has_values(trace, key)]
    n_columns = 3 if len(shown) <= 9 else 4
    n_rows = max(-(-len(shown) // n_columns), 1)
    figure = new_figure(9.0, 0.5 + 2.1 * n_rows)
    axes = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True).ravel()
    for ax, (key, label) in zip(axes, shown, strict=False):
        _shade_stages(ax, trace)
        for chain, rows in sorted(_by_chain(trace).items()):
            colour = CHAIN_COLOURS[chain % len(CHAIN_COLOURS)]
            ax.plot(*_with_gaps(rows, key), color=colour, lw=1.1)
        tidy(ax, "", "", label)
        if key.startswith(("moved", "guessed")):
            ax.set_ylim(0.0, 1.0)
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    for ax in axes[max(len(shown) - n_columns, 0) : len(shown)]:
        ax.set_xlabel("sweep", fontsize=9)
        ax.tick_params(labelbottom=True)
    return figure


def _with_gaps(rows: Trace, key: str) -> tuple[list[float], list[float]]:
    """Sweeps and a number of theirs, for a line that breaks where sweeps are missing."""
    sweeps: list[float] = []
    values: list[float] = []
    for row in rows:
        if sweeps and row["sweep"] > sweeps[-1] + 1:
            sweeps.append(sweeps[-1])
            values.append(np.nan)
        sweeps.append(row["sweep"])
        values.append(_number(row.get(key)))
    return sweeps, values


def kept_figure(trace: Trace) -> tuple[Figure, str] | None:
    """Fit of kept sweeps alone, where a drift would show, and what it is; None without any."""
    kept = [row for row in trace if row.get("kept")]
    shown = [(key, label) for key, label in _TRACES[:2] if _has_values(kept, key)]
    if len(kept) < 2 or not shown:
        return None
    key, label = shown[0]
    figure = new_figure(9.0, 2.5)
    ax = figure.subplots()
    centre = float(np.nanmean([_number(row.get(key)) for row in kept]))
    for chain, rows in sorted(_by_chain(kept).items()):
        colour = CHAIN_COLOURS[chain % len(CHAIN_COLOURS)]
        values = np.array([_number(row.get(key)) for row in rows]) - centre
        ax.plot(values, "o-", ms=3, lw=1.2, color=colour, label=f"chain {chain}")
    tidy(ax, "kept sweep", f"{label} − mean")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(ax, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure, label


def stage_names(trace: Trace) -> list[str]:
    """Names of the stages in the order they were run."""
    return list(dict.fromkeys(str(row.get("stage", "")) for row in trace))


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _has_values(trace: Trace, key: str) -> bool:
    values = np.array([_number(row.get(key)) for row in trace])
    return bool(np.isfinite(values).any())


def _by_chain(trace: Trace) -> dict[int, Trace]:
    chains: dict[int, Trace] = {}
    for row in sorted(trace, key=lambda r: (r["chain"], r["sweep"])):
        chains.setdefault(int(row["chain"]), []).append(row)
    return chains


def _shade_stages(ax: Axes, trace: Trace) -> None:
    """Alternate the ground by stage; kept sweeps on white."""
    rows = next(iter(_by_chain(trace).values()))
    names = [str(row.get("stage", "")) for row in rows]
    sweeps = [row["sweep"] for row in rows]
    starts = [i for i in range(len(names)) if i == 0 or names[i] != names[i - 1]]
    for order, (i, j) in enumerate(zip(starts, [*starts[1:], len(names)], strict=True)):
        kept = any(row.get("kept") for row in rows[i:j])
        ground = "#dcfce7" if kept else ("#f3f4f6", "#e5e7eb")[order % 2]
        ax.axvspan(sweeps[i] - 0.5, sweeps[j - 1] + 0.5, color=ground, lw=0, zorder=0)
