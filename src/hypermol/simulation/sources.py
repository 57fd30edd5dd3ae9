"""Where densities come from: a molecule with a `fourier` function, or a stack of maps.

Both give slices in the same unit: a pixel of the image is the sum over z of the density sampled
on voxels of the pixel's size, i.e. the integral over z divided by the pixel size (eq. 5).
"""

import abc
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, final

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jax import Array

from hypermol.io.errors import InputError
from hypermol.simulation.map_slices import padded_transform, slices_of_transform
from hypermol.space.state_space import StateSpace

_BLOCK = 16
_POINTS_AT_ONCE = 8192


class SimulatedMolecule(Protocol):
    """What a molecule needs to be simulated."""

    @property
    def state_space(self) -> StateSpace:
        """Where tau lives."""

    def init(self, key: Array) -> Any:
        """Parameters theta."""

    def fourier(self, theta: Any, k: Array, tau: Array) -> Array:
        """Continuous transform, complex [K] at k [K, 3] in 1/Angstrom."""


class Source(abc.ABC):
    """Densities at states."""

    @property
    @abc.abstractmethod
    def state_space(self) -> StateSpace:
        """Where tau lives."""

    @abc.abstractmethod
    def available(self, tau: np.ndarray) -> np.ndarray:
        """The states [N, dim] nearest to `tau` [N, dim] that the source can show."""

    @abc.abstractmethod
    def check(self, box: int, pixel_size_angstrom: float) -> None:
        """Raise InputError if images of this size cannot be made."""

    @abc.abstractmethod
    def slices(
        self, tau: np.ndarray, rotations: np.ndarray, frequencies: np.ndarray, grid: "Grid"
    ) -> np.ndarray:
        """Slices complex64 [N, K]: `sum_r V(r) exp(-2 pi i k.r)` over voxels of the pixel size.

        Args:
            tau: [N, dim].
            rotations: [N, 3, 3].
            frequencies: [K, 2] (kx, ky) in units of 1/box.
            grid: the images' grid.
        """

    @abc.abstractmethod
    def truth_maps(self, n: int, grid: "Grid") -> tuple[np.ndarray, np.ndarray]:
        """About n maps float16 [F, box, box, box] and their states [F, dim]."""


@final
@dataclass(frozen=True)
class Grid:
    """Side of the images (and truth maps) in pixels, and the pixel's side in Angstrom."""

    box: int
    pixel_size_angstrom: float


@final
@dataclass(frozen=True, eq=False)
class MoleculeSource(Source):
    """A molecule whose slices are exact: nothing is interpolated.

    Attributes:
        molecule: anything with the four-name protocol.
        theta: its parameters; `init` with key 0 if None.
    """

    molecule: SimulatedMolecule
    theta: Any = None

    @property
    def state_space(self) -> StateSpace:
        """The molecule's states."""
        return self.molecule.state_space

    @property
    def parameters(self) -> Any:
        """theta."""
        return self.molecule.init(jax.random.key(0)) if self.theta is None else self.theta

    def available(self, tau: np.ndarray) -> np.ndarray:
        """Every state."""
        return tau

    def check(self, box: int, pixel_size_angstrom: float) -> None:
        """Every size can be made."""

    def slices(
        self, tau: np.ndarray, rotations: np.ndarray, frequencies: np.ndarray, grid: Grid
    ) -> np.ndarray:
        """Exact slices: V-hat(R^T k) / pixel^3."""
        k2 = jnp.asarray(frequencies / (grid.box * grid.pixel_size_angstrom), jnp.float32)
        block = partial(_molecule_block, self.molecule.fourier)
        theta = self.parameters
        return in_blocks(
            lambda t, r: block(theta, t, r, k2) / grid.pixel_size_angstrom**3, (tau, rotations)
        )

    def truth_maps(self, n: int, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """The density at the state space's nodes, inside the images' Nyquist sphere."""
        tau = np.asarray(self.state_space.nodes(n), dtype=np.float64)
        theta = self.parameters
        ball = _nyquist_ball(grid.box)
        k3 = jnp.asarray(_signed(ball, grid.box) / (grid.box * grid.pixel_size_angstrom))
        maps = np.empty((len(tau), *(grid.box,) * 3), np.float16)
        for i, state in enumerate(jnp.asarray(tau, jnp.float32)):
            values = _transform_at(self.molecule.fourier, theta, k3.astype(jnp.float32), state)
            half = np.zeros((grid.box, grid.box, grid.box // 2 + 1), np.complex64)
            half[ball[:, 2], ball[:, 1], ball[:, 0]] = values / grid.pixel_size_angstrom**3
            maps[i] = np.fft.fftshift(scipy.fft.irfftn(half, s=(grid.box,) * 3))
        return maps, tau


@final
@dataclass(frozen=True, eq=False)
class MapSource(Source):
    """Maps at given states; a particle shows the map whose state is nearest to its own.

    Attributes:
        maps: float [F, N, N, N], (z, y, x), origin at N // 2.
        tau: float64 [F, dim], the maps' states.
        voxel_size_angstrom: side of a voxel; images have the same pixel size.
        space: where tau lives.
    """

    maps: np.ndarray
    tau: np.ndarray
    voxel_size_angstrom: float
    space: StateSpace

    def __post_init__(self) -> None:
        if self.maps.ndim != 4 or len(set(self.maps.shape[1:])) != 1:
            raise InputError(f"maps of shape {self.maps.shape}: give [F, N, N, N]")
        if self.tau.shape != (len(self.maps), self.space.dim):
            raise InputError(
                f"{len(self.maps)} maps have states of shape {self.tau.shape}: give one row of "
                f"{self.space.dim} for each map"
            )

    @property
    def state_space(self) -> StateSpace:
        """The states given."""
        return self.space

    def frames(self, tau: np.ndarray) -> np.ndarray:
        """Index [N] of the map nearest to each state."""
        return nearest_state(tau, self.tau, self.space)

    def available(self, tau: np.ndarray) -> np.ndarray:
        """The nearest map's states."""
        return self.tau[self.frames(tau)]

    def check(self, box: int, pixel_size_angstrom: float) -> None:
        """The pixel size is the maps', and the maps fit into the box."""
        if abs(pixel_size_angstrom / self.voxel_size_angstrom - 1.0) > 1e-3:
            raise InputError(
                f"pixel size {pixel_size_angstrom:g} differs from the maps' voxel size "
                f"{self.voxel_size_angstrom:g}: ask for the same"
            )
        if box < self.maps.shape[-1]:
            raise InputError(
                f"box {box} px is smaller than the maps ({self.maps.shape[-1]}): ask for at least "
                "that, or crop the maps"
            )

    def slices(
        self, tau: np.ndarray, rotations: np.ndarray, frequencies: np.ndarray, grid: Grid
    ) -> np.ndarray:
        """Slices interpolated in each map's oversampled transform (see `map_slices`)."""
        frames = self.frames(tau)
        k2 = jnp.asarray(frequencies, jnp.float32)
        out = np.empty((len(tau), len(frequencies)), np.complex64)
        for frame in np.unique(frames):
            transform = jnp.asarray(padded_transform(self.maps[frame]))
            chosen = np.flatnonzero(frames == frame)
            out[chosen] = in_blocks(
                partial(self._block, transform, k2, grid.box), (rotations[chosen],)
            )
        return out

    @staticmethod
    def _block(transform: Array, k2: Array, box: int, rotations: Array) -> Array:
        return slices_of_transform(transform, rotations, k2, box)

    def truth_maps(self, n: int, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """All maps, padded to the box; `n` is not needed."""
        size = self.maps.shape[-1]
        out = np.zeros((len(self.maps), *(grid.box,) * 3), np.float16)
        inner = slice(grid.box // 2 - size // 2, grid.box // 2 - size // 2 + size)
        out[:, inner, inner, inner] = self.maps
        return out, self.tau


def nearest_state(tau: np.ndarray, states: np.ndarray, space: StateSpace) -> np.ndarray:
    """Index [N] of the row of `states` [F, dim] nearest to each row of `tau` [N, dim]."""
    best = np.zeros(len(tau), np.int64)
    smallest = np.full(len(tau), np.inf)
    for i, state in enumerate(states):
        distance = np.sum(space.difference(tau, state) ** 2, axis=-1)
        closer = distance < smallest
        best[closer], smallest[closer] = i, distance[closer]
    return best


def in_blocks(function: Any, arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    """Apply `function` to blocks of a fixed length, the last one padded with its last row.

    One compiled shape serves every batch size, and a row's result does not depend on it.
    """
    n = len(arrays[0])
    pieces = []
    for start in range(0, n, _BLOCK):
        rows = np.minimum(np.arange(start, start + _BLOCK), n - 1)
        block = function(*(jnp.asarray(a[rows]) for a in arrays))
        pieces.append(np.asarray(block)[: n - start])
    return np.concatenate(pieces)


@partial(jax.jit, static_argnums=0)
def _molecule_block(fourier: Any, theta: Any, tau: Array, rotations: Array, k2: Array) -> Array:
    """Slices complex [B, K] at k2 [K, 2] in 1/Angstrom."""

    def one(state: Array, rotation: Array) -> Array:
        k3 = jnp.matmul(k2, rotation[:2], precision=jax.lax.Precision.HIGHEST)
        return fourier(theta, k3, state)

    return jax.vmap(one)(tau.astype(k2.dtype), rotations.astype(k2.dtype))


def _nyquist_ball(box: int) -> np.ndarray:
    """Indices int [K, 3] (x, y, z) in `rfftn`'s order of the frequencies |k| <= (box - 1) // 2."""
    axis = np.abs(_signed(np.arange(box), box))
    radius2 = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis[: box // 2 + 1] ** 2
    z, y, x = np.nonzero(radius2 <= ((box - 1) // 2) ** 2)
    return np.stack([x, y, z], axis=-1)


def _signed(places: np.ndarray, box: int) -> np.ndarray:
    """Signed frequencies in 1/box of indices in a transform, zero frequency first."""
    return np.where(places > (box - 1) // 2, places - box, places)


@partial(jax.jit, static_argnums=0)
def _transform_at(fourier: Any, theta: Any, k3: Array, tau: Array) -> Array:
    """The transform complex [K] at k3 [K, 3], some thousand points at a time."""
    count = -(-len(k3) // _POINTS_AT_ONCE)
    chunks = jnp.resize(k3, (count, _POINTS_AT_ONCE, 3))
    values = jax.lax.map(lambda k: fourier(theta, k, tau), chunks)
    return values.reshape(-1)[: len(k3)]
