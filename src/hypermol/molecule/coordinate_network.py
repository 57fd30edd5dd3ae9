"""A coordinate network: a neural network of space and state that carries and weighs density.

Gaussians sit on a lattice c_j in a ball. A small network f(c, tau) says how far the density at c
has moved and how much of it there is, so that, with weights b_j,

    V-hat(k, tau) = exp(-2 pi^2 s^2 |k|^2) sum_j (b_j + f_4(c_j, tau)) exp(-2 pi i k.x_j(tau)),
    x_j(tau) = c_j + D tanh(f_123(c_j, tau)).

The network lives in real space on purpose: its sum of real Gaussians is Hermitian in k whatever
the weights, it has the Gaussian envelope in |k| and lies within a ball of radius + D, none of
which a network of k has by itself; and it is run at n points instead of at every pixel.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.molecule.moving_gaussians import density_of_gaussians, transform_of_gaussians
from hypermol.molecule.state_basis import Cosine, StateBasis
from hypermol.space.state_space import StateSpace

#: layers: pairs of white weights [in, out] and biases [out]; weight [n]: b_j.
Theta = dict[str, Any]

_OUTPUTS = 4


@final
@dataclass(frozen=True)
class CoordinateNetwork:
    """A neural hyper-molecule with the four-name protocol (sec. 3.6).

    theta is white: every entry has a standard normal prior, and a layer divides its weights by the
    root of their number, so that priors and step sizes do not depend on the network's width.

    Attributes:
        state_basis: features of the state; their number bounds how fast density may change in tau.
        radius_angstrom: radius of the ball of Gaussian centres.
        spacing_angstrom: of the lattice; the Gaussians' standard deviation is 0.6 of it.
        travel_angstrom: D, largest displacement along each axis.
        hidden: units of each of the hidden layers.
        n_waves: random plane waves of the point that the network sees, beside the point itself.
        init_spread: `init` draws at this many prior standard deviations. Small starts hardly move,
            so that the largest motion of the data is found first and the state does not fold.
    """

    state_basis: StateBasis = field(default_factory=lambda: Cosine(3))
    radius_angstrom: float = 60.0
    spacing_angstrom: float = 20.0
    travel_angstrom: float = 25.0
    hidden: tuple[int, ...] = (24, 24)
    n_waves: int = 8
    init_spread: float = 0.3

    @property
    def state_space(self) -> StateSpace:
        """The state basis' space."""
        return self.state_basis.space

    @property
    def width_angstrom(self) -> float:
        """Standard deviation s of the Gaussians: neighbours overlap into a smooth density."""
        return 0.6 * self.spacing_angstrom

    @cached_property
    def centres(self) -> np.ndarray:
        """float32 [n, 3], the cubic lattice's points in the ball."""
        reach = int(self.radius_angstrom // self.spacing_angstrom)
        axis = self.spacing_angstrom * np.arange(-reach, reach + 1)
        points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        inside = np.linalg.norm(points, axis=-1) <= self.radius_angstrom
        return points[inside].astype(np.float32)

    @cached_property
    def place_features(self) -> np.ndarray:
        """float32 [n, 3 + 2 n_waves]: x, and cosines and sines of random waves of x."""
        x = self.centres / self.radius_angstrom
        waves = x @ np.random.default_rng(0).normal(size=(3, self.n_waves)) * np.pi
        return np.concatenate([x, np.cos(waves), np.sin(waves)], axis=-1).astype(np.float32)

    @property
    def _sizes(self) -> tuple[int, ...]:
        return (3 + 2 * self.n_waves + self.state_basis.n_terms, *self.hidden, _OUTPUTS)

    def init(self, key: Array) -> Theta:
        """A draw around zero, the prior's mean."""
        keys = jax.random.split(key, 2 * len(self._sizes))
        layers = [
            (
                jax.random.normal(keys[2 * i], (n_in, n_out)),
                jax.random.normal(keys[2 * i + 1], (n_out,)),
            )
            for i, (n_in, n_out) in enumerate(zip(self._sizes[:-1], self._sizes[1:], strict=True))
        ]
        theta = {"layers": layers, "weight": jax.random.normal(keys[-1], (len(self.centres),))}
        return jax.tree.map(lambda x: self.init_spread * x, theta)

    def log_prior(self, theta: Theta) -> Array:
        """Standard normal, up to a constant."""
        return jax.tree.reduce(jnp.add, jax.tree.map(lambda x: -0.5 * jnp.sum(x**2), theta))

    def network(self, theta: Theta, tau: Array) -> Array:
        """f [n, 4] at every lattice point and the state tau [dim]."""
        state = jnp.broadcast_to(
            self.state_basis(tau), (len(self.centres), self.state_basis.n_terms)
        )
        x = jnp.concatenate([jnp.asarray(self.place_features), state], axis=-1)
        for i, (weight, bias) in enumerate(theta["layers"]):
            x = x @ weight / np.sqrt(weight.shape[0]) + 0.3 * bias
            x = jnp.tanh(x) if i < len(self.hidden) else x
        return x

    def gaussians(self, theta: Theta, tau: Array) -> tuple[Array, Array, Array]:
        """Integrals [n], standard deviations [n] and centres [n, 3] in Angstrom at tau [dim]."""
        outputs = self.network(theta, tau)
        moved = jnp.asarray(self.centres) + self.travel_angstrom * jnp.tanh(outputs[:, :3])
        widths = jnp.full(len(self.centres), self.width_angstrom)
        return theta["weight"] + outputs[:, 3], widths, moved

    def fourier(self, theta: Theta, k: Array, tau: Array) -> Array:
        """V-hat[theta](k, tau): complex [K] at k [K, 3] in 1/Angstrom."""
        return transform_of_gaussians(*self.gaussians(theta, tau), k)

    def density(self, theta: Theta, tau: Array, coordinates: Array) -> Array:
        """V[theta](r, tau) in 1/Angstrom^3: [...] at coordinates [..., 3] (x, y, z) in Angstrom."""
        return density_of_gaussians(*self.gaussians(theta, tau), coordinates)
