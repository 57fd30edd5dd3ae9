"""Volumes, movies and particles of a run at chosen states, in other programs' formats."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from hypermol.analysis.chains import knob_names, run_knobs
from hypermol.analysis.knobs import Knob
from hypermol.analysis.particle_summary import summarise_particles
from hypermol.analysis.run import Run
from hypermol.analysis.summary import (
    Selection,
    from_cryosparc,
    write_cryosparc,
    write_csv,
    write_particles,
)
from hypermol.analysis.volumes import mean_state_volumes, sample_volumes, state_volumes
from hypermol.io.atomic import make_folder, replacing, write_text
from hypermol.io.errors import InputError
from hypermol.io.mrc import write_volume

_PANEL_PX = 192
_CAPTION_PX = 18
_FRAME_MS = 90
#: Surface shown by the ChimeraX script: this many sds of the mean map above zero.
_LEVEL_SDS = 3.0


def export_at(run: Run, state: np.ndarray, folder: Path, sample: int | None = None) -> list[Path]:
    """MRC files of one state: mean and sd over samples, or one sample.

    Args:
        run: with samples.
        state: [dim].
        folder: made if missing.
        sample: posterior sample, counted over chains in order from 0.
    """
    make_folder(folder)
    size = run.info["pixel_size_angstrom"]
    named = zip(knob_names(run), state, strict=False)
    stem = "_".join(f"{name}_{value:.3f}" for name, value in named) or "rigid"
    if sample is not None:
        path = folder / f"{stem}_sample_{sample:04d}.mrc"
        write_volume(path, sample_volumes(run, state[None], sample)[0], size)
        return [path]
    volumes = state_volumes(run, state[None])
    written = []
    for kind, data in (("mean", volumes.mean[0]), ("sd", volumes.sd[0])):
        written.append(folder / f"{stem}_{kind}.mrc")
        write_volume(written[-1], data, size)
    return written


class Walk(NamedTuple):
    """The states that a series or a movie runs through.

    Attributes:
        knob: that moves; None for a rigid molecule.
        held: state [dim] at which the other knobs stay.
        steps: states; classes have all of theirs whatever it says.
    """

    knob: Knob | None
    held: np.ndarray
    steps: int

    def states(self) -> np.ndarray:
        """[T, dim]: both ends and evenly between on an interval, once round a circle, each class.

        Raises:
            InputError: fewer than one.
        """
        if self.steps < 1:
            raise InputError(f"--series {self.steps}: give at least 1")
        if self.knob is None:
            return np.zeros((1, 0))
        if self.knob.kind == "classes":
            n = len(self.knob.labels)
            line = (np.arange(n) + 0.5) / n
        elif self.knob.kind == "circle":
            line = np.arange(self.steps) / self.steps
        else:
            line = np.linspace(0.0, 1.0, self.steps)
        found = np.tile(self.held, (len(line), 1))
        found[:, self.knob.column] = line
        return found


def middle_state(run: Run) -> np.ndarray:
    """[dim]: the middle of every interval and circle, the first of classes, 0 on a line."""
    first = {"interval": 0.5, "circle": 0.5, "line": 0.0}
    knobs = run_knobs(run)
    return np.array([first[k.kind] if k.kind in first else 0.5 / len(k.labels) for k in knobs])


def export_series(run: Run, walk: Walk, folder: Path, sample: int | None = None) -> list[Path]:
    """MRC files series_000.mrc, ... along a knob, series.csv, and series.cxc for ChimeraX."""
    states = walk.states()
    volumes = _series(run, states, sample)
    make_folder(folder)
    names = [f"series_{place:03d}.mrc" for place in range(len(states))]
    for name, volume in zip(names, volumes, strict=True):
        write_volume(folder / name, volume, run.info["pixel_size_angstrom"])
    rows = [[n, *map(float, s)] if len(s) else [n, ""] for n, s in zip(names, states, strict=True)]
    write_csv(folder / "series.csv", ["volume", *knob_names(run)], rows)
    script = folder / "series.cxc"
    write_text(script, chimerax_script(names, _surface_level(volumes)))
    return [*(folder / name for name in names), folder / "series.csv", script]


def _series(run: Run, states: np.ndarray, sample: int | None) -> np.ndarray:
    if sample is not None:
        return sample_volumes(run, states, sample)
    return mean_state_volumes(run, states)


def _surface_level(volumes: np.ndarray) -> float:
    return float(_LEVEL_SDS * volumes.std())


def chimerax_script(names: list[str], level: float) -> str:
    """A ChimeraX command file that opens the maps beside it as a volume series."""
    quoted = " ".join(f'"{name}"' for name in names)
    lines = [
        "# open this file with ChimeraX: chimerax series.cxc",
        f"open {quoted} vseries true",
        f"volume #1 level {level:.6g} step 1",
        "view",
        "vseries play #1 loop true",
    ]
    return "\n".join(lines) + "\n"


def export_movie(run: Run, path: Path, walk: Walk) -> Path:
    """A looping GIF: projections along x, y, z above, central slices below, one frame a state.

    An interval is played forth and back; a circle round and round. Grey levels are shared by all
    frames, separately for projections and slices.

    Raises:
        InputError: the name does not end in .gif, or the molecule is rigid.
    """
    if path.suffix.lower() != ".gif":
        raise InputError(f"--movie {path}: give a name that ends in .gif")
    if walk.knob is None:
        raise InputError(f"{run.directory.path} is a rigid fit (one state): nothing moves")
    knob = walk.knob
    states = walk._replace(steps=max(walk.steps, 2)).states()
    volumes = mean_state_volumes(run, states)
    projections = np.stack([[v.sum(axis=axis) for axis in (2, 1, 0)] for v in volumes])
    middle = volumes.shape[-1] // 2
    slices = np.stack([[np.take(v, middle, axis=axis) for axis in (2, 1, 0)] for v in volumes])
    rows = np.stack([_grey(projections), _grey(slices)], axis=1)
    frames = [
        _frame(panels, f"{knob.name} = {state[knob.column]:.2f}")
        for panels, state in zip(rows, states, strict=True)
    ]
    if knob.kind != "circle":
        frames += frames[-2:0:-1]
    make_folder(path.parent)
    with replacing(path) as partial:
        frames[0].save(
            partial,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=_FRAME_MS,
            loop=0,
        )
    return path


def _grey(images: np.ndarray) -> np.ndarray:
    """uint8 RGB [T, 3, n, n, 3] of images [T, 3, n, n], one scale for all."""
    from matplotlib import colormaps  # noqa: PLC0415 - whoever fits need not hold it

    low, high = np.quantile(images, [0.01, 0.999])
    scaled = np.clip((images - low) / max(high - low, 1e-30), 0.0, 1.0)
    return (255 * colormaps["magma"](scaled)[..., :3]).astype(np.uint8)


def _frame(panels: np.ndarray, caption: str) -> Image.Image:
    """One frame of panels uint8 [2, 3, n, n, 3], with its caption."""
    frame = Image.new("RGB", (3 * _PANEL_PX, 2 * _PANEL_PX + _CAPTION_PX))
    for row in range(2):
        for column in range(3):
            panel = Image.fromarray(panels[row, column]).resize((_PANEL_PX, _PANEL_PX))
            frame.paste(panel, (column * _PANEL_PX, row * _PANEL_PX))
    draw = ImageDraw.Draw(frame)
    draw.text((4, 2 * _PANEL_PX + 3), caption, fill=(255, 255, 255))
    return frame


class ParticleFiles(NamedTuple):
    """Files that particles of a state go to.

    Attributes:
        star: a STAR file for RELION, or None.
        cs: a .cs file for cryoSPARC, or None.
        image_dir: folder where the stacks are now, if they have moved since the fit.
    """

    star: Path | None = None
    cs: Path | None = None
    image_dir: Path | None = None


def export_particles(
    run: Run, knob: Knob | None, span: tuple[float, float], files: ParticleFiles
) -> tuple[int, list[Path]]:
    """Write the particles whose posterior mean state of a knob lies in [low, high).

    The upper end of an interval, 1, belongs to the last range; on a circle a range with low above
    high runs through the cut.

    Returns:
        Number of particles, and the files written.

    Raises:
        InputError: a rigid molecule, no particle in the range, or what the writers refuse.
    """
    if knob is None:
        raise InputError(f"{run.directory.path} is a rigid fit (one state): nothing to select by")
    states = summarise_particles(run).state[:, knob.column]
    low, high = span
    above, below = states >= low, (states < high) | (high >= 1.0)
    keep = (above & below) if low < high else (above | below)
    if not keep.any():
        raise InputError(
            f"--where {low:g}:{high:g} selects no particles: their mean states run from "
            f"{states.min():.3f} to {states.max():.3f}"
        )
    if files.cs is not None and not from_cryosparc(run):
        raise InputError(
            f"--cs: {run.directory.path} was made of {run.info['particles']}, which is no "
            "cryoSPARC file: give --star"
        )
    selection, written = Selection(keep, files.image_dir), []
    if files.star is not None:
        make_folder(files.star.parent)
        written.append(write_particles(run, files.star, selection))
    if files.cs is not None:
        make_folder(files.cs.parent)
        written += write_cryosparc(run, files.cs, selection)
    return int(keep.sum()), written
