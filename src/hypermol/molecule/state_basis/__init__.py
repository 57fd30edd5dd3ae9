"""Bases P_q(tau) on state spaces (eq. 20-21)."""

from hypermol.molecule.state_basis.base import StateBasis
from hypermol.molecule.state_basis.graph import (
    GraphLaplacian,
    GraphSpectrum,
    Landmarks,
    Tabulated,
    graph_spectrum,
    landmark_basis,
)
from hypermol.molecule.state_basis.local import Haar, Hats, OneHot
from hypermol.molecule.state_basis.named import BASES, BASIS_OF, STATES_OF, named_state_basis
from hypermol.molecule.state_basis.product import ProductBasis
from hypermol.molecule.state_basis.smooth import (
    Chebyshev,
    Constant,
    Cosine,
    Fourier,
    Linear,
    principal_coordinates,
)
from hypermol.molecule.state_basis.variation import Variation

__all__ = [
    "BASES",
    "BASIS_OF",
    "STATES_OF",
    "Chebyshev",
    "Constant",
    "Cosine",
    "Fourier",
    "GraphLaplacian",
    "GraphSpectrum",
    "Haar",
    "Hats",
    "Landmarks",
    "Linear",
    "OneHot",
    "ProductBasis",
    "StateBasis",
    "Tabulated",
    "Variation",
    "graph_spectrum",
    "landmark_basis",
    "named_state_basis",
    "principal_coordinates",
]
