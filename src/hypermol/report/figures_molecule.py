"""Pictures of the molecule along its state."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from hypermol.analysis.chains import run_knobs
from hypermol.analysis.knobs import Knob, class_index
from hypermol.analysis.run import Run
from hypermol.report.density import Density, film
from hypermol.report.resolution import support_radius
from hypermol.report.style import INK, new_figure, no_ticks

_VIEWS = (("z", 0), ("y", 1), ("x", 2))
_GIF_SIDE = 176
_GIF_STATES = 24
_GIF_MILLISECONDS = 90


def state_label(run: Run, state: np.ndarray) -> str:
    """For example `arm = 0.36`, or `fold = open` of classes."""
    return ", ".join(
        f"{knob.name} = {_shown(knob, float(state[knob.column]))}" for knob in run_knobs(run)
    )


def _shown(knob: Knob, value: float) -> str:
    if n := len(knob.labels):
        return knob.labels[int(class_index(np.asarray(value), n))]
    return f"{value:.2f}"


def crop(run: Run, density: Density) -> slice:
    """The part of each axis that the support ball and a small margin take."""
    n = density.average.shape[0]
    reach = int(np.ceil(support_radius(run) / density.voxel_size_angstrom)) + 1
    return slice(max(n // 2 - reach, 0), min(n // 2 + reach + 1, n))


def montage_figure(run: Run, density: Density) -> Figure:
    """Projections of the posterior mean along three axes (rows) at the states (columns)."""
    keep = crop(run, density)
    shown = density.mean[:, keep, keep, keep]
    projections = [shown.sum(axis=1 + axis) for _, axis in _VIEWS]
    n_states = len(density.states)
    low, high = _limits(np.stack(projections))
    if n_states == 1:
        figure = new_figure(7.0, 2.6, tight=True)
        axes = figure.subplots(1, 3, squeeze=False).T
    else:
        figure = new_figure(9.0, 4.0, tight=True)
        axes = figure.subplots(3, n_states)
    for row, (name, _) in enumerate(_VIEWS):
        for ax, picture in zip(axes[row], projections[row], strict=True):
            ax.imshow(
                picture, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="bicubic"
            )
            no_ticks(ax)
        axes[row, 0].set_ylabel(f"along {name}", fontsize=9, color=INK)
    if n_states > 1:
        for ax, state in zip(axes[0], density.states, strict=True):
            ax.set_title(state_label(run, state), fontsize=9, color=INK)
    _scale_bar(axes[2, 0], density, shown.shape[-1])
    return figure


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [1.0, 99.8])
    return float(low), float(high) if high > low else float(low) + 1.0


def _scale_bar(ax: Axes, density: Density, n: int) -> None:
    """A bar of a round length near a quarter of a picture of n voxels."""
    span = n * density.voxel_size_angstrom
    length = max((v for v in (5, 10, 20, 50, 100, 200, 500) if v <= 0.35 * span), default=1)
    width = length / density.voxel_size_angstrom
    ax.plot([0.05 * n, 0.05 * n + width], [0.07 * n] * 2, color="white", lw=2.5)
    ax.text(0.05 * n, 0.1 * n, f"{length} Å", color="white", fontsize=7.5, va="bottom")
    ax.set_xlim(-0.5, n - 0.5)
    ax.set_ylim(-0.5, n - 0.5)


def slice_of_most_change(density: Density) -> int:
    """z index of the slice where the states differ most; the central one for a rigid molecule."""
    n = density.average.shape[0]
    if len(density.states) < 2:
        return n // 2
    power = (density.change.astype(np.float64) ** 2).sum(axis=(0, 2, 3))
    return int(ndimage.gaussian_filter1d(power, 1.0).argmax())


def slices_figure(run: Run, density: Density) -> Figure:
    """Slices at each state: mean, sd on the same scale, change from the average, change / sd."""
    if len(density.states) < 2:
        return _rigid_slices(run, density)
    keep = crop(run, density)
    z = slice_of_most_change(density)
    mean, sd, change, change_sd = (
        values[:, z, keep, keep]
        for values in (density.mean, density.sd, density.change, density.change_sd)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(change_sd > 0, change / change_sd, 0.0)
    low, high = _limits(mean)
    reach = float(np.percentile(np.abs(change), 99.8)) or 1.0
    rows = (
        ("mean", mean, "gray", low, high),
        ("sd", sd, "gray", 0.0, high - min(low, 0.0)),
        ("change from\naverage", change, "PuOr_r", -reach, reach),
        ("change in sd", ratio, "PuOr_r", -8.0, 8.0),
    )
    figure = new_figure(9.0, 5.5, tight=True)
    axes = figure.subplots(len(rows), len(density.states))
    for i, (name, pictures, cmap, bottom, top) in enumerate(rows):
        for j, picture in enumerate(pictures):
            shown = axes[i, j].imshow(
                picture, cmap=cmap, vmin=bottom, vmax=top, origin="lower", interpolation="bicubic"
            )
            no_ticks(axes[i, j])
            if i == 0:
                axes[i, j].set_title(state_label(run, density.states[j]), fontsize=9, color=INK)
        axes[i, 0].set_ylabel(name, fontsize=9, color=INK)
        bar = figure.colorbar(shown, ax=axes[i, :], fraction=0.02, pad=0.01, aspect=12)
        bar.ax.tick_params(labelsize=7)
        bar.outline.set_visible(False)
    _scale_bar(axes[0, 0], density, mean.shape[-1])
    return figure


def _rigid_slices(run: Run, density: Density) -> Figure:
    """Central slices across the three axes: mean, and sd on the same scale."""
    keep = crop(run, density)
    mean, sd = density.mean[0][keep, keep, keep], density.sd[0][keep, keep, keep]
    n = len(mean)
    figure = new_figure(7.0, 4.6, tight=True)
    axes = figure.subplots(2, 3)
    low, high = _limits(mean)
    for row, (label, volume) in enumerate((("mean", mean), ("sd", sd))):
        bottom, top = (low, high) if row == 0 else (0.0, high - min(low, 0.0))
        for column, (name, axis) in enumerate(_VIEWS):
            ax = axes[row, column]
            shown = ax.imshow(
                np.take(volume, n // 2, axis=axis),
                cmap="gray",
                vmin=bottom,
                vmax=top,
                origin="lower",
                interpolation="bicubic",
            )
            no_ticks(ax)
            if row == 0:
                ax.set_title(f"across {name}, centre", fontsize=9, color=INK)
        axes[row, 0].set_ylabel(label, fontsize=9, color=INK)
        bar = figure.colorbar(shown, ax=axes[row, :], fraction=0.03, pad=0.01)
        bar.ax.tick_params(labelsize=7)
    _scale_bar(axes[0, 0], density, n)
    return figure


def movie_gif(run: Run, density: Density) -> bytes | None:
    """Projections along z, y and x turning through the states; None for a rigid molecule.

    A circle is run through once, an interval there and back. The bar below shows the state.
    """
    if len(density.states) < 2:
        return None
    keep = crop(run, density)
    states, volumes = film(run, density, _GIF_STATES)
    volumes = volumes[:, keep, keep, keep]
    views = [volumes.sum(axis=1 + axis) for _, axis in _VIEWS]
    low, high = _limits(np.stack(views))
    frames = []
    for i in range(len(states)):
        row = np.concatenate([view[i][::-1] for view in views], axis=1)
        grey = np.uint8(np.clip((row - low) / (high - low), 0.0, 1.0) * 255.0)
        picture = Image.fromarray(grey).resize(
            (_GIF_SIDE * len(views), _GIF_SIDE), Image.Resampling.BICUBIC
        )
        frames.append(_with_bar(picture, float(np.squeeze(states[i, 0]))))
    if run.info["state_space"] != "circle":
        frames += frames[-2:0:-1]
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=_GIF_MILLISECONDS,
        loop=0,
    )
    return buffer.getvalue()


def _with_bar(picture: Image.Image, state: float) -> Image.Image:
    """Add a strip below with a marker at the state."""
    strip = np.full((12, picture.width), 40, np.uint8)
    place = int(np.clip(state, 0.0, 1.0) * (picture.width - 12))
    strip[2:10, place : place + 12] = 235
    return Image.fromarray(np.concatenate([np.asarray(picture), strip], axis=0))
