"""Where a model's parts may be, drawn over a map: what to look at before a fit."""

from collections.abc import Sequence

import numpy as np
from matplotlib.lines import Line2D
from scipy.ndimage import map_coordinates

from hypermol.molecule.parts import Place
from hypermol.molecule.region import Mask, Region
from hypermol.recipe.outlines import Outline
from hypermol.report.style import CHAIN_COLOURS, INK, as_png, new_figure, no_ticks

#: Slices through the origin: title, axis of [z, y, x] that is cut, labels across and up.
_SLICES = (("z = 0", 0, "x", "y"), ("y = 0", 1, "x", "z"), ("x = 0", 2, "y", "z"))
#: Outlines are drawn on a grid so much finer than the map's.
_FINER = 3


def inside(region: Region, place: Place, n: int, voxel_size_angstrom: float) -> np.ndarray:
    """float [n, n, n]: 1 within the region at a place, 0 outside, 1/2 at its edge."""
    axis = (np.arange(n) - n // 2) * voxel_size_angstrom
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    # a place shows U(S' r): for row vectors r S
    points = np.stack([x, y, z], axis=-1) @ np.asarray(place.rotation, float)
    if isinstance(region, Mask):
        at = points[..., ::-1] / region.voxel_size_angstrom + len(region.values) // 2
        return map_coordinates(region.values, np.moveaxis(at, -1, 0), order=1)
    distance = np.linalg.norm(points - np.asarray(region.centre_angstrom), axis=-1)
    edge = (region.radius_angstrom - distance) / voxel_size_angstrom
    return np.clip(0.5 + edge, 0.0, 1.0)


def regions_figure(
    density: np.ndarray, voxel_size_angstrom: float, outlines: Sequence[Outline]
) -> bytes:
    """Three central slices of a map [n, n, n] with the parts' outlines, as PNG.

    Solid lines cut the region at 1/2; dashed ones are its shadow along the slice's normal, for
    regions that the central plane misses.
    """
    n = len(density)
    fine = _FINER * n
    step = voxel_size_angstrom / _FINER
    axis = (np.arange(fine) - fine // 2) * step
    low_edge, high_edge = -(n // 2 + 0.5), n - n // 2 - 0.5
    extent = tuple(voxel_size_angstrom * np.array([low_edge, high_edge, low_edge, high_edge]))
    figure = new_figure(9.0, 3.6)
    panels = figure.subplots(1, 3)
    low, high = np.percentile(density, (1.0, 99.8))
    for ax, (title, cut, across, up) in zip(panels, _SLICES, strict=True):
        ax.imshow(
            np.take(density, n // 2, axis=cut),
            origin="lower",
            extent=extent,
            cmap="gray",
            interpolation="bilinear",
            vmin=low,
            vmax=high,
        )
        ax.set_title(f"{title}: {across} to the right, {up} up", fontsize=9.5, color=INK)
        no_ticks(ax)
    for number, outline in enumerate(outlines):
        colour = CHAIN_COLOURS[number % len(CHAIN_COLOURS)]
        for place in outline.places:
            values = inside(outline.region, place, fine, step)
            for ax, (_, cut, _, _) in zip(panels, _SLICES, strict=True):
                for shown, style in (
                    (np.take(values, fine // 2, axis=cut), "solid"),
                    (values.max(axis=cut), "dashed"),
                ):
                    if shown.min() < 0.5 < shown.max():
                        ax.contour(axis, axis, shown, [0.5], colors=[colour], linestyles=[style])
    handles = [
        Line2D([], [], color=CHAIN_COLOURS[i % len(CHAIN_COLOURS)], label=_label(outline))
        for i, outline in enumerate(outlines)
    ]
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=4, fontsize=8.5, frameon=False
        )
    return as_png(figure)


def _label(outline: Outline) -> str:
    count = len(outline.places)
    return outline.name if count == 1 else f"{outline.name} ({count} places)"
