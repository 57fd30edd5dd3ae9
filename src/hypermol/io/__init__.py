"""Reading and writing of particle files, maps and structures; NumPy only."""

from hypermol.io.cryosparc import read_particles_cs
from hypermol.io.errors import InputError
from hypermol.io.metadata import CtfParameters, ParticleMetadata
from hypermol.io.mrc import Volume, open_stack, read_volume, write_stack, write_volume
from hypermol.io.star import read_particles_star, write_particles_star
from hypermol.io.structures import Structure, read_structure

__all__ = [
    "CtfParameters",
    "InputError",
    "ParticleMetadata",
    "Structure",
    "Volume",
    "open_stack",
    "read_particles_cs",
    "read_particles_star",
    "read_structure",
    "read_volume",
    "write_particles_star",
    "write_stack",
    "write_volume",
]
