"""Particle sets as the fit sees them."""

from hypermol.data.particles import ParticleSet, load_particles

__all__ = ["ParticleSet", "load_particles"]
