"""Simulated data sets: toys, structures and maps, written as RELION files with their truth."""

from hypermol.simulate.images import Simulation, simulate, simulate_images
from hypermol.simulate.settings import Noise, Poses, RandomCtf, Settings, TwoPeaks
from hypermol.simulate.sources import MapSource, MoleculeSource, Source
from hypermol.simulate.structures import structure_source
from hypermol.simulate.write import write_dataset

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
