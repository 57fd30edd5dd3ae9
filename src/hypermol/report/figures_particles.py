"""Figures about the particles: poses, contrast, certainty of states, leaks."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hypermol.analysis.particle_summary import ParticleSummary
from hypermol.report.evidence import KnobEvidence
from hypermol.report.figures_occupancy import name_classes
from hypermol.report.leak import Leak
from hypermol.report.particles import InputPoses, pose_change
from hypermol.report.style import BLUE, ORANGE, RED, SKY, legend, new_figure, tidy


def _histogram(ax: Axes, values: np.ndarray, xlabel: str, colour: str = BLUE) -> None:
    """A histogram over the central 99.5 % with its median marked."""
    low, high = np.percentile(values, [0.25, 99.75])
    if high <= low:
        low, high = low - 0.5, high + 0.5
    ax.hist(values, bins=40, range=(low, high), color=colour, alpha=0.85)
    median = float(np.median(values))
    ax.axvline(median, color=RED, lw=1.2)
    tidy(ax, xlabel, "particles")
    ax.set_title(f"median {median:.3g}", fontsize=9, color=RED, loc="right")


def contrast_figure(summary: ParticleSummary) -> Figure:
    """Contrast alone, where poses were fixed."""
    figure = new_figure(4.5, 2.6)
    _histogram(figure.subplots(), summary.contrast, "posterior mean contrast", ORANGE)
    return figure


def poses_figure(summary: ParticleSummary, given: InputPoses | None) -> Figure:
    """Change from the input, posterior spread, and contrast."""
    panels: list[tuple[np.ndarray, str, str]] = []
    if given is not None:
        angle, distance = pose_change(summary, given)
        panels += [
            (angle, "rotation from input pose (°)", BLUE),
            (distance, "shift from input pose (px)", BLUE),
        ]
    panels += [
        (summary.pose_sd_deg, "posterior sd of rotation (°)", SKY),
        (summary.shift_sd_px, "posterior sd of shift (px)", SKY),
        (summary.contrast, "posterior mean contrast", ORANGE),
    ]
    figure = new_figure(9.0, 4.6)
    axes = figure.subplots(2, 3).ravel()
    for ax, (values, label, colour) in zip(axes, panels, strict=False):
        _histogram(ax, values, label, colour)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    return figure


def views_figure(summary: ParticleSummary, knobs: Sequence[KnobEvidence]) -> Figure:
    """Viewing directions on the sphere, and the mean state of each interval seen from each."""
    x, y, z = summary.rotations[:, 2].T
    longitude, latitude = np.arctan2(y, x), np.arcsin(np.clip(z, -1.0, 1.0))
    # equal areas: bins even in sin(latitude)
    edges = (np.linspace(-np.pi, np.pi, 25), np.arcsin(np.linspace(-1.0, 1.0, 13)))
    count = np.histogram2d(longitude, latitude, edges)[0]
    panels = [(count, "particles per direction", "viridis", (0.0, float(count.max())))]
    for found in knobs:
        if found.knob.kind != "interval":
            continue
        total = np.histogram2d(longitude, latitude, edges, weights=found.state)[0]
        mean = np.where(count >= 5, total / np.maximum(count, 1), np.nan)
        centre, spread = float(found.state.mean()), 2.0 * float(found.state.std()) or 1.0
        limits = (centre - spread, centre + spread)
        panels.append((mean, f"mean {found.knob.name} by direction", "PuOr_r", limits))
    n_rows = (len(panels) + 1) // 2
    figure = new_figure(9.0, 0.5 + 2.4 * n_rows)
    for i, (values, title, cmap, (low, high)) in enumerate(panels):
        ax = figure.add_subplot(n_rows, 2, i + 1, projection="mollweide")
        shown = ax.pcolormesh(*edges, values.T, cmap=cmap, vmin=low, vmax=high, rasterized=True)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_facecolor("#e5e7eb")
        ax.set_title(title, fontsize=10)
        figure.colorbar(shown, ax=ax, shrink=0.75, pad=0.03).ax.tick_params(labelsize=8)
    return figure


def certainty_figure(found: KnobEvidence) -> Figure:
    """How sure each particle's state is, against how far the states spread."""
    figure = new_figure(9.0, 3.3)
    left, right = figure.subplots(1, 2)
    name, state, state_sd, spread = found.knob.name, found.state, found.state_sd, found.spread
    left.hist(state_sd, bins=40, color=BLUE, alpha=0.85)
    left.axvline(spread, color=RED, lw=1.5, label=f"spread of all states {spread:.2f}")
    typical = float(np.median(state_sd))
    left.axvline(typical, color="black", lw=1.2, ls="--", label=f"median sd {typical:.3f}")
    left.set_xlim(left=0.0)
    tidy(left, f"posterior sd of a particle's {name}", "particles")
    legend(left, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
    shown = right.hexbin(state, state_sd, gridsize=36, cmap="viridis", mincnt=1, linewidths=0.1)
    tidy(right, f"posterior mean {name}", f"posterior sd of {name}")
    name_classes(right, found.knob)
    bar = figure.colorbar(shown, ax=right, pad=0.02)
    bar.set_label("particles", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return figure


def leak_figure(leaks: list[Leak]) -> Figure:
    """Correlation of the state with what it should not follow, and the permutation band."""
    figure = new_figure(9.0, 0.8 + 0.33 * len(leaks))
    ax = figure.subplots()
    places = np.arange(len(leaks))[::-1]
    ax.barh(places, [leak.null for leak in leaks], height=0.62, color="#d1d5db", label="chance")
    for place, leak in zip(places, leaks, strict=True):
        colour = RED if leak.is_significant else BLUE
        ax.plot([0, leak.strength], [place, place], color=colour, lw=1.5)
        ax.plot(leak.strength, place, "o", color=colour, ms=6)
        ax.annotate(
            f"{leak.strength:.2f}",
            (leak.strength, place),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=colour,
        )
    ax.set_yticks(places, [leak.name for leak in leaks])
    highest = max(max(leak.strength, leak.null) for leak in leaks)
    ax.set_xlim(0.0, min(1.0, max(0.25, 1.25 * highest)))
    tidy(ax, "correlation with the state (grey: 99 % of random assignments stay below)")
    return figure
