"""A small particle set of a moving molecule, for tests of whole fits."""

from pathlib import Path

from hypermol.molecule.gallery import pretzel
from hypermol.simulation import MoleculeSource, Noise, Poses, Settings, simulate, write_dataset


def write_pretzel(folder: Path) -> Path:
    """70 images of 16 pixels of a pretzel with one arm; their STAR file."""
    settings = Settings(
        n=70,
        box=16,
        pixel_size_angstrom=20.0,
        poses=Poses(shift_sd_angstrom=10.0, rotation_error_deg=2.0, shift_error_px=0.3),
        noise=Noise(snr=0.5),
    )
    write_dataset(folder, simulate(MoleculeSource(pretzel(110.0, arms=1)), settings))
    return folder / "particles.star"
