"""The truth of a simulated data set: our own truth folder, or all files in one folder.

Two layouts are read (see `simulate/write.py`): `truth.star`, `truth.npz` and `truth_maps.npz` in
`<data>/truth/`, or beside the particles. Maps without a parameter of their own (`tau`) are taken
as equal bins of [0, 1].
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, final

import numpy as np

from hypermol.analysis.knobs import Kind, Knob
from hypermol.analysis.states import Topology
from hypermol.io.errors import InputError
from hypermol.io.metadata import ParticleMetadata
from hypermol.io.star import read_particles_star
from hypermol.io.store import read_npz

_FILES = ("truth.star", "truth.npz", "truth_maps.npz")
_SIZE_TOLERANCE = 1e-3


@final
@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of N particles.

    Attributes:
        folder: where it was read.
        metadata: N particles with their true poses.
        rotations: [N, 3, 3], molecule to microscope.
        shifts_angstrom: [N, 2] (x, y).
        states: [N, d] true states.
        frame: int [N], the truth map of each particle.
        intensity: [N] contrast times the image's scale over its mean: what a fit sees as contrast.
        maps: float16 or float32 [F, n, n, n].
        map_states: [F, d] parameters of the maps.
        pixel_size_angstrom: of the maps.
        topology: "circle" or "interval"; None where the files do not say.
        knobs: the state variables; intervals where the files do not say.
    """

    folder: Path
    metadata: ParticleMetadata
    rotations: np.ndarray
    shifts_angstrom: np.ndarray
    states: np.ndarray
    frame: np.ndarray
    intensity: np.ndarray
    maps: np.ndarray
    map_states: np.ndarray
    pixel_size_angstrom: float
    topology: Topology | None
    knobs: tuple[Knob, ...]

    def __len__(self) -> int:
        return len(self.rotations)

    @property
    def dim(self) -> int:
        """Number of state variables."""
        return self.states.shape[1]

    def take(self, rows: np.ndarray) -> "Truth":
        """The particles `rows`, in that order; the maps stay."""
        chosen = ("rotations", "shifts_angstrom", "states", "frame", "intensity")
        taken = {name: getattr(self, name)[rows] for name in chosen}
        return replace(self, metadata=self.metadata.take(rows), **taken)

    def mean_map(self) -> np.ndarray:
        """float32 [n, n, n]: the mean of the particles' maps."""
        counts = np.bincount(self.frame, minlength=len(self.maps)) / len(self)
        used = np.flatnonzero(counts)
        total = np.zeros(self.maps.shape[1:])
        for frame in used:
            total += counts[frame] * self.maps[frame].astype(np.float64)
        return total.astype(np.float32)


def load_truth(folder: str | Path) -> Truth:
    """Read a truth folder.

    Args:
        folder: the folder of truth.star, or the data folder whose `truth/` holds it.

    Raises:
        InputError: a file is missing, unreadable, or does not fit the others.
    """
    folder = Path(folder)
    if not (folder / _FILES[0]).is_file() and (folder / "truth" / _FILES[0]).is_file():
        folder = folder / "truth"
    for name in _FILES:
        if not (folder / name).is_file():
            raise InputError(
                f"{folder} has no {name}: give the truth folder of `hypermol simulate`, or a "
                f"folder with {', '.join(_FILES)}"
            )
    return _read(folder)


def _read(folder: Path) -> Truth:
    """The truth in a folder that has its three files."""
    metadata = read_particles_star(folder / _FILES[0], allow_missing=("ctf",))
    latents, stored = (read_npz(folder / name, "write the truth again") for name in _FILES[1:])
    for name, source, path in (("t", latents, _FILES[1]), ("maps", stored, _FILES[2])):
        if name not in source:
            raise InputError(f"{folder / path} has no array {name}: write the truth again")
    n, maps = len(metadata), stored["maps"]
    if maps.ndim != 4 or len(set(maps.shape[1:])) != 1:
        raise InputError(f"{folder / _FILES[2]}: maps have shape {maps.shape}: give [F, n, n, n]")
    states = np.asarray(latents["t"], np.float64).reshape(len(latents["t"]), -1)
    frame = latents.get("frame")
    if frame is not None and not (np.min(frame) >= 0 and np.max(frame) < len(maps)):
        raise InputError(
            f"{folder / _FILES[1]}: frame names a map beyond the {len(maps)} of "
            f"{folder / _FILES[2]}: give files of one data set"
        )
    map_states = stored["tau"] if "tau" in stored else _bin_states(states, frame, len(maps))
    if frame is None:
        frame = _nearest(states, map_states)
    for name, values in (("t", states), ("frame", frame)):
        if len(values) != n:
            raise InputError(
                f"{folder / _FILES[1]}: {name} has {len(values)} entries for the {n} particles of "
                f"{folder / _FILES[0]}: write the truth again"
            )
    intensity = np.asarray(latents.get("contrast", np.ones(n))) * latents.get("scale", 1.0)
    return Truth(
        folder,
        metadata,
        metadata.rotations,
        metadata.shifts_angstrom,
        states,
        np.asarray(frame, np.intp),
        np.asarray(intensity / np.mean(intensity), np.float64),
        maps,
        np.asarray(map_states, np.float64).reshape(len(maps), -1),
        float(stored.get("apix", metadata.pixel_size_angstrom)),
        _topology(latents),
        _knobs(latents, states.shape[1]),
    )


def match_particles(truth: Truth, metadata: ParticleMetadata) -> Truth:
    """The truth of a run's particles, in the run's order, matched by stack and number in it.

    Raises:
        InputError: a particle of the run is not in the truth, or cannot be told from another.
    """
    wanted, known = _paths(metadata), _paths(truth.metadata)
    if not set(wanted) <= set(known):  # one of them was copied: stacks are told by their names
        wanted, known = _names(metadata), _names(truth.metadata)
        _refuse_twins(metadata, truth)
    places = {key: place for place, key in enumerate(known)}
    if len(places) < len(known):
        raise InputError(
            f"{truth.folder / _FILES[0]} names an image twice: give a truth with one row an image"
        )
    lost = [row for row, key in enumerate(wanted) if key not in places]
    if lost:
        number, name = wanted[lost[0]][1] + 1, wanted[lost[0]][0]
        raise InputError(
            f"image {number}@{name} of the run is not in {truth.folder / _FILES[0]} ({len(lost)} "
            "such images): give the truth of the same data set"
        )
    return truth.take(np.array([places[key] for key in wanted]))


def _refuse_twins(metadata: ParticleMetadata, truth: Truth) -> None:
    """Refuse stacks of one name in several folders, which a name alone does not tell apart."""
    for particles, of in ((metadata, "the run"), (truth.metadata, truth.folder / _FILES[0])):
        paths = sorted(set(particles.stack_paths.tolist()))
        names = [Path(stack).name for stack in paths]
        twins = [path for path, name in zip(paths, names, strict=True) if names.count(name) > 1]
        if twins:
            raise InputError(
                f"{of} has several stacks called {Path(twins[0]).name} ({twins[0]}, {twins[1]}) "
                "and they lie elsewhere than the truth's: put the truth beside the data that the "
                "run read"
            )


def check_fits(truth: Truth, box: int, pixel_size_angstrom: float) -> None:
    """Refuse truth maps on another grid than the run's.

    Raises:
        InputError: box or pixel size differ.
    """
    n, size = truth.maps.shape[-1], truth.pixel_size_angstrom
    if n != box or abs(size - pixel_size_angstrom) > _SIZE_TOLERANCE * size:
        raise InputError(
            f"{truth.folder / _FILES[2]} has maps of {n} voxels of {size:g} Angstrom, the run "
            f"images of {box} pixels of {pixel_size_angstrom:g}: give the truth of the same data"
        )


def _paths(metadata: ParticleMetadata) -> list[tuple[str, int]]:
    """Stack and number in it of every image."""
    return list(zip(metadata.stack_paths.tolist(), metadata.stack_indices.tolist(), strict=True))


def _names(metadata: ParticleMetadata) -> list[tuple[str, int]]:
    """Name of the stack, without its folder, and number in it of every image."""
    return [(Path(stack).name, place) for stack, place in _paths(metadata)]


def _bin_states(states: np.ndarray, frame: np.ndarray | None, n_maps: int) -> np.ndarray:
    """Parameters [F, 1] of maps that come without: bin centres, or an even line with both ends."""
    centres = (np.arange(n_maps) + 0.5) / n_maps
    line = np.linspace(0.0, 1.0, n_maps)
    if frame is None:
        return centres[:, None]
    errors = [np.abs(states[:, 0] - choice[frame]).mean() for choice in (centres, line)]
    return (centres if errors[0] <= errors[1] else line)[:, None]


def _nearest(states: np.ndarray, map_states: np.ndarray) -> np.ndarray:
    """Index [N] of the map nearest to each state."""
    return (
        ((states[:, None] - np.reshape(map_states, (len(map_states), -1))) ** 2).sum(-1).argmin(1)
    )


def _topology(latents: dict[str, np.ndarray]) -> Topology | None:
    if "space" not in latents:
        return None
    return "circle" if str(latents["space"]) == "circle" else "interval"


def _labels(n: int) -> tuple[str, ...]:
    return tuple(str(number + 1) for number in range(n))


def _knobs(latents: dict[str, np.ndarray], dim: int) -> tuple[Knob, ...]:
    """What truth.npz says of each state variable."""
    plain = ["state"] if dim == 1 else [f"state_{column + 1}" for column in range(dim)]
    names = [str(name) for name in latents.get("state_names", plain)]
    kinds = latents.get("state_kinds", np.full(dim, _topology(latents) or "interval"))
    counts = latents.get("state_classes", np.zeros(dim, int))
    return tuple(
        Knob(names[column], column, cast(Kind, str(kinds[column])), _labels(int(counts[column])))
        for column in range(dim)
    )
