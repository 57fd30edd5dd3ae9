"""Stacks that RELION would not open by their names, and stacks that have moved."""

import os
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from hypermol.io import stack_links
from hypermol.io.errors import InputError
from hypermol.io.metadata import ParticleMetadata
from hypermol.io.mrc import write_stack
from hypermol.io.stack_links import moved_stacks, mrcs_links, refuse_missing_stacks
from runs import particle_metadata


def particles_in(*stacks: Path) -> ParticleMetadata:
    """Two particles a stack; every stack is written with its own number in every pixel."""
    for number, stack in enumerate(stacks):
        stack.parent.mkdir(parents=True, exist_ok=True)
        write_stack(stack, np.full((2, 4, 4), number), 1.0)
    n = 2 * len(stacks)
    found = particle_metadata(Path("/x"), np.stack([np.eye(3)] * n), np.zeros((n, 2)), 4)
    return ParticleMetadata(
        **{**vars(found), "stack_paths": np.repeat([str(stack) for stack in stacks], 2)}
    )


def numbers(metadata: ParticleMetadata) -> list[float]:
    return [float(mrcfile.read(stack)[0, 0, 0]) for stack in metadata.stack_paths]


def test_links_have_the_names_that_relion_opens(tmp_path: Path):
    stacks = [tmp_path / name for name in ("J1/a.mrc", "J2/a.mrc", "J1/b.st", "J1/c.mrcs")]
    metadata = particles_in(*stacks)
    linked = mrcs_links(metadata, tmp_path / "run" / "stacks")
    assert all(name.endswith(".mrcs") for name in linked.stack_paths)
    assert numbers(linked) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert linked.stack_paths[6] == str(stacks[3])
    assert len(list((tmp_path / "run" / "stacks").iterdir())) == 3
    assert all(os.path.islink(name) for name in linked.stack_paths[:6])
    again = mrcs_links(metadata, tmp_path / "run" / "stacks")
    assert np.array_equal(again.stack_paths, linked.stack_paths)
    (tmp_path / "new").mkdir()
    (tmp_path / "J1").rename(tmp_path / "new" / "J1")
    (tmp_path / "J2").rename(tmp_path / "new" / "J2")
    moved = moved_stacks(metadata, tmp_path / "new")
    assert numbers(mrcs_links(moved, tmp_path / "run" / "stacks")) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_stacks_that_have_their_names_already_leave_no_folder(tmp_path: Path):
    metadata = particles_in(tmp_path / "a.mrcs")
    assert mrcs_links(metadata, tmp_path / "stacks") is metadata
    assert not (tmp_path / "stacks").exists()


def test_single_images_without_a_number_keep_their_names(tmp_path: Path):
    metadata = particles_in(tmp_path / "a.mrc")
    metadata = replace(metadata, numbered=np.zeros(2, bool))
    assert mrcs_links(metadata, tmp_path / "stacks") is metadata


def test_where_no_links_are_known_a_copy_is_made(tmp_path: Path, monkeypatch):
    def refuse(self, target):
        raise OSError("no links here")

    metadata = particles_in(tmp_path / "a.mrc")
    monkeypatch.setattr(Path, "symlink_to", refuse)
    linked = mrcs_links(metadata, tmp_path / "stacks")
    assert numbers(linked) == [0, 0] and not os.path.islink(linked.stack_paths[0])
    assert [path.name for path in (tmp_path / "stacks").iterdir()] == ["a.mrcs"]
    metadata = particles_in(tmp_path / "b.mrc")
    monkeypatch.setattr(stack_links.shutil, "copyfile", refuse)
    with pytest.raises(InputError, match=r"b\.mrcs cannot be written"):
        mrcs_links(metadata, tmp_path / "stacks")
    assert [path.name for path in (tmp_path / "stacks").iterdir()] == ["a.mrcs"]


def test_missing_stacks_are_named(tmp_path: Path):
    metadata = particles_in(tmp_path / "a.mrcs", tmp_path / "b.mrcs")
    refuse_missing_stacks(metadata)
    (tmp_path / "b.mrcs").unlink()
    with pytest.raises(InputError, match=r"row 3: its stack .*b\.mrcs is not there any more"):
        refuse_missing_stacks(metadata)


def test_moved_stacks_are_found_by_the_longest_part_of_their_paths(tmp_path: Path):
    metadata = particles_in(tmp_path / "p" / "J1" / "a.mrcs", tmp_path / "p" / "J2" / "a.mrcs")
    (tmp_path / "p").rename(tmp_path / "q")
    write_stack(tmp_path / "q" / "a.mrcs", np.full((2, 4, 4), 9), 1.0)
    assert numbers(moved_stacks(metadata, tmp_path / "q")) == [0, 0, 1, 1]
    with pytest.raises(InputError, match=r"several stacks of the run would be .*J1/a\.mrcs"):
        moved_stacks(metadata, tmp_path / "q" / "J1")
    with pytest.raises(InputError, match=r"--image-dir .* has no stack a\.mrcs"):
        moved_stacks(metadata, tmp_path / "nowhere")
