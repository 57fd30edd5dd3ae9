"""The public face, said in docs/api.md: what `__init__.py` loads when it is asked for."""

from .analysis.chains import run_knobs
from .analysis.export import (
    ParticleFiles,
    Walk,
    export_at,
    export_movie,
    export_particles,
    export_series,
    middle_state,
)
from .analysis.knobs import Knob
from .analysis.regions import Motion, MovingRegion, find_motion
from .analysis.run import Run, load_run
from .analysis.score import score_run
from .analysis.summary import write_results
from .analysis.truth import load_truth
from .data.source import ParticleSource
from .fitting.fit import Progress, fit
from .io.bodies import read_bodies
from .io.errors import InputError
from .io.store import RunDirectory
from .io.structures import read_structure
from .molecule.check import check_model
from .molecule.gallery import cat, pretzel
from .molecule.protocol import Molecule
from .molecule.state_basis import (
    Chebyshev,
    Cosine,
    Fourier,
    Haar,
    Hats,
    OneHot,
    ProductBasis,
)
from .posterior.priors import HyperPrior, InverseGamma
from .recipe.bodies import body_tables
from .recipe.options import FitOptions
from .recipe.toml import read_recipe, write_recipe
from .report import write_report
from .runtime import configure
from .simulation import (
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
from .simulation.structures import DensityGrid
from .space.discrete import Discrete
from .space.product import Product
from .space.state_space import Circle, Interval

__version__: str

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
    "Motion",
    "MovingRegion",
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
    "find_motion",
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
