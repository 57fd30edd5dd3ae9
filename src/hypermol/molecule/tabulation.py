"""Any molecule as maps times functions of its state: how those that are not linear are shown.

A molecule known only through `fourier` is evaluated on a grid of states and Fourier points; its
densities there are fitted by a product of standard state bases, one for each knob. Nothing is
inferred from this form: it is what reports, exports and scores read.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.io.errors import InputError
from hypermol.molecule.protocol import LinearMolecule, Molecule
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import BASIS_OF, STATES_OF
from hypermol.space.state_space import StateSpace

#: Terms of each knob's basis for 1, 2, 3 and more knobs, which bounds the number of maps; as many
#: nodes along it determine them.
_TERMS = (17, 9, 5)


def _terms(space: StateSpace) -> int:
    return _TERMS[min(space.dim, len(_TERMS)) - 1]


def shown_states(space: StateSpace) -> dict[str, Any]:
    """The state bases that show a molecule over a space, as a part's table in a recipe has them.

    Raises:
        InputError: a knob is neither an interval nor a circle nor classes.
    """
    found = []
    for simple in space.simple_spaces:
        if type(simple) not in STATES_OF or not simple.dim:
            raise InputError(
                f"knobs {', '.join(simple.names)} live in a {type(simple).__name__}: use Interval, "
                "Circle, Discrete or a Product of them in state_space"
            )
        terms = len(simple.state_labels) or _terms(space)
        found.append((BASIS_OF[STATES_OF[type(simple)]], terms, simple.names[0]))
    keys = ("state_basis", "n_terms", "state_name")
    if len(found) == 1:
        return dict(zip(keys, found[0], strict=True))
    return {key: list(values) for key, values in zip(keys, zip(*found, strict=True), strict=True)}


def grid_density(molecule: Molecule, theta: Any, tau: Array, n: int, voxel_size: float) -> Array:
    """V(., tau) on a grid [n, n, n] of voxels in Angstrom, z first, from its transform.

    In the units in which an orthonormal image is the transform's slice; band-limited to the sphere
    that the grid resolves.
    """
    axis = np.fft.fftfreq(n, 1.0 / n)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    points = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    inside = np.flatnonzero(np.sum(points**2, axis=1) <= (n // 2 - 1) ** 2)
    k = jnp.asarray(points[inside] / (n * voxel_size), jnp.float32)
    full = jnp.zeros(n**3, jnp.complex64).at[inside].set(molecule.fourier(theta, k, tau))
    return jnp.fft.fftshift(jnp.fft.ifftn(full.reshape(n, n, n)).real)


def tabulate(molecule: Molecule, theta: Any, form: LinearMolecule, voxels: Voxels) -> Array:
    """Maps [G, n, n, n] of `form.shown` whose sum with its weights is nearest to the molecule.

    Args:
        molecule, theta: to be shown.
        form: has the same state space, up to names, and the weights.
        voxels: the `Voxels` whose grid and units the maps are in.
    """
    space = form.state_space
    with jax.ensure_compile_time_eval():  # numbers, also where theta is traced
        nodes = space.nodes(_terms(space) ** space.dim)
        inverse = np.linalg.pinv(np.asarray(form.shown_weights(nodes), np.float64))
    size = voxels.voxel_size_angstrom
    at_nodes = jax.lax.map(
        lambda tau: grid_density(molecule, theta, tau, voxels.n, size) / voxels.scale, nodes
    )
    return jnp.tensordot(jnp.asarray(inverse, jnp.float32), at_nodes, axes=1)
