"""STAR blocks as tables of text, and the columns of a particle table as numbers.

Every value is kept as the text that the file has, so that what is not changed is written back
as it was.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hypermol.io.errors import InputError
from hypermol.io.star_text import parse_star

IMAGE_NAME = "rlnImageName"
OPTICS_GROUP = "rlnOpticsGroup"
_OTHER_BLOCKS = "optics"


def read_blocks(path: Path) -> dict[str, Any]:
    """Blocks of a STAR file by name: loops as DataFrames of text, others as dicts of text."""
    if not path.is_file():
        raise InputError(f"{path} does not exist: check the path")
    try:
        blocks = parse_star(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} cannot be read as a STAR file ({reason}): check that every row has one value "
            "for each column"
        ) from error
    if not blocks:
        raise InputError(f"{path} has no data_ block: give a RELION particle STAR file")
    return dict(blocks)


def find_particles(path: Path, blocks: dict[str, Any]) -> str:
    """Name of the block that lists the particles: the one with rlnImageName."""
    with_images = [n for n, b in blocks.items() if n != _OTHER_BLOCKS and IMAGE_NAME in b]
    if "particles" in with_images:
        return "particles"
    if not with_images:
        raise InputError(
            f"{path} has no column {IMAGE_NAME} in any block: give the particle STAR file of an "
            "extraction or refinement job"
        )
    if len(with_images) > 1:
        names = ", ".join(f"data_{name}" for name in with_images)
        raise InputError(
            f"{path} lists images in several blocks ({names}): name the one to use data_particles"
        )
    return with_images[0]


def as_frame(block: Any) -> pd.DataFrame:
    """A block as a DataFrame; a block without a loop has one row."""
    if isinstance(block, pd.DataFrame):
        return block
    return pd.DataFrame({name: [value] for name, value in block.items()}, dtype=str)


class ParticleColumns:
    """Columns of N particles, each taken from the particle block or from the optics block.

    The particle block wins where both have a column. Values of the optics block go to particles
    by rlnOpticsGroup.
    """

    def __init__(self, path: Path, particles: pd.DataFrame, optics: pd.DataFrame | None) -> None:
        self.path = path
        self._particles = particles
        self._optics = optics
        self.groups, self._optics_rows = self._match_groups()

    def __len__(self) -> int:
        return len(self._particles)

    def has(self, name: str) -> bool:
        """Whether either block has the column."""
        return name in self._particles or (self._optics is not None and name in self._optics)

    @property
    def names(self) -> list[str]:
        """Names of all columns, of the particle block first."""
        optics = [] if self._optics is None else list(self._optics)
        return list(dict.fromkeys([*self._particles, *optics]))

    def in_both_blocks(self) -> list[str]:
        """Names of columns that the optics block has too, the group's number left out."""
        if self._optics is None:
            return []
        return [n for n in self._particles if n in self._optics and n != OPTICS_GROUP]

    def both(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Values as str [N] of the particle block and of the optics block, of one column."""
        assert self._optics is not None
        optics = self._optics[name].to_numpy(dtype=object)[self._optics_rows]
        return self._particles[name].to_numpy(dtype=object), optics

    def text(self, name: str) -> np.ndarray:
        """Values as str [N] of a column that `has` is true for."""
        if name in self._particles:
            return self._particles[name].to_numpy(dtype=object)
        assert self._optics is not None
        return self._optics[name].to_numpy(dtype=object)[self._optics_rows]

    def numbers(self, name: str, purpose: str, remedy: str) -> np.ndarray:
        """Values as float64 [N].

        Raises:
            InputError: no such column (the message gives purpose and remedy), or a value that
                is not a finite number.
        """
        if not self.has(name):
            raise InputError(f"{self.path} has no column {name} ({purpose}): {remedy}")
        return self._to_numbers(name, self.text(name))

    def numbers_or(self, name: str, default: float | np.ndarray) -> np.ndarray:
        """Values as float64 [N], `default` where neither block has the column."""
        if not self.has(name):
            return np.broadcast_to(np.asarray(default, dtype=np.float64), (len(self),)).copy()
        return self._to_numbers(name, self.text(name))

    def first_present(self, names: Sequence[str]) -> str | None:
        """The first of `names` that there is a column for."""
        return next((name for name in names if self.has(name)), None)

    def _to_numbers(self, name: str, values: np.ndarray) -> np.ndarray:
        numbers = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=np.float64)
        bad = np.flatnonzero(~np.isfinite(numbers))
        if len(bad):
            raise InputError(
                f"{self.path} row {bad[0] + 1}: {name} is {values[bad[0]]!r}, not a finite "
                f"number ({len(bad)} such rows): correct or remove them"
            )
        return numbers

    def _match_groups(self) -> tuple[np.ndarray, np.ndarray]:
        """rlnOpticsGroup int64 [N] and the row of each in the optics block."""
        n = len(self._particles)
        known = self._known_groups()
        if OPTICS_GROUP in self._particles:
            groups = self._integers(self._particles)
        elif known is None or len(known) == 1:
            groups = np.full(n, 1 if known is None else known[0])
        else:
            raise InputError(
                f"{self.path} has {len(known)} optics groups but no column {OPTICS_GROUP} beside "
                f"{IMAGE_NAME}, so that no particle's group is known: add the column, or leave one "
                "row in data_optics"
            )
        if known is None:
            return groups, np.zeros(n, dtype=np.int64)
        order = np.argsort(known)
        place = np.clip(np.searchsorted(known[order], groups), 0, len(known) - 1)
        rows = order[place]
        lost = np.flatnonzero(known[rows] != groups)
        if len(lost):
            raise InputError(
                f"{self.path} row {lost[0] + 1}: optics group {groups[lost[0]]} is not in the "
                "data_optics block: add it there or correct the row"
            )
        return groups, rows

    def _known_groups(self) -> np.ndarray | None:
        """Numbers of the optics block's rows, each once; None without a block."""
        if self._optics is None:
            return None
        if len(self._optics) == 0:
            raise InputError(f"{self.path} has no row in data_optics: add one, or remove the block")
        if OPTICS_GROUP not in self._optics:
            if len(self._optics) > 1:
                raise InputError(
                    f"{self.path} has {len(self._optics)} rows but no {OPTICS_GROUP} in "
                    "data_optics: add the column"
                )
            return np.ones(1, dtype=np.int64)
        known = self._integers(self._optics)
        numbers, counts = np.unique(known, return_counts=True)
        if np.any(counts > 1):
            raise InputError(
                f"{self.path} has optics group {numbers[np.argmax(counts > 1)]} more than once in "
                "data_optics: leave one row a group"
            )
        return known

    def _integers(self, block: pd.DataFrame) -> np.ndarray:
        text = block[OPTICS_GROUP].to_numpy(dtype=object)
        numbers = self._to_numbers(OPTICS_GROUP, text)
        broken = np.flatnonzero(numbers != np.rint(numbers))
        if len(broken):
            raise InputError(
                f"{self.path} row {broken[0] + 1}: {OPTICS_GROUP} is {text[broken[0]]}: give an "
                "integer"
            )
        return numbers.astype(np.int64)
