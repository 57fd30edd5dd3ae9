"""The run directory: self-describing, append-only, safe to interrupt.

    run.json               what was run: data, versions, level, timing
    recipe.toml            the resolved options
    trace.jsonl            one line a sweep
    samples/c00_000012.npz one kept sweep of chain 0
    checkpoints/c00.npz    the latest state of chain 0
    posterior.nc           all samples as ArviZ reads them
    input.npz              the particle table that the run was made of (io/run_input.py)

Every file is written under another name and then renamed, so none is ever half there.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final
from zipfile import BadZipFile

import numpy as np

from hypermol.io.atomic import append_line, check_folder, make_folder, replacing, write_text
from hypermol.io.errors import InputError

Arrays = dict[str, np.ndarray]


def read_npz(path: Path, remedy: str, entries: tuple[str, ...] | None = None) -> Arrays:
    """All arrays of an .npz, or the named ones; `remedy` ends the message if that fails.

    Raises:
        InputError: the file is absent or damaged, or has no such entry.
    """
    try:
        with np.load(path) as archive:
            absent = [name for name in entries or () if name not in archive.files]
            if not absent:
                return {name: archive[name] for name in (entries or archive.files)}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error}): {remedy}") from error
    raise InputError(
        f"{path} has no {absent[0]}: it was left by another version of hypermol: make it again "
        "with this one, in another place"
    )


def write_npz(path: Path, arrays: Arrays, compressed: bool = False) -> None:
    """Write an .npz atomically.

    Raises:
        OutputError: the file system refused.
    """
    save = np.savez_compressed if compressed else np.savez
    with replacing(path) as partial, open(partial, "wb") as handle:
        save(handle, **arrays)  # type: ignore[arg-type]


@final
@dataclass(frozen=True)
class RunDirectory:
    """Paths and atomic reads and writes of one run."""

    path: Path

    @classmethod
    def create(cls, path: str | Path) -> "RunDirectory":
        """Start a run in a new or empty directory.

        Raises:
            InputError: the directory already holds a run, or cannot be made.
        """
        run = cls(Path(path))
        run.check_free()
        for folder in ("samples", "checkpoints"):
            make_folder(run.path / folder)
        return run

    @classmethod
    def open(cls, path: str | Path) -> "RunDirectory":
        """Open an existing run.

        Raises:
            InputError: there is none.
        """
        run = cls(Path(path))
        if not run.exists():
            raise InputError(
                f"{path} holds no run (no run.json): give the directory that was "
                "`hypermol fit`'s --out"
            )
        return run

    def check_free(self) -> None:
        """Refuse what `create` would, and make nothing: before images are read, say.

        Raises:
            InputError: the directory already holds a run, or cannot be made.
        """
        if self.exists():
            raise InputError(
                f"{self.path} already holds a run: add --resume to go on with it, "
                "or choose another --out"
            )
        check_folder(self.path)

    def exists(self) -> bool:
        """Whether a run was started here."""
        return (self.path / "run.json").exists()

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file atomically."""
        write_text(self.path / name, json.dumps(content, indent=2, sort_keys=True))

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file."""
        return json.loads((self.path / name).read_text())

    def write_arrays(self, name: str, arrays: Arrays) -> None:
        """Write an .npz atomically."""
        write_npz(self.path / name, arrays)

    def read_arrays(self, name: str, entries: tuple[str, ...] | None = None) -> Arrays:
        """Read an .npz, or only some of its entries.

        Raises:
            InputError: it is absent or damaged, or has no such entry.
        """
        return read_npz(self.path / name, "delete it, then run `hypermol fit --resume`", entries)

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        return (self.path / name).exists()

    def append_trace(self, record: dict[str, Any]) -> None:
        """Add one line to trace.jsonl."""
        append_line(self.path / "trace.jsonl", json.dumps(record))

    def read_trace(self) -> list[dict[str, Any]]:
        """All lines of trace.jsonl."""
        path = self.path / "trace.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]

    def truncate_trace(self, chain: int, sweep: int) -> None:
        """Drop lines of `chain` from `sweep` on: they were written after the checkpoint."""
        kept = [
            record
            for record in self.read_trace()
            if record["chain"] != chain or record["sweep"] < sweep
        ]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        write_text(self.path / "trace.jsonl", text)

    def sample_name(self, chain: int, sweep: int) -> str:
        """Name of the sample of one sweep."""
        return f"samples/c{chain:02d}_{sweep:06d}.npz"

    def sample_names(self, chain: int) -> list[str]:
        """Names of a chain's samples in order."""
        return sorted(
            f"samples/{path.name}" for path in (self.path / "samples").glob(f"c{chain:02d}_*.npz")
        )

    def samples(self, chain: int) -> Iterator[Arrays]:
        """A chain's samples in order."""
        return (self.read_arrays(name) for name in self.sample_names(chain))

    def drop_samples_from(self, chain: int, sweep: int) -> None:
        """Delete samples written after the checkpoint that a resume starts from."""
        for name in self.sample_names(chain):
            if name >= self.sample_name(chain, sweep):
                (self.path / name).unlink()
