"""Stacks under names that RELION opens, which end in .mrcs, and stacks that have moved."""

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from hypermol.io.atomic import make_folder, output_errors, remove_quietly
from hypermol.io.errors import InputError
from hypermol.io.metadata import ParticleMetadata

_SUFFIX = ".mrcs"


def refuse_missing_stacks(metadata: ParticleMetadata) -> None:
    """Refuse to name stacks that are not there.

    Raises:
        InputError: naming the first one.
    """
    for stack, row in zip(*np.unique(metadata.stack_paths, return_index=True), strict=True):
        if not Path(stack).is_file():
            raise InputError(
                f"{metadata.source or 'the particle set'} row {metadata.row_numbers[row]}: its "
                f"stack {stack} is not there any more: put it back, or give the folder where it "
                "is now as --image-dir"
            )


def moved_stacks(metadata: ParticleMetadata, image_dir: str | Path) -> ParticleMetadata:
    """The same particles with their stacks looked for in `image_dir`.

    A stack is found under as many of the last parts of its old path as fit.

    Raises:
        InputError: a stack is not there, or two have become one.
    """
    folder = Path(image_dir).absolute()
    unique, inverse = np.unique(metadata.stack_paths, return_inverse=True)
    found = [_under(folder, Path(stack)) for stack in unique]
    if len(set(found)) < len(found):
        twice = next(path for path in found if found.count(path) > 1)
        raise InputError(
            f"--image-dir {image_dir}: several stacks of the run would be {twice}: give the folder "
            "that holds them as they lay before"
        )
    return replace(metadata, stack_paths=np.array([str(path) for path in found])[inverse])


def _under(folder: Path, stack: Path) -> Path:
    parts = stack.parts[1:] if stack.is_absolute() else stack.parts
    for first in range(len(parts)):
        candidate = folder.joinpath(*parts[first:])
        if candidate.is_file():
            return Path(os.path.normpath(candidate))
    raise InputError(
        f"--image-dir {folder} has no stack {stack.name}: give the folder of the stacks"
    )


def mrcs_links(metadata: ParticleMetadata, folder: Path) -> ParticleMetadata:
    """The same particles with every stack under a name that ends in .mrcs.

    RELION takes `n@name` only of such names. Others (cryoSPARC's end in .mrc) get a link in
    `folder`, or a copy where the file system knows no links; single images that are named
    without a number need none. Links that are there are kept.

    Args:
        metadata: all particles of a run, so that names do not depend on a selection.
        folder: made if a link is needed.

    Raises:
        OutputError: the file system refused.
    """
    numbered = set(metadata.stack_paths[metadata.numbered].tolist())
    others = sorted(stack for stack in numbered if not stack.endswith(_SUFFIX))
    if not others:
        return metadata
    make_folder(folder)
    stems = [Path(stack).stem for stack in others]
    names = {stack: stack for stack in metadata.stack_paths.tolist()}
    for stack, stem in zip(others, stems, strict=True):
        mark = f"-{hashlib.sha256(stack.encode()).hexdigest()[:8]}" if stems.count(stem) > 1 else ""
        link = folder.absolute() / f"{stem}{mark}{_SUFFIX}"
        _link(link, stack)
        names[stack] = str(link)
    return replace(
        metadata, stack_paths=np.array([names[stack] for stack in metadata.stack_paths.tolist()])
    )


def _link(link: Path, stack: str) -> None:
    """Let `link` lead to `stack`, atomically."""
    if link.is_symlink() and os.readlink(link) == stack:
        return
    partial = link.with_name(link.name + ".part")
    with output_errors(link):
        try:
            remove_quietly(partial)
            try:
                partial.symlink_to(stack)
            except (OSError, NotImplementedError):
                shutil.copyfile(stack, partial)
            os.replace(partial, link)
        except BaseException:
            remove_quietly(partial)
            raise
