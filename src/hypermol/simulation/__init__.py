"""Simulated data sets: toys, structures and maps, written as RELION files with their truth."""

from hypermol.simulation.images import Simulation, simulate, simulate_images
from hypermol.simulation.settings import Noise, Poses, RandomCtf, Settings, TwoPeaks
from hypermol.simulation.sources import MapSource, MoleculeSource, Source
from hypermol.simulation.structures import structure_source
from hypermol.simulation.write import write_dataset

__all__ = [
    "MapSource",
    "MoleculeSource",
    "Noise",
    "Poses",
    "RandomCtf",
    "Settings",
    "Simulation",
    "Source",
    "TwoPeaks",
    "simulate",
    "simulate_images",
    "structure_source",
    "write_dataset",
]
