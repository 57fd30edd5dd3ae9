"""A hash of what a fit reads, independent of folders and times."""

import hashlib
from pathlib import Path

import numpy as np

from hypermol.io.errors import InputError
from hypermol.io.metadata import ParticleMetadata

_SAMPLES = 64
_SAMPLE_BYTES = 4096


def hash_of_data(
    metadata: ParticleMetadata, grey_scale: tuple[np.ndarray | None, np.ndarray | None]
) -> str:
    """SHA-256 (hex); `ParticleSet.data_hash` says what it covers.

    Args:
        metadata: of the particles.
        grey_scale: offset and factor [N] of the images, None where they are left as they are.
    """
    digest = hashlib.sha256()
    source = metadata.source
    if source is not None:
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    for values in (metadata.row_numbers, metadata.stack_indices):
        digest.update(values.astype("<i8").tobytes())
    digest.update(metadata.contrast_sign.astype("<f8").tobytes())
    for changed in grey_scale:
        if changed is not None:
            digest.update(changed.astype("<f8").tobytes())
    stacks = dict.fromkeys(metadata.stack_paths.tolist())
    for stack in sorted(stacks, key=lambda name: (Path(name).name, name)):
        _hash_file(digest, Path(stack))
    return digest.hexdigest()


def _hash_file(digest: "hashlib._Hash", path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} does not exist: give the folder of the stacks as --image-dir")
    size = path.stat().st_size
    digest.update(f"{path.name}\0{size}\0".encode())
    with open(path, "rb") as file:
        digest.update(file.read(1024))
        last = max(size - _SAMPLE_BYTES, 0)
        for offset in np.linspace(0, last, _SAMPLES).astype(np.int64):
            file.seek(int(offset))
            digest.update(file.read(_SAMPLE_BYTES))
