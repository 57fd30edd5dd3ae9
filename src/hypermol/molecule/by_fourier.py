"""Any molecule that has `fourier` as the posterior sees molecules (sec. 3.6, 4.2).

Its images are slices `V-hat(R' k, tau)` taken point by point, times a gain that turns the
molecule's own units into those of the images; every gradient goes through that one call. It has
one feature, whose every state is a position, so that all kernels that weigh candidates or walk by
gradients hold for it. It is shown as maps tabulated over its states.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.molecule.protocol import LinearMolecule, Molecule
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.tabulation import tabulate
from hypermol.space.state_space import StateSpace

#: Prior standard deviation of the logarithm of the gain.
GAIN_SD = 1.0
#: Slices taken together: bounds the memory of what a molecule computes on its way.
_CHUNK = 32


class Scaled(NamedTuple):
    """theta: the molecule's own, and the logarithm of image units per molecule unit.

    The gain's prior is normal about `ByFourier.log_gain`, of standard deviation 1.
    """

    own: Any
    log_gain: Array


@final
@dataclass(frozen=True, eq=False)
class ByFourier:
    """A `SlicedMolecule` made of a `Molecule`.

    Attributes:
        molecule: anything with the four names of `protocol.Molecule`.
        box_angstrom: side of the images.
        form: over the same states, the linear molecule that it is shown as.
        voxels: the grid that it is shown on.
        log_gain: prior mean of the logarithm of image units per molecule unit.
    """

    molecule: Molecule
    box_angstrom: float
    form: LinearMolecule
    voxels: Voxels
    log_gain: float = 0.0

    is_linear = False
    frame_is_free = False
    term_labels: tuple[tuple[str, int], ...] = ()

    def with_gain(self, log_gain: float) -> "ByFourier":
        """The same with another prior mean of the gain."""
        return replace(self, log_gain=log_gain)

    @property
    def state_space(self) -> StateSpace:
        """The molecule's."""
        return self.molecule.state_space

    @property
    def is_position(self) -> tuple[bool, ...]:
        """Every state moves what is sliced, for all that is known."""
        return (True,) * self.state_space.dim

    @property
    def term_sizes(self) -> np.ndarray:
        """None: all of the prior is the molecule's own."""
        return np.zeros(0, int)

    def init(self, key: Array) -> Scaled:
        """The molecule's first coefficients, at the gain that is expected."""
        return Scaled(self.molecule.init(key), jnp.asarray(self.log_gain, jnp.float32))

    def fourier(self, theta: Scaled, k: Array, tau: Array) -> Array:
        """The molecule's transform in image units."""
        return jnp.exp(theta.log_gain) * self.molecule.fourier(theta.own, k, tau)

    def log_prior(self, theta: Scaled) -> Array:
        """The molecule's own, and the gain's."""
        away = (theta.log_gain - self.log_gain) / GAIN_SD
        return self.molecule.log_prior(theta.own) - 0.5 * away**2

    def log_prior_beside(self, theta: Scaled) -> Array:
        """All of it."""
        return self.log_prior(theta)

    def prior_energy(self, theta: Scaled, spectrum: Array) -> Array:
        """mu has no spectrum of theta: [0]."""
        return jnp.zeros(0)

    def prepare(self, theta: Scaled) -> Scaled:
        """Nothing is known that would make slices fast."""
        return theta

    def features(
        self, prepared: Scaled, rotations: Array, states: Array, frequencies: Array
    ) -> Array:
        """Slices, complex [B, 1, K], point by point."""

        def one(item: tuple[Array, Array]) -> Array:
            rotation, tau = item
            # at full precision: on GPUs TF32 would move the slice
            k = jnp.matmul(
                frequencies / self.box_angstrom,
                rotation[: frequencies.shape[-1]],
                precision=jax.lax.Precision.HIGHEST,
            )
            return self.fourier(prepared, k, tau)[None]

        # checkpointed: the backward pass holds what the molecule computes of one chunk at a time
        chunk = min(_CHUNK, rotations.shape[0])
        return jax.lax.map(jax.checkpoint(one), (rotations, states), batch_size=chunk)

    def weights(self, tau: Array) -> Array:
        """The one feature has all of the weight, [..., 1]."""
        return jnp.ones((*tau.shape[:-1], 1))

    def lattice(self, tau: Array, n: int) -> Array:
        """No state acts through the weights: `tau` alone, [1, dim]."""
        return tau[None]

    def shown(self, theta: Scaled) -> Array:
        """Maps [G, n, n, n] over the states, in image units."""
        maps = tabulate(self.molecule, theta.own, self.form, self.voxels)
        return jnp.exp(theta.log_gain) * maps

    def shown_weights(self, tau: Array) -> Array:
        """The form's, [..., G]."""
        return self.form.shown_weights(tau)

    def mean(self, theta: Scaled) -> np.ndarray:
        """Mean density over the states' base measure, [n, n, n]."""
        nodes = self.state_space.nodes(9)
        weights = jnp.mean(self.shown_weights(nodes), axis=0)
        return np.asarray(jnp.tensordot(weights, self.shown(theta), axes=1))

    def parameters(self, theta: Scaled) -> Any:
        """The molecule's own coefficients."""
        return {"own": theta.own}

    def first_states(self, key: Array, theta: Any, states: np.ndarray, source: Any) -> np.ndarray:
        """States of the same molecule as they are, else draws from the base measure."""
        if not source.is_linear:
            return states
        return np.asarray(self.state_space.sample_base(key, (len(states),)))

    def resize(self, theta: Any, source: Any) -> Scaled:
        """Coefficients hold at any resolution; from another molecule nothing is taken."""
        return self.init(jax.random.key(0)) if source.is_linear else theta
