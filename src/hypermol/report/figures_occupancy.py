"""Figures of how populated states are: knob by knob, and two knobs at once."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from hypermol.analysis.dependence import Dependence, JointOccupancy
from hypermol.analysis.knobs import Knob
from hypermol.report.evidence import KnobEvidence
from hypermol.report.style import BLUE, GREY, INK, ORANGE, SKY, legend, new_figure, tidy

#: Joint bins where fewer particles than this would be expected are left grey: chance alone.
_FEWEST = 3.0
#: Colours of the ratio end at this factor either way.
_FACTOR = 4.0


def occupancy_figure(knobs: Sequence[KnobEvidence]) -> Figure:
    """Posterior mean density over each knob with 50 % and 90 % bands, bin by bin."""
    n_columns = min(len(knobs), 2)
    n_rows = -(-len(knobs) // n_columns)
    figure = new_figure(9.0, 3.4 if n_rows == 1 else 2.9 * n_rows)
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax, found in zip(axes, knobs, strict=False):
        _occupancy_panel(ax, found)
    for ax in axes[len(knobs) :]:
        ax.set_axis_off()
    return figure


def _occupancy_panel(ax: Axes, found: KnobEvidence) -> None:
    occupancy = found.occupancy
    edges = occupancy.edges
    for level, alpha in ((0.9, 0.35), (0.5, 0.6)):
        index = int(np.argmin(np.abs(occupancy.levels - level)))
        ax.fill_between(
            edges,
            _stepped(occupancy.lower[index]),
            _stepped(occupancy.upper[index]),
            step="post",
            color=SKY,
            alpha=alpha,
            lw=0,
            label=f"{100 * level:.0f} % band",
        )
    ax.step(edges, _stepped(occupancy.mean), where="post", color=BLUE, lw=1.6, label="mean")
    if found.model is not None:
        seen = _stepped(found.observed.mean)
        ax.step(edges, seen, where="post", color=ORANGE, lw=1.0, label="these particles")
    ax.axhline(1.0 / (edges[-1] - edges[0]), color=GREY, lw=0.9, ls=":", label="even")
    ax.set_xlim(edges[0], edges[-1])
    tidy(ax, found.knob.name, "density of particles")
    name_classes(ax, found.knob)
    legend(ax, ncols=3, loc="upper right")
    highest = max(float(occupancy.upper.max()), float(found.observed.mean.max()))
    ax.set_ylim(0.0, 1.35 * highest)


def _stepped(values: np.ndarray) -> np.ndarray:
    """Bin values with the last repeated, as step plots over edges want them."""
    return np.append(values, values[-1])


def name_classes(ax: Axes, knob: Knob, vertical: bool = False) -> None:
    """Labels of classes in place of their states."""
    if knob.labels:
        centres = (np.arange(len(knob.labels)) + 0.5) / len(knob.labels)
        (ax.set_yticks if vertical else ax.set_xticks)(centres, knob.labels)


def joint_figure(
    joints: Sequence[JointOccupancy], dependences: Sequence[Dependence], n_particles: int
) -> Figure:
    """Of every two knobs the joint density, and how many times what independence would give."""
    figure = new_figure(9.0, 3.6 * len(joints))
    rows = figure.subplots(len(joints), 2, squeeze=False)
    for (left, right), joint, found in zip(rows, joints, dependences, strict=True):
        area = np.outer(*(np.diff(edges) for edges in joint.edges))
        shown = left.pcolormesh(*joint.edges, (joint.share / area).T, cmap="viridis", vmin=0.0)
        _finish(left, joint, "density of particles")
        figure.colorbar(shown, ax=left, pad=0.02).ax.tick_params(labelsize=8)
        ratio = np.where(
            joint.apart * n_particles >= _FEWEST,
            joint.share / np.maximum(joint.apart, 1e-30),
            np.nan,
        )
        scale = TwoSlopeNorm(0.0, -np.log2(_FACTOR), np.log2(_FACTOR))
        log_ratio = np.log2(np.maximum(ratio, 1e-3))
        shown = right.pcolormesh(*joint.edges, log_ratio.T, cmap="PuOr_r", norm=scale)
        right.set_facecolor("#d1d5db")
        _finish(right, joint, f"{found.measure} {found.mean:.3f} ± {found.sd:.3f}")
        bar = figure.colorbar(shown, ax=right, pad=0.02, extend="both")
        ticks = np.array([0.25, 0.5, 1.0, 2.0, 4.0])
        bar.set_ticks(np.log2(ticks), labels=[f"{tick:g}" for tick in ticks])
        bar.set_label("times independence", fontsize=9, color=INK)
        bar.ax.tick_params(labelsize=8)
    return figure


def _finish(ax: Axes, joint: JointOccupancy, title: str) -> None:
    tidy(ax, joint.first.name, joint.second.name, title)
    name_classes(ax, joint.first)
    name_classes(ax, joint.second, vertical=True)
