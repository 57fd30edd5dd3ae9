"""An atomic structure that moves along its elastic network's softest normal modes.

The anisotropic network model joins all points nearer than a cutoff by equal springs; the Hessian's
block of points i and j is `-d d' / |d|^2` with d their distance vector, and its eigenvectors of
smallest positive eigenvalue are the motions that cost least (Tama et al. 2002; Jin et al. 2014:
references [47, 48] of the paper). Modes are mass-free and scaled to an rms displacement of 1.

`c(tau) = rest + sum_m A_m (2 tau_m - 1) u_m`: the state 1/2 is the structure at rest, and the
ends are an rms displacement of A_m Angstrom away.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import jax.numpy as jnp
import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from jax import Array
from scipy.spatial import cKDTree

from hypermol.io.errors import InputError
from hypermol.io.structures import read_residues, read_structure
from hypermol.molecule.moving_gaussians import density_of_gaussians, transform_of_gaussians
from hypermol.space.product import Product
from hypermol.space.state_space import Interval, StateSpace

#: log_amplitude [d] and log_width: natural logarithms of the ratio to the builder's values;
#: log_weight [n]: likewise of each point's weight; mixing [d, m]: of the spare modes into each
#: mode. All zero at the prior's mean.
Theta = dict[str, Array]

#: Prior standard deviations of theta.
PRIOR_SD = {"log_amplitude": 0.3, "log_width": 0.2, "log_weight": 0.1, "mixing": 0.15}

_RIGID_MOTIONS = 6
#: Largest number of coordinates whose Hessian is diagonalised densely.
_DENSE_LIMIT = 1200
#: Eigenvalues below this part of the mean diagonal cost no energy. Softest true motions of large
#: assemblies stay near 1e-5, rounding near 1e-14.
_ZERO = 1e-8


def anisotropic_modes(
    positions_angstrom: np.ndarray, n_modes: int, cutoff_angstrom: float
) -> tuple[np.ndarray, np.ndarray]:
    """Softest normal modes of the anisotropic network model, rigid motions left out.

    Args:
        positions_angstrom: [n, 3].
        n_modes: number of modes.
        cutoff_angstrom: longest spring.

    Returns:
        eigenvalues [n_modes], in units of the spring constant, and modes [n_modes, n, 3] with
        `mean over points of |u|^2 = 1`, whose largest component is positive.

    Raises:
        ValueError: too few points, or the springs leave more than the six rigid motions free.
    """
    n = len(positions_angstrom)
    wanted = _RIGID_MOTIONS + n_modes
    if n_modes < 1 or 3 * n < wanted:
        raise ValueError(f"{n} points have no {n_modes} modes: ask for 1 to {max(3 * n - 6, 1)}")
    hessian = _hessian(np.asarray(positions_angstrom, np.float64), cutoff_angstrom)
    stiffness = hessian.diagonal().mean()
    if 3 * n <= max(_DENSE_LIMIT, wanted + 1):
        values, vectors = np.linalg.eigh(hessian.toarray())
    else:
        # shifted below zero, so that the factorised matrix is positive definite
        values, vectors = scipy.sparse.linalg.eigsh(
            hessian, k=wanted, sigma=-1e-4 * stiffness, v0=np.ones(3 * n)
        )
        order = np.argsort(values)
        values, vectors = values[order], vectors[:, order]
    free = int(np.sum(values[:wanted] < _ZERO * stiffness))
    if stiffness == 0.0 or free != _RIGID_MOTIONS:
        raise ValueError(
            f"springs of up to {cutoff_angstrom:g} Angstrom leave {free} motions free instead of "
            "the six rigid ones: raise the cutoff until the structure hangs together"
        )
    modes = vectors[:, _RIGID_MOTIONS:wanted].T.reshape(n_modes, n, 3) * np.sqrt(n)
    flat = modes.reshape(n_modes, -1)
    signs = np.sign(flat[np.arange(n_modes), np.abs(flat).argmax(axis=1)])
    return values[_RIGID_MOTIONS:wanted], modes * signs[:, None, None]


def _hessian(positions: np.ndarray, cutoff: float) -> scipy.sparse.csc_matrix:
    """Second derivatives [3 n, 3 n] of the springs' energy at rest."""
    n = len(positions)
    i, j = cKDTree(positions).query_pairs(cutoff, output_type="ndarray").T
    apart = positions[j] - positions[i]
    blocks = apart[:, :, None] * apart[:, None, :] / np.sum(apart**2, axis=1)[:, None, None]
    rows = np.concatenate([i, j, i, j])
    columns = np.concatenate([j, i, i, j])
    values = np.concatenate([-blocks, -blocks, blocks, blocks])
    axis = np.arange(3)
    row = np.broadcast_to(3 * rows[:, None, None] + axis[:, None], values.shape)
    column = np.broadcast_to(3 * columns[:, None, None] + axis[None, :], values.shape)
    entries = (values.reshape(-1), (row.reshape(-1), column.reshape(-1)))
    return scipy.sparse.csc_matrix(entries, shape=(3 * n, 3 * n))


@final
@dataclass(frozen=True, eq=False)
class ElasticNetwork:
    """Points of a structure as Gaussians that move along normal modes (sec. 3.6).

    Attributes:
        state_space: one interval a mode.
        rest_angstrom: [n, 3] positions at rest, their centre at the origin.
        modes: [d + m, n, 3] of rms displacement 1: the d of the states, then m spare ones.
        weights: [n] integral of each Gaussian (electrons).
        amplitude_angstrom: rms displacement at a state's end.
        width_angstrom: standard deviation of each Gaussian.
    """

    state_space: StateSpace
    rest_angstrom: np.ndarray
    modes: np.ndarray
    weights: np.ndarray
    amplitude_angstrom: float
    width_angstrom: float

    def init(self, key: Array) -> Theta:
        """The prior's mean: the structure as given."""
        d = self.state_space.dim
        return {
            "log_amplitude": jnp.zeros(d),
            "log_width": jnp.zeros(()),
            "log_weight": jnp.zeros(len(self.weights)),
            "mixing": jnp.zeros((d, len(self.modes) - d)),
        }

    def log_prior(self, theta: Theta) -> Array:
        """Independent normals of mean zero and `PRIOR_SD`, up to a constant."""
        terms = [-0.5 * jnp.sum((theta[name] / sd) ** 2) for name, sd in PRIOR_SD.items()]
        return jnp.sum(jnp.stack(terms))

    def centres(self, theta: Theta, tau: Array) -> Array:
        """The atoms' points [n, 3] in Angstrom in the state tau [d]."""
        along = self.amplitude_angstrom * jnp.exp(theta["log_amplitude"]) * (2.0 * tau - 1.0)
        coordinates = jnp.concatenate([along, along @ theta["mixing"]])
        return jnp.asarray(self.rest_angstrom) + jnp.tensordot(coordinates, self.modes, axes=1)

    def fourier(self, theta: Theta, k: Array, tau: Array) -> Array:
        """V-hat[theta](k, tau): complex [K] at k [K, 3] in 1/Angstrom."""
        return transform_of_gaussians(*self._gaussians(theta, tau), k)

    def density(self, theta: Theta, tau: Array, coordinates: Array) -> Array:
        """V[theta](r, tau) in electrons / Angstrom^3, [...] at [..., 3] (x, y, z) in Angstrom."""
        return density_of_gaussians(*self._gaussians(theta, tau), coordinates)

    def _gaussians(self, theta: Theta, tau: Array) -> tuple[Array, Array, Array]:
        """Integrals [n], standard deviations [n] and centres [n, 3]."""
        weights = jnp.asarray(self.weights) * jnp.exp(theta["log_weight"])
        width = self.width_angstrom * jnp.exp(theta["log_width"])
        return weights, jnp.broadcast_to(width, weights.shape), self.centres(theta, tau)


def elastic_network(
    path: str | Path,
    n_modes: int = 1,
    cutoff_angstrom: float = 15.0,
    amplitude_angstrom: float = 3.0,
    *,
    width_angstrom: float = 3.0,
    points: Literal["residues", "atoms"] = "residues",
    spare_modes: int = 3,
) -> ElasticNetwork:
    """Build the molecule from a PDB or mmCIF file (its first model).

    Args:
        path: the structure.
        n_modes: state variables, one a mode, softest first.
        cutoff_angstrom: longest spring; 15 suits one point a residue, 8 all atoms.
        amplitude_angstrom: rms displacement at the ends of a state, before theta corrects it.
        width_angstrom: standard deviation of each point's Gaussian.
        points: one point a residue (C-alpha, C1'), or all atoms but hydrogens.
        spare_modes: further modes that theta may mix into each motion.

    Raises:
        InputError: the file has no coordinates, too few, or the springs do not hold it together.
    """
    if points == "residues":
        residues = read_residues(path)
        positions, weights = residues.positions_angstrom, residues.electrons
    else:
        structure = read_structure(path)
        positions = structure.positions_angstrom[0]
        weights = structure.atomic_numbers.astype(np.float64)
    try:
        _, modes = anisotropic_modes(positions, n_modes + spare_modes, cutoff_angstrom)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    names = tuple(f"mode_{i + 1}" for i in range(n_modes))
    return ElasticNetwork(
        Interval(names[0]) if n_modes == 1 else Product(tuple(Interval(name) for name in names)),
        (positions - positions.mean(axis=0)).astype(np.float32),
        modes.astype(np.float32),
        weights.astype(np.float32),
        amplitude_angstrom,
        width_angstrom,
    )
