"""Writing files whole or not at all, and what to say where the file system refuses.

Every writer of the package goes through `replacing`: the content is written under a neighbour's
name and renamed into place once it is on the disk, so a file that is there is whole; what failed
half-way is removed and the old file, if there was one, stays.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypermol.io.errors import OutputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
#: NumPy writes arrays with fwrite, which leaves no number: "4096 requested and 0 written".
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give the body a name beside `path` to write to; what it wrote then takes the place of `path`.

    Raises:
        OutputError: the file system refused; nothing is left under the other name.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".part")
    with output_errors(path):
        try:
            yield partial
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            remove_quietly(partial)
            raise


def remove_quietly(path: Path) -> None:
    """Remove a file if it is there and can be removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a whole file; errors as `replacing`."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: str | Path, content: str) -> None:
    """Write a whole file of UTF-8 text; errors as `replacing`."""
    write_bytes(path, content.encode())


def append_line(path: str | Path, line: str) -> None:
    """Add a line to a file; if that fails the file keeps the lines that it had.

    Raises:
        OutputError: the file system refused.
    """
    with output_errors(path), open(path, "ab") as file:
        before = file.tell()
        try:
            file.write(line.encode() + b"\n")
            file.flush()
        except OSError:
            os.truncate(path, before)
            raise


def make_folder(path: str | Path) -> Path:
    """Make a folder and those above it where they are missing.

    Raises:
        OutputError: a file is in the way, or the file system refused.
    """
    path = Path(path)
    with output_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def check_folder(path: str | Path) -> None:
    """Refuse a folder that `make_folder` could not make, and make nothing.

    Raises:
        OutputError: as `make_folder`, for what can be told beforehand.
    """
    path = Path(path).absolute()
    nearest = next(folder for folder in (path, *path.parents) if folder.exists())
    with output_errors(path):
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextmanager
def output_errors(path: str | Path) -> Iterator[None]:
    """Turn the file system's refusals in the body into an `OutputError` about `path`."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        raise OutputError(cannot_write(error, Path(path))) from error


def cannot_write(error: OSError, path: Path) -> str:
    """One sentence: what cannot be written, why, and the remedy."""
    number = _number(error)
    if number in _FULL:
        return (
            f"{path} cannot be written, because the disk is full (or your quota): free space "
            "there, or choose a place on another disk"
        )
    if number in _REFUSED:
        return (
            f"{path} cannot be written, because its folder is read-only or not yours: get "
            "permission to write there, or choose another place"
        )
    if number in (errno.EEXIST, errno.ENOTDIR):
        return (
            f"{path} cannot be written, because {_file_in_the_way(path)} is a file and not a "
            "folder: remove it, or choose another place"
        )
    if path.is_dir():
        return f"{path} cannot be written, because it is a folder: give the name of a file"
    if number == errno.ENOENT:
        return f"{path} cannot be written, because its folder does not exist: make it first"
    reason = os.strerror(number) if number else str(error)
    return f"{path} cannot be written ({reason}): check the disk, or choose another place"


def cannot_use(error: OSError) -> str:
    """One sentence about a file that the system refused, known only by its exception."""
    number, name = _number(error), error.filename
    if name is None:
        if number in _FULL:
            return "the disk is full (or your quota): free space there, or write to another disk"
        return f"the system refused a file ({error}): check the disk and the paths"
    path = Path(os.fsdecode(name)) if isinstance(name, str | bytes) else Path(str(name))
    if number == errno.ENOENT:
        return f"{path} does not exist: check the path"
    if number == errno.EISDIR:
        return f"{path} is a folder: give a file"
    if number in (*_FULL, *_REFUSED, errno.EEXIST, errno.ENOTDIR):
        return cannot_write(error, path) if number != errno.EACCES else _no_access(path)
    return f"{path} cannot be used ({os.strerror(number or 0)}): check the disk and the path"


def _no_access(path: Path) -> str:
    return f"{path} may not be opened: get permission to read or write it, or choose another place"


def _number(error: OSError) -> int | None:
    """The system's error number; None where it did not give one."""
    if error.errno is not None:
        return error.errno
    return errno.ENOSPC if _SHORT_WRITE.search(str(error)) else None


def _file_in_the_way(path: Path) -> Path:
    """The nearest thing that is there at or above a path."""
    return next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
