"""Images against a molecule from every direction of a grid, at every shift of a lattice."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.fitting.blocks.hyperparameters import host_generator
from hypermol.inference.anywhere import Cells
from hypermol.inference.ensemble import contrast_marginal
from hypermol.posterior.particle_conditional import Templates, match_evidence, seen_from
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters
from hypermol.space.rotation import (
    matrix_from_quaternion,
    quaternion_multiply,
    random_quaternions,
)
from hypermol.space.rotation_grid import super_fibonacci

#: Rotations of the grid over kmax^3: neighbours are about 2 / kmax apart.
_ROTATIONS = 9.0
#: Balls about the grid's rotations hold this many times the volume that there is.
_OVERLAP = 2.0
#: Spacing of the lattice of shifts: turns of a wave of the finest frequency.
_SPACING_TURNS = 0.17
#: What shifts are expected to be where nothing is known of them, as a share of the box; lattices
#: reach twice as far.
SHIFT_SHARE = 0.06
#: Rotations sliced together.
_SLICED = 512


def shift_spacing_px(box: int, kmax: int) -> float:
    """Spacing of shifts that is as fine as frequencies up to kmax tell."""
    return _SPACING_TURNS * box / kmax


def steps_of_all(kmax: int) -> int:
    """Steps from the middle of a lattice to its edge, where nothing is known of shifts."""
    return int(np.ceil(2.0 * SHIFT_SHARE * kmax / _SPACING_TURNS))


def shift_lattice(spacing_px: float, steps: int) -> np.ndarray:
    """Square lattice [S, 2] about 0, in pixels."""
    axis = spacing_px * np.arange(-steps, steps + 1)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)


def some_blocks(key: Array, shape: tuple[int, ...], particles: int) -> np.ndarray:
    """Blocks drawn at random that hold about so many particles, int [R] in order.

    Args:
        key: random key.
        shape: blocks and particles a block.
        particles: how many.
    """
    n_blocks, block = shape
    count = min(n_blocks, -(-particles // block))
    return np.sort(host_generator(key).choice(n_blocks, count, replace=False))


class Looked(NamedTuple):
    """Where particles are looked for, and the molecule from there."""

    cells: Cells
    templates: Templates


class Matcher:
    """One grid of rotations, turned anew whenever it is asked, and one lattice of shifts.

    Every direction of the grid has a state of its own, drawn at random: a molecule that moves is
    looked for in all of its states. Shifts are relative to a pivot, which images are moved to
    (`about`).
    """

    def __init__(self, posterior: Posterior, steps: int) -> None:
        plane = posterior.plane
        self._posterior = posterior
        count = -(-int(_ROTATIONS * plane.kmax**3) // _SLICED) * _SLICED
        self._grid = super_fibonacci(count)
        self.spacing_px = shift_spacing_px(plane.box, plane.kmax)
        self._shifts = shift_lattice(self.spacing_px, steps)
        # (4 / 3) pi reach^3 of 8 pi^2, the volume of all rotation vectors
        self._reach = float(np.cbrt(6.0 * np.pi * _OVERLAP / count))

    def look(self, key: Array, theta: object) -> Looked:
        """Where every particle is looked for, and what it is matched with."""
        keys = jax.random.split(key)
        cells = self._cells(keys[0])
        return Looked(cells, self._templates(keys[1], theta, cells))

    def _cells(self, key: Array) -> Cells:
        """The grid turned at random, and the lattice."""
        grid = jnp.asarray(self._grid, jnp.float32)
        turned = quaternion_multiply(grid, random_quaternions(key, 1))
        shifts = jnp.asarray(self._shifts, jnp.float32)
        return Cells(turned, shifts, self._reach, self.spacing_px)

    def about(self, pixels: Array, pivot_px: Array) -> Array:
        """Images [..., K] whose shifts are told from a pivot [..., 2]."""
        return pixels * jnp.conj(self._posterior.imaging.phases(self._posterior.plane, pivot_px))

    def _templates(self, key: Array, theta: object, cells: Cells) -> Templates:
        """The molecule from all rotations, a part at a time."""
        posterior = self._posterior
        prepared = posterior.molecule.prepare(theta)
        rotations = matrix_from_quaternion(cells.quaternions)
        states = posterior.molecule.state_space.sample_base(key, (len(rotations),))
        parts = jax.lax.map(
            lambda some: seen_from(posterior, prepared, *some),
            (
                rotations.reshape(-1, _SLICED, 3, 3),
                states.reshape(len(states) // _SLICED, _SLICED, states.shape[-1]),
            ),
        )
        phases = posterior.imaging.phases(posterior.plane, cells.shifts_px[None])[0]
        pixels = parts.reshape(len(rotations), -1)
        power = jnp.sum(pixels.reshape(len(rotations), 2, -1) ** 2, axis=1)
        return Templates(pixels, power, jnp.conj(phases))

    def evidence(
        self, mu: Hyperparameters, templates: Templates, pixels: Array, ctf: Array
    ) -> tuple[Array, Array]:
        """One image [K] with its CTF [K]: (gram [G], linear [G, S]) of its contrast."""
        return match_evidence(self._posterior, mu, templates, pixels, ctf)

    def log_weights(
        self, mu: Hyperparameters, templates: Templates, pixels: Array, ctf: Array
    ) -> Array:
        """One image's log-likelihood in every cell, contrast integrated out, [G, S]."""
        gram, linear = self.evidence(mu, templates, pixels, ctf)
        return contrast_marginal(linear, gram[:, None], 1.0 / mu.contrast_sd**2)
