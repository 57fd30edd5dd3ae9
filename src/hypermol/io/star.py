"""RELION particle files: reading (`star_read`) and writing (`star_write`)."""

from hypermol.io.star_read import read_particles_star
from hypermol.io.star_write import write_particles_star

__all__ = ["read_particles_star", "write_particles_star"]
