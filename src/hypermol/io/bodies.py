"""RELION's body definitions: the STAR file of a multi-body refinement (Nakane et al. 2018).

One row a body: its soft mask, the body that it rotates relative to, and the widths of the priors
of its rotation and offset. `rlnBodySigmaOffset` is in pixels, `rlnBodySigmaOffsetAngst` (3.1 and
later) in Angstrom.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from hypermol.io.errors import InputError
from hypermol.io.image_paths import find_stack
from hypermol.io.star_tables import ParticleColumns, as_frame, read_blocks

MASK = "rlnBodyMaskName"
RELATIVE_TO = "rlnBodyRotateRelativeTo"
REFERENCE = "rlnBodyReferenceName"
BODY_FILE = "rlnBodyStarFile"
SIGMA_ANGLES = "rlnBodySigmaAngles"
SIGMA_EULER = ("rlnBodySigmaTilt", "rlnBodySigmaPsi")
SIGMA_OFFSET_PX, SIGMA_OFFSET_ANGSTROM = "rlnBodySigmaOffset", "rlnBodySigmaOffsetAngst"
#: Widths below this hold a body where it is, in degrees, pixels or Angstrom: RELION's own rule.
_HELD_BELOW = 1e-3


@final
@dataclass(frozen=True)
class Body:
    """A row of the file.

    Attributes:
        mask: path of its soft mask.
        relative_to: row, from 0, of the body whose centre its tilt axis points to; None for none.
        rotation_sd_deg: width of the prior of its rotation.
        offset_sd: width of the prior of its offset, in pixels or Angstrom.
        offset_in_angstrom: which of the two.
        reference: path of a map to start from; None takes the consensus.
    """

    mask: Path
    relative_to: int | None
    rotation_sd_deg: float
    offset_sd: float
    offset_in_angstrom: bool
    reference: Path | None

    @property
    def held(self) -> bool:
        """Whether both widths are zero, so that the body stays at the consensus."""
        return max(self.rotation_sd_deg, self.offset_sd) < _HELD_BELOW

    def offset_sd_angstrom(self, pixel_size_angstrom: float) -> float:
        """Width of the prior of its offset in Angstrom."""
        return self.offset_sd * (1.0 if self.offset_in_angstrom else pixel_size_angstrom)


def read_bodies(path: str | Path) -> tuple[Body, ...]:
    """Read a body STAR file, or the one that an optimiser file names as rlnBodyStarFile.

    Files are looked for beside the STAR file, then in the folders above it, then in the working
    directory, as RELION's are relative to its project folder.

    Raises:
        InputError: naming file, row and column, and the remedy.
    """
    path = Path(path)
    blocks = read_blocks(path)
    table = _find(path, blocks)
    if table is None:
        return read_bodies(_named_file(path, blocks))
    columns = ParticleColumns(path, table, None)
    n = len(columns)
    if n < 2:
        raise InputError(f"{path} lists {n} body: give at least two rows, one a body")
    angles = _angles(columns)
    in_angstrom = columns.has(SIGMA_OFFSET_ANGSTROM)
    name = SIGMA_OFFSET_ANGSTROM if in_angstrom else SIGMA_OFFSET_PX
    offsets = columns.numbers(
        name,
        "width of the prior of a body's offset, in pixels",
        f"add it, 2 for most bodies (or {SIGMA_OFFSET_ANGSTROM} in Angstrom)",
    )
    for column, values in ((SIGMA_ANGLES, angles), (name, offsets)):
        if np.any(values < 0.0):
            row = int(np.argmax(values < 0.0))
            raise InputError(
                f"{path} row {row + 1}: {column} is {values[row]:g}: give a width, 0 to hold the "
                "body where it is"
            )
    relative = _relative_to(columns)
    return tuple(
        Body(
            _file(columns, MASK, row),
            relative[row],
            float(angles[row]),
            float(offsets[row]),
            in_angstrom,
            _reference(columns, row),
        )
        for row in range(n)
    )


def _find(path: Path, blocks: dict[str, Any]) -> Any:
    """The block with the masks as a DataFrame, or None where the file names another."""
    found = [block for block in blocks.values() if MASK in block]
    if found:
        return as_frame(found[0])
    if any(BODY_FILE in block for block in blocks.values()):
        return None
    raise InputError(
        f"{path} has no column {MASK}: give the body STAR file of a multi-body refinement, with "
        f"{MASK}, {RELATIVE_TO}, {SIGMA_ANGLES} and {SIGMA_OFFSET_PX}"
    )


def _named_file(path: Path, blocks: dict[str, Any]) -> Path:
    name = next(str(as_frame(b)[BODY_FILE][0]) for b in blocks.values() if BODY_FILE in b)
    named = find_stack(name, path)
    if name.lower() == "none" or not named.is_file() or named == path.absolute():
        raise InputError(
            f"{path}: {BODY_FILE} is {name!r}, which is no file: give the body STAR file itself"
        )
    return named


def _angles(columns: ParticleColumns) -> np.ndarray:
    """float64 [n]: rlnBodySigmaAngles, or the larger of the widths of tilt and psi."""
    if not columns.has(SIGMA_ANGLES) and all(columns.has(name) for name in SIGMA_EULER):
        return np.maximum(*(columns.numbers(name, "", "") for name in SIGMA_EULER))
    return columns.numbers(
        SIGMA_ANGLES, "width of the prior of a body's rotation, in degrees", "add it, 10 for most"
    )


def _relative_to(columns: ParticleColumns) -> list[int | None]:
    if not columns.has(RELATIVE_TO):
        return [None] * len(columns)
    found: list[int | None] = []
    for row, value in enumerate(columns.numbers(RELATIVE_TO, "", "")):
        number = int(value)
        if number != value or number > len(columns) or number == row + 1:
            raise InputError(
                f"{columns.path} row {row + 1}: {RELATIVE_TO} is {value:g}: give the number of "
                f"another body, 1 to {len(columns)}, or -1 for none"
            )
        found.append(number - 1 if number > 0 else None)
    return found


def _file(columns: ParticleColumns, name: str, row: int) -> Path:
    text = str(columns.text(name)[row])
    path = find_stack(text, columns.path)
    if not path.is_file():
        raise InputError(
            f"{columns.path} row {row + 1}: {name} is {text!r}, which is neither beside the file "
            "nor in a folder above it: correct the name or copy the file there"
        )
    return path


def _reference(columns: ParticleColumns, row: int) -> Path | None:
    if not columns.has(REFERENCE) or str(columns.text(REFERENCE)[row]).lower() == "none":
        return None
    return _file(columns, REFERENCE, row)
