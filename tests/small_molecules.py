"""Molecules small enough for statistical tests: a hinged pair of parts, and a black box."""

from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.molecule.by_fourier import ByFourier
from hypermol.molecule.composite import Composite, composite, expansion
from hypermol.molecule.parts import Part
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import Chebyshev, Constant, Cosine
from hypermol.molecule.trajectory import Hinge
from hypermol.space.state_space import Interval, StateSpace


def hinged_pair(box: int, kmax: int, radius_px: float) -> Composite:
    """A body that deforms, and a rigid arm that turns by a learned angle about a learned axis."""
    basis = Voxels(box, 1.0, kmax, radius_px)
    hinge = Hinge(
        Chebyshev(2, Interval("arm")),
        pivot_angstrom=(0.0, -1.0, 0.5),
        axis=(0.3, 0.2, 1.0),
        angle_scale_rad=0.6,
        axis_scale_rad=0.3,
        pivot_scale_angstrom=0.5,
        start_rad=0.4,
    )
    arm = Part("arm", basis, Constant(), hinge)
    return composite((Part("body", basis, Cosine(2, Interval("bend"))), arm))


@final
@dataclass(frozen=True)
class TwoLobes:
    """A molecule that only has the four names: two Gaussian lobes, one on a learned straight path.

    All coefficients are standard normal: relative heights, places, and the path's end.
    """

    state_space: StateSpace

    def init(self, key: Array) -> dict[str, Array]:
        """Lobes as they stand."""
        return {"height": jnp.zeros(2), "place": jnp.zeros((2, 3)), "path": jnp.zeros(3)}

    def fourier(self, theta: dict[str, Array], k: Array, tau: Array) -> Array:
        """Complex [n] at k [n, 3] in 1/Angstrom; the lobe's place is linear in the first knob."""
        rest = np.array([[0.8, 0.5, -0.4], [-1.0, 0.3, 0.6]], np.float32)
        places = rest + 0.4 * theta["place"]
        way = jnp.asarray([1.5, -0.5, 1.0]) + 0.4 * theta["path"]
        places = places.at[1].add((tau[0] - 0.5) * way)
        envelope = jnp.exp(-2.0 * np.pi**2 * 0.7**2 * jnp.sum(k**2, axis=-1))
        waves = jnp.exp(-2j * np.pi * jnp.einsum("nx,lx->nl", k, places))
        return envelope * (waves @ (1.0 + 0.4 * theta["height"]).astype(waves.dtype))

    def log_prior(self, theta: dict[str, Array]) -> Array:
        """Standard normal."""
        return sum((-0.5 * jnp.sum(x**2) for x in jax.tree.leaves(theta)), jnp.zeros(()))


def two_lobes(space: StateSpace, box: int, kmax: int, log_gain: float) -> ByFourier:
    """The black box as the posterior sees it; shown by two cosine terms whatever the states."""
    voxels = Voxels(box, 1.0, kmax, 0.4 * box)
    form = expansion(voxels, Cosine(2))
    return ByFourier(TwoLobes(space), float(box), form, voxels, log_gain)
