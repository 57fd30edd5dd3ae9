"""Finding the stacks that a particle file names, and naming them from another folder.

RELION writes paths relative to the project folder, cryoSPARC too; both keep particle files some
folders below it. A relative path is therefore looked for in the file's folder, then in each
folder above it, then in the working directory.
"""

import os
import re
from pathlib import Path

import numpy as np

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

    With `image_dir`, that folder is tried first, with the path as written and then with the file
    name alone. A stack found nowhere gets the path it would have beside the particle file (in
    `image_dir` if given), so that a message can name it.
    """
    unique, inverse = np.unique(names.astype(str), return_inverse=True)
    resolved = np.array([str(find_stack(name, particle_file, image_dir)) for name in unique])
    return resolved[inverse] if len(names) else np.zeros(0, dtype=str)


def find_stack(name: str, particle_file: Path, image_dir: str | Path | None = None) -> Path:
    """Absolute path of one stack; see `resolve_stacks`."""
    folder = particle_file.absolute().parent
    candidates: list[Path] = []
    if image_dir is not None:
        image_folder = Path(image_dir).absolute()
        candidates += [image_folder / name.lstrip("/"), image_folder / Path(name).name]
    candidates += [base / name for base in (folder, *folder.parents, Path.cwd())]
    for candidate in candidates:
        if candidate.is_file():
            return Path(os.path.normpath(candidate))
    missing = image_folder if image_dir is not None else folder
    return Path(os.path.normpath(missing / name))


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
