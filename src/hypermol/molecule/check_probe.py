"""Where `check_model` evaluates a molecule: random coefficients, frequencies and states."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.molecule.protocol import LinearMolecule

#: Frequencies that are probed.
N_POINTS = 12
#: Powers of e that the spectrum of smooth maps falls by up to the last shell.
_FALL = 6.0


@final
@dataclass(frozen=True, eq=False)
class Probe:
    """A model and where it is evaluated."""

    model: Any
    radius_angstrom: float
    resolution_angstrom: float
    key: Array

    @cached_property
    def theta(self) -> Any:
        """`init` moved off its start at random: starts at zero would hide most mistakes."""
        return self.other_theta(0)

    def other_theta(self, i: int) -> Any:
        """A random neighbour of `init`."""
        leaves, tree = jax.tree.flatten(self.model.init(self.key))
        keys = jax.random.split(jax.random.fold_in(self.key, 100 + i), max(len(leaves), 1))
        moved = []
        for leaf, key in zip(leaves, keys, strict=False):
            size = jnp.sqrt(jnp.mean(jnp.square(leaf))) if jnp.size(leaf) else 1.0
            spread = 0.1 * jnp.where(size > 0, size, 10.0)
            moved.append(leaf + spread * jax.random.normal(key, jnp.shape(leaf), leaf.dtype))
        return jax.tree.unflatten(tree, moved)

    @cached_property
    def smooth_theta(self) -> Any:
        """theta with maps of falling spectrum where the model can draw such.

        White maps have half their power at the last shells, which a density on a grid folds once
        it is turned: that is no mistake of the model's.
        """
        if not isinstance(self.model, LinearMolecule):
            return self.theta
        shells = jnp.arange(len(self.model.slice_gain))
        spectrum = jnp.tile(jnp.exp(-_FALL * shells / len(shells)), (len(self.model.term_sizes), 1))
        maps = self.model.precision_root(jax.random.fold_in(self.key, 5), spectrum)
        return self.theta._replace(maps=maps)

    @cached_property
    def k(self) -> Array:
        """Points [12, 3] in 1/Angstrom inside the wanted resolution; the first is zero."""
        k = jax.random.normal(jax.random.fold_in(self.key, 1), (N_POINTS, 3))
        length = jnp.linalg.norm(k, axis=-1, keepdims=True)
        radii = jnp.linspace(0.0, 1.0, N_POINTS)[:, None] / self.resolution_angstrom
        return k / length * radii

    @cached_property
    def states(self) -> Array:
        """A few states [n, dim], one of them at the origin of the space's coordinates."""
        space = self.model.state_space
        inside = space.sample_base(jax.random.fold_in(self.key, 2), (3,))
        return jnp.concatenate([inside, space.wrap(jnp.zeros((1, space.dim)))])

    @cached_property
    def fourier(self) -> Callable[..., Array]:
        """The model's `fourier`, compiled: calls one operation at a time are slow."""
        return jax.jit(self.model.fourier)

    def relative(self, found: Array, wanted: Array) -> float:
        """Largest difference as a part of the wanted values' rms."""
        scale = float(jnp.sqrt(jnp.mean(jnp.abs(wanted) ** 2)))
        return float(jnp.max(jnp.abs(found - wanted))) / (scale + 1e-30)
