"""Files are written whole or not at all, and refusals of the file system are sentences."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from hypermol.io import atomic
from hypermol.io.atomic import (
    append_line,
    cannot_use,
    check_folder,
    make_folder,
    replacing,
    write_text,
)
from hypermol.io.errors import InputError, OutputError
from hypermol.io.mrc import read_volume, write_stack, write_volume
from hypermol.io.store import RunDirectory, write_npz

#: A device without space: what is written under a link to it fails as on a full disk.
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.is_char_device(), reason="the system has no /dev/full")


def fill_disk_under(path: Path) -> None:
    """Let writing `path` meet a full disk."""
    path.with_name(path.name + ".part").symlink_to(FULL)


WRITERS = {
    "text": lambda path: write_text(path, "words\n" * 10_000),
    "json": lambda path: RunDirectory(path.parent).write_json(path.name, {"a": 1}),
    "npz": lambda path: write_npz(path, {"a": np.zeros(100_000)}),
    "npz compressed": lambda path: write_npz(path, {"a": np.zeros(100_000)}, compressed=True),
    "volume": lambda path: write_volume(path, np.zeros((20, 20, 20)), 1.0),
    "stack": lambda path: write_stack(path, np.zeros((9, 30, 30)), 1.0),
    "small stack": lambda path: write_stack(path, np.zeros((1, 2, 2)), 1.0),
}


@needs_full
@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_is_a_sentence_and_leaves_the_old_file(tmp_path: Path, writer):
    path = tmp_path / "file"
    path.write_text("old")
    fill_disk_under(path)
    with pytest.raises(OutputError, match=r"file cannot be written, because the disk is full.*"):
        writer(path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and path.read_text() == "old"


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_a_file_in_the_place_of_the_folder(tmp_path: Path, writer):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(OutputError, match=r"run is a file and not a folder: remove it"):
        writer(tmp_path / "run" / "file")
    assert (tmp_path / "run").read_text() == "a file"


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_a_folder_in_the_place_of_the_file(tmp_path: Path, writer):
    (tmp_path / "file").mkdir()
    with pytest.raises(OutputError, match="because it is a folder: give the name of a file"):
        writer(tmp_path / "file")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int):
    def refuse(*args, **kwargs):
        raise OSError(number, "refused", str(tmp_path / "a"))

    monkeypatch.setattr(atomic.os, "replace", refuse)
    with pytest.raises(OutputError, match="read-only or not yours: get permission"):
        write_text(tmp_path / "a", "words")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match="read-only or not yours"):
        make_folder(tmp_path / "b")


def test_a_folder_that_cannot_be_made_is_told_beforehand(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OutputError, match="file is a file and not a folder"):
            check_folder(path)
    check_folder(tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_may_not_be_written_is_told_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(atomic.os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="read-only or not yours"):
        check_folder(tmp_path / "run")


def test_a_failure_of_the_writer_itself_is_not_disguised(tmp_path: Path):
    def stop_half_way():
        with replacing(tmp_path / "a") as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop_half_way()
    assert list(tmp_path.iterdir()) == []


@needs_full
def test_a_stack_that_meets_a_full_disk_half_way(tmp_path: Path):
    fill_disk_under(tmp_path / "a.mrcs")
    with pytest.raises(OutputError, match="disk is full"):
        write_stack(tmp_path / "a.mrcs", (np.ones((64, 64)) for _ in range(100)), 1.0)
    assert list(tmp_path.iterdir()) == []


def test_lines_that_cannot_be_added_leave_whole_lines(tmp_path: Path, monkeypatch):
    path = tmp_path / "trace.jsonl"
    append_line(path, json.dumps({"sweep": 0}))
    real = open

    class Full:
        """Writes half of what it gets, then has no space."""

        def __init__(self, name, mode):
            self.file = real(name, mode, buffering=0)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def tell(self):
            return self.file.tell()

        def write(self, content):
            self.file.write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "open", Full, raising=False)
    with pytest.raises(OutputError, match=r"trace\.jsonl cannot be written, because the disk"):
        append_line(path, json.dumps({"sweep": 1}))
    monkeypatch.undo()
    append_line(path, json.dumps({"sweep": 2}))
    assert [json.loads(line)["sweep"] for line in path.read_text().splitlines()] == [0, 2]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "no", "a.npy"), "a.npy does not exist: check"),
        (PermissionError(errno.EACCES, "no", "a.npy"), "a.npy may not be opened: get permission"),
        (IsADirectoryError(errno.EISDIR, "no", "a"), "a is a folder: give a file"),
        (OSError(errno.ENOSPC, "no"), "the disk is full"),
        (OSError(errno.EIO, "no", "a.npy"), "a.npy cannot be used (Input/output error)"),
        (OSError("100 requested and 7 written"), "the disk is full"),
    ],
)
def test_every_refusal_has_its_words(error: OSError, words: str):
    assert words in cannot_use(error)


def test_a_broken_pipe_is_left_to_the_command_line(tmp_path: Path):
    with pytest.raises(BrokenPipeError), replacing(tmp_path / "a"):
        raise BrokenPipeError(errno.EPIPE, "gone")
    assert issubclass(OutputError, InputError)


def test_volumes_survive_a_failed_second_writing(tmp_path: Path):
    path = tmp_path / "map.mrc"
    write_volume(path, np.ones((4, 4, 4)), 2.0)
    with pytest.raises(ValueError, match="3 axes"):
        write_volume(path, np.ones((4, 4)), 2.0)
    assert read_volume(path).data.sum() == 64 and list(tmp_path.iterdir()) == [path]
