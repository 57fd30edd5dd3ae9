"""How figures look, and how they become files and data URIs. No pyplot: no global state."""

import base64
import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from hypermol.io.atomic import make_folder, write_bytes

#: Okabe and Ito's colour-blind safe colours.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, GREY = "#CC79A7", "#56B4E9", "#6b7280"
CHAIN_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
INK = "#1f2937"
_DPI = 150
_RESOLUTIONS = (200, 100, 50, 30, 20, 15, 12, 10, 8, 6, 5, 4, 3.5, 3, 2.5, 2, 1.5, 1)


def new_figure(width: float, height: float, tight: bool = False) -> Figure:
    """A figure of the page's width (9 inch) or less, with its own canvas; tight for pictures."""
    pad, gap = (0.02, 0.0) if tight else (0.04, 0.02)
    layout = ConstrainedLayoutEngine(h_pad=pad, w_pad=pad, hspace=gap, wspace=gap)
    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def tidy(ax: Axes, xlabel: str = "", ylabel: str = "", title: str = "") -> None:
    """Labels, light frame, readable type."""
    ax.set_xlabel(xlabel, fontsize=9.5, color=INK)
    ax.set_ylabel(ylabel, fontsize=9.5, color=INK)
    if title:
        ax.set_title(title, fontsize=10.5, color=INK, loc="left")
    ax.tick_params(labelsize=8.5, colors="#4b5563", length=3)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color("#9ca3af")


def legend(ax: Axes, **options) -> None:
    """A small legend without a frame."""
    ax.legend(fontsize=8.5, frameon=False, **options)


def no_ticks(ax: Axes) -> None:
    """For pictures."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def resolution_axis(ax: Axes, frequency: np.ndarray) -> None:
    """Label a linear frequency axis (1/Angstrom) by resolution in Angstrom."""
    ax.set_xlim(0.0, float(frequency[-1]) * 1.01)
    places: list[float] = []
    labels: list[str] = []
    span = float(frequency[-1])
    for value in _RESOLUTIONS:
        place = 1.0 / value
        if place <= span and (not places or place - places[-1] > 0.07 * span):
            places.append(place)
            labels.append(f"{value:g}")
    ax.set_xticks(places, labels)
    ax.set_xlabel("resolution (Å)", fontsize=9.5, color=INK)


def as_png(figure: Figure) -> bytes:
    """The figure rendered."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def save(content: bytes, path: Path) -> None:
    """Write a picture beside the page, atomically; its folder is made if missing."""
    make_folder(path.parent)
    write_bytes(path, content)


def data_uri(content: bytes, kind: str) -> str:
    """An `image/...` data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
