"""State bases learned from coordinates of the particles: eigenvectors of a graph Laplacian.

Given coordinates of every particle from elsewhere (a linear subspace, another program's latent
variables), neighbours in them are joined, and the slowest diffusion modes of that graph are the
smoothest functions of state: Laplacian spectral volumes (reference [67] of the paper). Whatever
shape the set of states has, line, circle or branching, the modes fit it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh
from scipy.spatial import cKDTree
from typing_extensions import override

from hypermol.molecule.state_basis.base import StateBasis
from hypermol.space.discrete import Discrete
from hypermol.space.product import Product
from hypermol.space.state_space import Interval, StateSpace

#: -log of the Gaussian weight of a point's farthest neighbour, at the median: what lies beyond
#: the neighbours weighs next to nothing, so that extension to new states may use all points.
_LAST_NEIGHBOUR = 4.0
#: Largest dimension of coordinates whose box is a usable state space.
_MAX_BOX_DIM = 3


class GraphSpectrum(NamedTuple):
    """Slowest diffusion modes of N points in R^d.

    Attributes:
        points: [N, d] the coordinates given.
        values: [n_terms] eigenvalues of one diffusion step, 1 first, falling.
        vectors: [N, n_terms] modes at the points; the first is 1, all are orthonormal under the
            diffusion's stationary measure, which is even where points are even.
        log_density: [N] log of the sampling density, up to a constant.
        bandwidth: squared distance at which a weight falls to 1 / e.
    """

    points: np.ndarray
    values: np.ndarray
    vectors: np.ndarray
    log_density: np.ndarray
    bandwidth: float

    @property
    def frequencies(self) -> np.ndarray:
        """[n_terms] roots of the Laplacian's eigenvalues, the first mode's being 1."""
        rates = np.sqrt(np.maximum(1.0 - self.values, 0.0))
        return rates / rates[1] if len(rates) > 1 else rates


def graph_spectrum(coordinates: np.ndarray, n_terms: int, n_neighbours: int = 64) -> GraphSpectrum:
    """Modes of the density-normalised graph Laplacian of points, as in diffusion maps.

    Neighbours have Gaussian weights, divided by the density at both ends, so that the modes
    belong to the shape of the set and not to how densely it is sampled.

    Args:
        coordinates: [N, d], in units in which distances mean the same in every direction.
        n_terms: modes wanted, the constant included.
        n_neighbours: each point is joined to. Random points leave gaps, and a gap wider than the
            reach of the weights (about half the way to the last neighbour) traps the modes:
            some tens, yet no more than lie within the set's finest feature.

    Raises:
        ValueError: too few points for so many terms or neighbours, or a graph in pieces.
    """
    points = np.asarray(coordinates, np.float64)
    if points.ndim != 2 or not np.all(np.isfinite(points)):
        raise ValueError("coordinates of a graph Laplacian must be finite numbers of shape [N, d]")
    if len(points) <= max(n_neighbours, n_terms):
        raise ValueError(
            f"{len(points)} points are too few for {n_terms} terms and {n_neighbours} neighbours: "
            "lower n_terms or n_neighbours, or give more points"
        )
    kernel, bandwidth = _kernel(points, n_neighbours)
    pieces = connected_components(kernel, directed=False)[0]
    if pieces > 1:
        raise ValueError(
            f"the graph of the points falls into {pieces} pieces: raise n_neighbours "
            f"(now {n_neighbours}), or fit each piece as a class"
        )
    density = kernel.sum(axis=1)
    even = diags_array(1.0 / density) @ kernel @ diags_array(1.0 / density)
    degree = even.sum(axis=1)
    root = 1.0 / np.sqrt(degree)
    start = np.sqrt(degree)  # ARPACK's own start is random
    values, vectors = eigsh(
        diags_array(root) @ even @ diags_array(root), k=n_terms, which="LA", v0=start
    )
    modes = vectors[:, ::-1] * root[:, None] * np.sqrt(degree.sum())
    # an eigenvector's sign is arbitrary: the largest entry is positive
    modes *= np.sign(modes[np.abs(modes).argmax(axis=0), np.arange(n_terms)])
    modes[:, 0] = 1.0
    return GraphSpectrum(points, values[::-1], modes, np.log(density), bandwidth)


def _kernel(points: np.ndarray, n_neighbours: int) -> tuple[csr_array, float]:
    """Symmetric Gaussian weights [N, N] of neighbours and selves, and their bandwidth."""
    distance, index = cKDTree(points).query(points, n_neighbours + 1)
    bandwidth = float(np.median(distance[:, -1] ** 2)) / _LAST_NEIGHBOUR
    if bandwidth <= 0.0:
        raise ValueError("most points coincide with their neighbours: raise n_neighbours")
    rows = np.repeat(np.arange(len(points)), n_neighbours + 1)
    weight = np.exp(-(distance.ravel() ** 2) / bandwidth)
    one_way = csr_array(coo_array((weight, (rows, index.ravel())), (len(points),) * 2))
    return csr_array(one_way.maximum(one_way.T)), bandwidth


@final
@dataclass(frozen=True, eq=False)
class Tabulated(StateBasis):
    """Any functions on a finite set of states, given by their values: no gradient in the state.

    Attributes:
        table: [n_states, n_terms] values; the constant must be a combination of the columns.
        space: the finite set.
        order: [n_terms] frequencies; 0, 1, 2, ... if not given.
    """

    table: np.ndarray
    space: Discrete = Discrete()
    order: np.ndarray | None = None

    def __post_init__(self) -> None:
        rows, columns = self.space.n_states, len(self.frequencies)
        if self.table.shape != (rows, columns):
            raise ValueError(
                f"the table has shape {self.table.shape}: give {rows} rows, one a state, and "
                f"{columns} columns, one a frequency"
            )
        if np.abs(self.table @ self.constant_weights - 1.0).max() > 1e-3:
            raise ValueError(
                "no combination of the table's columns is constant: add a column of ones, so that "
                "a molecule at rest can be written"
            )

    @override
    @property
    def n_terms(self) -> int:
        return self.table.shape[1]

    @override
    @property
    def frequencies(self) -> np.ndarray:
        return np.arange(float(self.table.shape[1])) if self.order is None else self.order

    def __call__(self, tau: Array) -> Array:
        """Values [..., n_terms]."""
        return jnp.asarray(self.table, jnp.float32)[self.space.index(tau)]

    @override
    @cached_property
    def constant_weights(self) -> np.ndarray:
        """[n_terms] by least squares."""
        weights = np.linalg.lstsq(self.table, np.ones(len(self.table)), rcond=None)[0]
        weights[np.abs(weights) < 1e-9] = 0.0
        return weights

    @override
    @property
    def mean_weights(self) -> np.ndarray:
        """[n_terms] means of the columns."""
        return self.table.mean(axis=0)

    @override
    def coefficients_of(self, source: StateBasis) -> np.ndarray:
        """Least squares over the states."""
        values = np.asarray(source(self.space.nodes(self.space.n_states)), np.float64)
        return np.linalg.lstsq(self.table, values, rcond=None)[0]


class Landmarks(NamedTuple):
    """A basis on landmarks, and which points they are.

    Attributes:
        basis: its state is a landmark, class c of `basis.space` being `points[c]`.
        points: [n, d] coordinates of the landmarks.
    """

    basis: Tabulated
    points: np.ndarray

    def states_of(self, coordinates: np.ndarray) -> np.ndarray:
        """States [N, 1] of the landmarks nearest to coordinates [N, d]."""
        nearest = cKDTree(self.points).query(np.asarray(coordinates, np.float64))[1]
        return np.asarray(self.basis.space.state(nearest))


def landmark_basis(spectrum: GraphSpectrum, n: int, name: str = "landmark") -> Landmarks:
    """Modes on n of the points, spread over all of them: for coordinates of any dimension.

    The state space is the finite set of landmarks, all equally likely a priori; a particle's
    landmark is drawn exactly. Landmarks are chosen farthest first, so that they cover the set
    evenly however it is sampled. Cost grows with n: some tens to a few hundred.

    Args:
        spectrum: of all points.
        n: landmarks.
        name: of the knob.
    """
    points = spectrum.points
    if not spectrum.vectors.shape[1] <= n <= len(points):
        raise ValueError(
            f"{n} landmarks of {len(points)} points for {spectrum.vectors.shape[1]} terms: choose "
            "at least as many as terms and at most as many as points"
        )
    # from one end of the slowest mode, so that what is chosen follows from the points alone
    chosen = [int(spectrum.vectors[:, min(1, spectrum.vectors.shape[1] - 1)].argmax())]
    away = np.full(len(points), np.inf)
    while len(chosen) < n:
        away = np.minimum(away, np.sum((points - points[chosen[-1]]) ** 2, axis=1))
        chosen.append(int(away.argmax()))
    # numbered along the slowest mode, so that neighbouring numbers tend to be neighbours
    order = np.argsort(spectrum.vectors[chosen, min(1, spectrum.vectors.shape[1] - 1)])
    rows = np.asarray(chosen)[order]
    space = Discrete(name, n)
    return Landmarks(Tabulated(spectrum.vectors[rows], space, spectrum.frequencies), points[rows])


@final
@dataclass(frozen=True, eq=False)
class GraphLaplacian(StateBasis):
    """Modes as smooth functions of the coordinates themselves, by Nystroem extension.

    The state is the coordinates, each scaled to [0, 1] over the range of the points: an interval
    for one coordinate, a product of intervals (knobs name_1, name_2, ...) for two or three. The
    base measure is even over that box, also where no point was: there the modes take the values
    of the nearest points. Where the set is thin in its box, or has more coordinates, take
    `landmark_basis`. Differentiable in the state; every evaluation visits all N points.

    Attributes:
        spectrum: some hundreds of points, in 1 to 3 dimensions.
        name: of the knobs.
    """

    spectrum: GraphSpectrum
    name: str = "coordinate"

    def __post_init__(self) -> None:
        if self.spectrum.points.shape[1] > _MAX_BOX_DIM:
            raise ValueError(
                f"coordinates have {self.spectrum.points.shape[1]} dimensions, more than "
                f"{_MAX_BOX_DIM}: their box is mostly empty; use landmark_basis"
            )

    @override
    @cached_property
    def space(self) -> StateSpace:
        d = self.spectrum.points.shape[1]
        if d == 1:
            return Interval(self.name)
        return Product(tuple(Interval(f"{self.name}_{i + 1}") for i in range(d)))

    @property
    def _box(self) -> tuple[np.ndarray, np.ndarray]:
        """Corner [d] and sides [d]."""
        low, high = self.spectrum.points.min(axis=0), self.spectrum.points.max(axis=0)
        return low, np.maximum(high - low, 1e-12)

    def states_of(self, coordinates: np.ndarray) -> np.ndarray:
        """States [N, d] of coordinates [N, d]; outside of the points' range they go to its edge."""
        low, side = self._box
        return np.clip((np.asarray(coordinates, np.float64) - low) / side, 0.0, 1.0)

    @override
    @property
    def n_terms(self) -> int:
        return self.spectrum.vectors.shape[1]

    @override
    @property
    def frequencies(self) -> np.ndarray:
        return self.spectrum.frequencies

    def __call__(self, tau: Array) -> Array:
        """Values [..., n_terms]: a diffusion step from tau to the points, over its eigenvalues."""
        spectrum, (_, side) = self.spectrum, self._box
        points = jnp.asarray(self.states_of(spectrum.points), tau.dtype)
        scale = jnp.asarray(side**2 / spectrum.bandwidth, tau.dtype)
        distance = jnp.sum(scale * (tau[..., None, :] - points) ** 2, axis=-1)
        # far from all points every weight underflows: normalise in logs
        step = jax.nn.softmax(-distance - jnp.asarray(spectrum.log_density, tau.dtype), axis=-1)
        return step @ jnp.asarray(spectrum.vectors / spectrum.values, tau.dtype)

    @override
    @cached_property
    def mean_weights(self) -> np.ndarray:
        """[n_terms] means over the box."""
        return np.asarray(self(self.space.nodes(4096)), np.float64).mean(axis=0)

    @override
    def coefficients_of(self, source: StateBasis) -> np.ndarray:
        """Terms of the same spectrum are kept; any other basis' by least squares."""
        if isinstance(source, GraphLaplacian) and source.spectrum is not self.spectrum:
            nodes = self.space.nodes(4096)
            ours, theirs = (np.asarray(basis(nodes), np.float64) for basis in (self, source))
            return np.linalg.lstsq(ours, theirs, rcond=1e-6)[0]
        return super().coefficients_of(source)
