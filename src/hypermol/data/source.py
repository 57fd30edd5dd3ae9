"""Where particles come from, and their loading; no image is read yet."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypermol.data.particles import ParticleSet
from hypermol.io.cryosparc import read_particles_cs
from hypermol.io.errors import InputError
from hypermol.io.star import read_particles_star


@dataclass(frozen=True)
class ParticleSource:
    """Where particles come from, as a user names it.

    Paths may be given as text.

    Attributes:
        path: a RELION .star or cryoSPARC .cs file.
        image_dir: folder that the stacks are in, if not beside the file.
        passthrough: for .cs, the job's passthrough files.
        pixel_size_angstrom: overrides the file.
    """

    path: Path
    image_dir: Path | None = None
    passthrough: tuple[Path, ...] = ()
    pixel_size_angstrom: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        if self.image_dir is not None:
            object.__setattr__(self, "image_dir", Path(self.image_dir))
        object.__setattr__(self, "passthrough", tuple(Path(path) for path in self.passthrough))

    def load(
        self, *, invert_contrast: bool = False, allow_missing: Collection[str] = ()
    ) -> "ParticleSet":
        """The particles; see `load_particles`."""
        return load_particles(
            self.path,
            image_dir=self.image_dir,
            passthrough=self.passthrough,
            pixel_size_angstrom=self.pixel_size_angstrom,
            allow_missing=allow_missing,
            invert_contrast=invert_contrast,
        )

    def as_json(self) -> dict[str, Any]:
        """What `from_json` takes, with absolute paths, so that any folder can go on from it."""
        return {
            "path": str(self.path.absolute()),
            "image_dir": None if self.image_dir is None else str(self.image_dir.absolute()),
            "passthrough": [str(path.absolute()) for path in self.passthrough],
            "pixel_size_angstrom": self.pixel_size_angstrom,
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "ParticleSource":
        """The source that `as_json` wrote."""
        image_dir = values["image_dir"]
        return ParticleSource(
            Path(values["path"]),
            None if image_dir is None else Path(image_dir),
            tuple(Path(path) for path in values["passthrough"]),
            values["pixel_size_angstrom"],
        )


def load_particles(
    path: str | Path,
    *,
    image_dir: str | Path | None = None,
    passthrough: str | Path | Sequence[str | Path] = (),
    pixel_size_angstrom: float | None = None,
    allow_missing: Collection[str] = (),
    invert_contrast: bool = False,
) -> "ParticleSet":
    """Load the particles of a RELION .star or cryoSPARC .cs file; no image is read yet.

    Messages name the command line's options: --pixel-size is `pixel_size_angstrom` here.

    Args:
        path: the particle file.
        image_dir: folder that the stacks are in, if not beside the file.
        passthrough: for .cs, the job's passthrough file or files.
        pixel_size_angstrom: overrides the file.
        allow_missing: "poses", "ctf": parts that the file may lack.
        invert_contrast: multiply every image by -1 (particles that are dark on light ground).

    Raises:
        InputError: naming the file, the row or the column, and the remedy.
    """
    path = Path(path)
    if path.suffix == ".cs":
        metadata = read_particles_cs(
            path,
            image_dir,
            passthrough,
            pixel_size_angstrom=pixel_size_angstrom,
            allow_missing=allow_missing,
        )
    elif path.suffix == ".star":
        if passthrough != ():
            raise InputError(f"{path} is a STAR file: --passthrough goes with .cs files only")
        metadata = read_particles_star(
            path,
            image_dir,
            pixel_size_angstrom=pixel_size_angstrom,
            allow_missing=allow_missing,
        )
    else:
        raise InputError(
            f"{path} is neither .star nor .cs: give a RELION or cryoSPARC particle file"
        )
    if invert_contrast:
        metadata = replace(metadata, contrast_sign=-metadata.contrast_sign)
    return ParticleSet(metadata)
