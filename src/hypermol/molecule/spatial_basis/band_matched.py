"""Radial profiles that stand for prolate functions on a grid of voxels, in float64.

A prolate function ends abruptly at the ball's surface, so up to half of its energy lies outside
the band and sampling folds that back into it: 10 % error for white coefficients on the tightest
grid (measured). Images see nothing of what is outside the band. So each radial part is replaced
by the profile, supported one voxel further out, whose transform is the same inside the band and
smallest where the grid would fold it back: 0.3 % error and less (tests/molecule/test_prolates.py),
decided once and free in every sweep.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.special import spherical_jn

from hypermol.molecule.spatial_basis.prolate_functions import ProlateFunctions, zernike

#: How far beyond the first folded frequency energy is kept low, in bandlimits: further than that
#: the few polynomials have none.
_REACH = 8.0
#: Ridge against profiles that grow without need.
_RIDGE = 1e-6


@final
@dataclass(frozen=True, eq=False)
class BandMatched:
    """Profiles on a ball slightly larger than the functions' own.

    Attributes:
        edge: radius of their support over the functions' radius.
        expansions: for each degree, [n_l, n_terms] in `zernike`'s polynomials of r / edge.
    """

    edge: float
    expansions: tuple[np.ndarray, ...]

    def radial(self, degree: int, radius: np.ndarray) -> np.ndarray:
        """Profiles [n_l, n] at radii [n] in units of the functions' radius, up to the edge."""
        expansion = self.expansions[degree]
        inner = np.minimum(radius / self.edge, 1.0)
        return expansion @ zernike(degree, expansion.shape[1], inner)


def _nodes(start: float, stop: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights for int f(k) k^2 dk."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    k = start + 0.5 * (stop - start) * (nodes + 1.0)
    return k, weights * 0.5 * (stop - start) * k**2


def band_matched(functions: ProlateFunctions, edge: float, folded: float) -> BandMatched:
    """Least squares of the transform inside the band, of energy beyond the first folded frequency.

    Args:
        functions: whose transforms are to be matched.
        edge: radius of the support in units of the functions' radius, >= 1.
        folded: lowest frequency that sampling folds into the band, in units of the bandlimit, > 1.
    """
    c = functions.bandlimit
    inside, inside_weight = _nodes(0.0, 1.0, int(0.5 * c) + 30)
    outside, outside_weight = _nodes(folded, folded + _REACH, int(2.0 * c) + 60)
    k = np.concatenate([inside, outside])
    root = np.sqrt(np.concatenate([inside_weight, outside_weight]))
    n_terms = int(0.25 * c * edge * (1.0 + folded)) + 10
    n_degrees = len(functions.counts)
    argument = c * edge * k
    orders = np.arange(n_degrees + 2 * n_terms + 1)
    bessel = spherical_jn(orders[:, None], argument) / argument
    sign = (-1.0) ** np.arange(n_terms)
    expansions = []
    for degree in range(n_degrees):
        # int_0^edge j_l(c k t) T_j(t / edge) t^2 dt, as in `prolate_functions`
        factor = edge**3 * sign * np.sqrt(4.0 * np.arange(n_terms) + 2.0 * degree + 3.0)
        matrix = (bessel[degree + 1 : degree + 1 + 2 * n_terms : 2] * factor[:, None] * root).T
        wanted = np.zeros((len(k), functions.counts[degree]))
        wanted[: len(inside)] = functions.transformed(degree, inside).T
        wanted *= root[:, None]
        ridge = _RIDGE * np.linalg.norm(matrix, 2)
        system = np.concatenate([matrix, ridge * np.eye(n_terms)])
        right = np.concatenate([wanted, np.zeros((n_terms, wanted.shape[1]))])
        expansions.append(np.linalg.lstsq(system, right, rcond=None)[0].T)
    return BandMatched(edge, tuple(expansions))
