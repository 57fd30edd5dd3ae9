"""Finding the stacks that a particle file names, and naming them from another folder.

RELION writes paths relative to the project folder, cryoSPARC too; both keep particle files some
folders below it. A relative path is therefore looked for in the file's folder, then in each
folder above it, then in the working directory.
"""

import os
import re
from pathlib import Path

import numpy as np

from hypermol.io.errors import InputError

_NUMBERED = re.compile(r"(\d+)@(.*)", re.DOTALL)


def split_image_name(text: str) -> tuple[str, str]:
    """RELION's image name as (number, file): `12@a/b.mrcs` is ("12", "a/b.mrcs").

    Only digits before the first `@` are a number: any other `@` belongs to the file's name, as in
    `12@lab@site/b.mrcs`. A name without a number gives ("", name).
    """
    match = _NUMBERED.fullmatch(text)
    return (match[1], match[2]) if match else ("", text)


def resolve_stacks(
    names: np.ndarray, particle_file: Path, image_dir: str | Path | None
) -> np.ndarray:
    """Absolute paths of the stacks `names` (str [N]).

    With `image_dir`, stacks are looked for there and nowhere else, with the path as written and
    then with the file name alone. A stack found nowhere gets the path it would have beside the
    particle file (in `image_dir` if given), so that a message can name it.

    Raises:
        InputError: two stacks would be one file of `image_dir`.
    """
    unique, inverse = np.unique(names.astype(str), return_inverse=True)
    resolved = [str(find_stack(name, particle_file, image_dir)) for name in unique]
    if image_dir is not None:
        _refuse_two_in_one(unique.tolist(), resolved, image_dir)
    return np.array(resolved)[inverse] if len(names) else np.zeros(0, dtype=str)


def _refuse_two_in_one(names: list[str], resolved: list[str], image_dir: str | Path) -> None:
    """Refuse names that lead to one file only because their folders were left out."""
    first: dict[str, str] = {}
    for name, path in zip(names, resolved, strict=True):
        known = first.setdefault(path, name)
        if os.path.normpath(known) != os.path.normpath(name):
            raise InputError(
                f"--image-dir {image_dir}: the stacks {known} and {name} would both be {path}: "
                "give the folder that these paths begin in"
            )


def find_stack(name: str, particle_file: Path, image_dir: str | Path | None = None) -> Path:
    """Absolute path of one stack; see `resolve_stacks`."""
    folder = particle_file.absolute().parent
    candidates = [base / name for base in (folder, *folder.parents, Path.cwd())]
    if image_dir is not None:
        image_folder = Path(image_dir).absolute()
        candidates = [image_folder / name.lstrip("/"), image_folder / Path(name).name]
    found = next((path for path in candidates if path.is_file()), candidates[0])
    return Path(os.path.normpath(found))


def name_from(folder: Path, name: str, stack: str) -> str:
    """What a file in `folder` must call `stack`, which the input called `name`.

    RELION takes names from the folder that it is started in, which is its project's: the name
    stays as it was if it leads to the stack from `folder` or a folder above it, any of which may
    be the project, and to no other file before. Otherwise the file lies outside of where the name
    means anything, and the stack is named absolutely.
    """
    if os.path.isabs(name) or ".." in Path(name).parts:
        return name if os.path.isabs(name) and os.path.normpath(name) == stack else stack
    folder = folder.absolute()
    for base in (folder, *folder.parents):
        candidate = base / name
        if os.path.normpath(candidate) == stack:
            return name
        if candidate.is_file():
            break
    return stack
