"""hypermol: recover the motions of flexible macromolecules from cryo-EM images.

A molecule is one function V(r, tau) of space and state (Lederman, Anden and Singer 2020);
everything unknown is sampled from one Bayesian posterior. What stands here is the public face,
said in docs/api.md; what lies below it may change.
"""

from importlib.metadata import version

from hypermol.analysis.chains import run_knobs
from hypermol.analysis.export import (
    ParticleFiles,
    Walk,
    export_at,
    export_movie,
    export_particles,
    export_series,
    middle_state,
)
from hypermol.analysis.knobs import Knob
from hypermol.analysis.run import Run, load_run
from hypermol.analysis.score import score_run
from hypermol.analysis.summary import write_results
from hypermol.analysis.truth import load_truth
from hypermol.data.source import ParticleSource
from hypermol.fitting.fit import Progress, fit
from hypermol.io.bodies import read_bodies
from hypermol.io.errors import InputError
from hypermol.io.store import RunDirectory
from hypermol.io.structures import read_structure
from hypermol.molecule.check import check_model
from hypermol.molecule.gallery import cat, pretzel
from hypermol.molecule.protocol import Molecule
from hypermol.molecule.state_basis import (
    Chebyshev,
    Cosine,
    Fourier,
    Haar,
    Hats,
    OneHot,
    ProductBasis,
)
from hypermol.posterior.priors import HyperPrior, InverseGamma
from hypermol.recipe.bodies import body_tables
from hypermol.recipe.options import FitOptions
from hypermol.recipe.toml import read_recipe, write_recipe
from hypermol.report import write_report
from hypermol.runtime import configure
from hypermol.simulation import (
    MoleculeSource,
    Noise,
    Poses,
    RandomCtf,
    Settings,
    TwoPeaks,
    simulate,
    structure_source,
    write_dataset,
)
from hypermol.simulation.structures import DensityGrid
from hypermol.space.discrete import Discrete
from hypermol.space.product import Product
from hypermol.space.state_space import Circle, Interval

__version__ = version("hypermol")

__all__ = [
    "Chebyshev",
    "Circle",
    "Cosine",
    "DensityGrid",
    "Discrete",
    "FitOptions",
    "Fourier",
    "Haar",
    "Hats",
    "HyperPrior",
    "InputError",
    "Interval",
    "InverseGamma",
    "Knob",
    "Molecule",
    "MoleculeSource",
    "Noise",
    "OneHot",
    "ParticleFiles",
    "ParticleSource",
    "Poses",
    "Product",
    "ProductBasis",
    "Progress",
    "RandomCtf",
    "Run",
    "RunDirectory",
    "Settings",
    "TwoPeaks",
    "Walk",
    "__version__",
    "body_tables",
    "cat",
    "check_model",
    "configure",
    "export_at",
    "export_movie",
    "export_particles",
    "export_series",
    "fit",
    "load_run",
    "load_truth",
    "middle_state",
    "pretzel",
    "read_bodies",
    "read_recipe",
    "read_structure",
    "run_knobs",
    "score_run",
    "simulate",
    "structure_source",
    "write_dataset",
    "write_recipe",
    "write_report",
    "write_results",
]
