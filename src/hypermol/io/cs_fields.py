"""Fields of cryoSPARC .cs files by name, of a file and its passthrough files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hypermol.io.errors import InputError


class CsFields:
    """Fields of N particles, from the file or else from its passthrough files.

    Attributes:
        path: of the file.
        tables: rows [N] of the file and of each passthrough file, in the file's order.
    """

    def __init__(self, path: Path, passthrough: Sequence[str | Path]) -> None:
        self.path = path
        main = _load(path)
        self.tables = [main, *(_match_uids(path, main, Path(other)) for other in passthrough)]

    def __len__(self) -> int:
        return len(self.tables[0])

    @property
    def names(self) -> list[str]:
        """Names of all fields."""
        return list(dict.fromkeys(name for table in self.tables for name in _names(table)))

    def has(self, name: str) -> bool:
        """Whether any of the files has the field."""
        return any(name in _names(table) for table in self.tables)

    def get(self, name: str) -> np.ndarray:
        """Values as stored.

        Raises:
            InputError: no file has the field.
        """
        for table in self.tables:
            if name in _names(table):
                return table[name]
        also = " and its passthrough" if len(self.tables) > 1 else ""
        raise InputError(f"{self.path}{also} has no field {name}: {_remedy(name, self.names)}")

    def text(self, name: str) -> np.ndarray:
        """Values as str [N]; cryoSPARC marks linked paths with a leading '>'."""
        values = self.get(name)
        decoded = np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
        return np.char.lstrip(decoded.astype(str), ">")

    def numbers(self, name: str) -> np.ndarray:
        """Values as float64 [N, ...], all finite."""
        values = self.get(name).astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
        if len(bad):
            raise InputError(
                f"{self.path} row {bad[0] + 1}: {name} is not finite ({len(bad)} such rows): "
                "remove these particles"
            )
        return values

    def numbers_or(self, name: str, default: float | np.ndarray) -> np.ndarray:
        """Values as float64 [N], `default` where neither file has the field."""
        if self.has(name):
            return self.numbers(name)
        return np.broadcast_to(np.asarray(default, dtype=np.float64), (len(self),)).copy()


def _names(array: np.ndarray) -> tuple[str, ...]:
    return array.dtype.names or ()


def _load(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"{path} does not exist: check the path")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(
            f"{path} cannot be read as a cryoSPARC .cs file ({error}): export it again"
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.names is None or array.ndim != 1:
        raise InputError(
            f"{path} is not a table of particles: give the particles .cs file of a job"
        )
    if len(array) == 0:
        raise InputError(f"{path} lists no particles: give a file with at least one row")
    return array


def _match_uids(path: Path, main: np.ndarray, other_path: Path) -> np.ndarray:
    """Rows of the passthrough file in the order of the main file's uids."""
    other = _load(other_path)
    for name, array in ((path, main), (other_path, other)):
        if "uid" not in _names(array):
            raise InputError(f"{name} has no field uid: give .cs files of one cryoSPARC job")
    order = np.argsort(other["uid"])
    place = np.searchsorted(other["uid"][order], main["uid"])
    rows = order[np.clip(place, 0, len(other) - 1)]
    lost = np.flatnonzero(other["uid"][rows] != main["uid"])
    if len(lost):
        raise InputError(
            f"{path} row {lost[0] + 1}: its uid is not in {other_path} ({len(lost)} such rows): "
            "give the passthrough file of the same job"
        )
    return other[rows]


def _remedy(name: str, present: list[str]) -> str:
    """What to do about a field that no file has."""
    if name.startswith("alignments3D/"):
        for other in ("alignments3D_multi/pose", "alignments2D/pose"):
            if other in present:
                return (
                    f"its poses are {other.partition('/')[0]}, of a classification: give the "
                    "particles of a homogeneous or non-uniform refinement"
                )
    return (
        "give the job's passthrough file too, with --passthrough, or the particles of a refinement"
    )
