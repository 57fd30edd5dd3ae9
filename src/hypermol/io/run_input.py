"""The particles that a run was made of, kept in the run: input.npz.

The particle file that the user gave may be sorted, filtered, moved or deleted after the fit. What
is written and compared later therefore comes from this copy, whose rows are those of the samples.

Arrays of `ParticleMetadata` are entries under their own names, CTF parameters `ctf.NAME`, columns
of the table `table/BLOCK/COLUMN`, cryoSPARC's rows `table/BLOCK`; text is UTF-8, each value ended
by a zero byte; `rest` is everything else as JSON.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hypermol.io.errors import InputError
from hypermol.io.metadata import CtfParameters, ParticleMetadata
from hypermol.io.store import Arrays, RunDirectory, write_npz

NAME = "input.npz"
_ENTRIES = "table/"


def keep_input(directory: RunDirectory, metadata: ParticleMetadata) -> None:
    """Write the particles of a run into its directory; a copy that is there is replaced."""
    arrays: Arrays = {}
    rest: dict[str, Any] = {"texts": []}
    for name in (f.name for f in fields(metadata) if f.name not in ("ctf", "table")):
        value = getattr(metadata, name)
        if not isinstance(value, np.ndarray):
            rest[name] = str(value) if isinstance(value, Path) else value
        elif value.dtype.kind in "UO":
            arrays[name] = _packed(value)
            rest["texts"].append(name)
        else:
            arrays[name] = value
    for name in (f.name for f in fields(metadata.ctf)):
        arrays[f"ctf.{name}"] = getattr(metadata.ctf, name)
    rest["table"] = {}
    for name, block in metadata.table.items():
        if isinstance(block, pd.DataFrame):
            rest["table"][name] = {"columns": list(block.columns)}
            for column in block.columns:
                arrays[f"{_ENTRIES}{name}/{column}"] = _packed(block[column].to_numpy())
        elif isinstance(block, np.ndarray):
            arrays[_ENTRIES + name] = block
            rest["table"][name] = {"rows": len(block)}
        else:
            rest["table"][name] = {"values": {key: str(value) for key, value in block.items()}}
    arrays["rest"] = np.array(json.dumps(rest))
    write_npz(directory.path / NAME, arrays, compressed=True)


def kept_input(directory: RunDirectory) -> ParticleMetadata:
    """The particles that a run was made of, in the order of its samples.

    Raises:
        InputError: the run has no copy of them, or it cannot be read.
    """
    if not directory.has(NAME):
        raise InputError(
            f"{directory.path} has no {NAME}, the run's own copy of its particles, without which "
            "its samples belong to no image for certain: call `hypermol fit --resume` with the "
            "same particles and options, which writes it"
        )
    arrays = directory.read_arrays(NAME)
    rest = json.loads(str(arrays["rest"]))
    table = {
        name: _block(arrays, _ENTRIES + name, entry) for name, entry in rest.pop("table").items()
    }
    given: dict[str, Any] = {}
    for name in (f.name for f in fields(ParticleMetadata) if f.name in arrays):
        given[name] = _unpacked(arrays[name]) if name in rest["texts"] else arrays[name]
    for name in (f.name for f in fields(ParticleMetadata) if f.name in rest):
        given[name] = tuple(rest[name]) if isinstance(rest[name], list) else rest[name]
    source = given.get("source")
    given["source"] = None if source is None else Path(source)
    ctf = CtfParameters(*(arrays[f"ctf.{f.name}"] for f in fields(CtfParameters)))
    return ParticleMetadata(**given, ctf=ctf, table=table)


def _block(arrays: Arrays, name: str, entry: dict[str, Any]) -> Any:
    """One block of the table."""
    if "values" in entry:
        return entry["values"]
    if "rows" in entry:
        return arrays[name]
    texts = {
        column: _unpacked(arrays[f"{name}/{column}"]).astype(object) for column in entry["columns"]
    }
    return pd.DataFrame(texts, columns=entry["columns"])


def _packed(values: np.ndarray) -> np.ndarray:
    """Text [N] as bytes (uint8); every value is ended by a zero byte."""
    text = "".join(f"{value}\0" for value in values)
    return np.frombuffer(text.encode(errors="surrogateescape"), np.uint8)


def _unpacked(packed: np.ndarray) -> np.ndarray:
    """Text [N] again, as str."""
    text = packed.tobytes().decode(errors="surrogateescape")
    return np.array(text.split("\0")[:-1], dtype=str)
