"""Particle sets as the fit sees them."""

from hypermol.data.half_sets import half_sets
from hypermol.data.inspection import inspect
from hypermol.data.particles import ParticleSet
from hypermol.data.source import ParticleSource, load_particles

__all__ = ["ParticleSet", "ParticleSource", "half_sets", "inspect", "load_particles"]
