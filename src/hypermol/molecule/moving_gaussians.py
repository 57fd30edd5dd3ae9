"""A molecule that is a sum of isotropic Gaussians whose centres move with the state (sec. 3.1).

`V(r, tau) = sum_j a_j (2 pi s_j^2)^(-3/2) exp(-|r - c_j(tau)|^2 / (2 s_j^2))`, with transform
`V-hat(k, tau) = sum_j a_j exp(-2 pi^2 s_j^2 |k|^2) exp(-2 pi i k.c_j(tau))`: projections are
exact slices (eq. 5-6), with no grid in between.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.space.state_space import StateSpace

#: amplitude [n] (integral of the density), width [n] (standard deviation in Angstrom), path
#: (whatever the molecule's path function takes; [n_terms, n, 3] in Angstrom for `BasisPath`).
Theta = dict[str, Any]
#: `init` of Gaussians to be fitted: see `random_gaussians`.
_START_SPREAD = 0.1
_START_STRAIN = 0.15
#: (path parameters, tau [dim]) to centres [n, 3] in Angstrom.
PathFunction = Callable[[Any, Array], Array]


def transform_of_gaussians(amplitude: Array, width: Array, centres: Array, k: Array) -> Array:
    """Continuous Fourier transform of a sum of Gaussians.

    Args:
        amplitude: [n] integrals a_j.
        width: [n] standard deviations s_j in Angstrom.
        centres: [n, 3] (x, y, z) in Angstrom.
        k: [K, 3] in 1/Angstrom.

    Returns:
        complex [K].
    """
    k2 = jnp.sum(k**2, axis=-1)
    envelope = amplitude[:, None] * jnp.exp(-2.0 * np.pi**2 * width[:, None] ** 2 * k2)
    # at full precision: on GPUs a TF32 phase would be wrong by several percent
    turns = jnp.matmul(centres, k.T, precision=jax.lax.Precision.HIGHEST)
    cosine, sine = cos_sin_of_turns(turns)
    return jax.lax.complex(jnp.sum(envelope * cosine, axis=0), -jnp.sum(envelope * sine, axis=0))


@jax.custom_jvp
def cos_sin_of_turns(turns: Array) -> tuple[Array, Array]:
    """cos and sin of 2 pi x, to 1e-14 in float64 and 6e-7 in float32.

    Polynomials after subtracting whole turns: five times faster on CPU than the library's
    functions, which is most of a slice's cost.
    """
    x = turns - jnp.round(turns)
    square = x * x
    cosine = jnp.full_like(square, _COS_COEFFICIENTS[-1])
    sine = jnp.full_like(square, _SIN_COEFFICIENTS[-1])
    for c, s in zip(_COS_COEFFICIENTS[-2::-1], _SIN_COEFFICIENTS[-2::-1], strict=True):
        cosine = cosine * square + c
        sine = sine * square + s
    return cosine, sine * x


@cos_sin_of_turns.defjvp
def _cos_sin_tangent(
    turns: tuple[Array], moved: tuple[Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Derivatives by the other function: differentiating the polynomials would keep each of their
    steps for the backward pass."""
    cosine, sine = cos_sin_of_turns(*turns)
    speed = (2.0 * np.pi) * moved[0]
    return (cosine, sine), (-sine * speed, cosine * speed)


def _polynomial_in_square(function: Callable[[np.ndarray], np.ndarray]) -> tuple[float, ...]:
    """Power coefficients in v = x^2, |x| <= 1/2, interpolated at Chebyshev points."""
    fit = np.polynomial.Chebyshev.interpolate(
        lambda v: function(np.sqrt(v)), _POLYNOMIAL_DEGREE, domain=[0.0, 0.25]
    )
    return tuple(float(c) for c in fit.convert(kind=np.polynomial.Polynomial).coef)


_POLYNOMIAL_DEGREE = 9
_COS_COEFFICIENTS = _polynomial_in_square(lambda x: np.cos(2.0 * np.pi * x))
_SIN_COEFFICIENTS = _polynomial_in_square(lambda x: 2.0 * np.pi * np.sinc(2.0 * x))


def density_of_gaussians(
    amplitude: Array, width: Array, centres: Array, coordinates: Array
) -> Array:
    """The sum of Gaussians itself, in units of amplitude / Angstrom^3.

    Args:
        amplitude: [n] integrals a_j.
        width: [n] standard deviations s_j in Angstrom.
        centres: [n, 3] (x, y, z) in Angstrom.
        coordinates: [..., 3] (x, y, z) in Angstrom.

    Returns:
        float [...].
    """
    peak = amplitude / (2.0 * np.pi * width**2) ** 1.5

    def add(total: Array, blob: tuple[Array, Array, Array]) -> tuple[Array, None]:
        height, sd, centre = blob
        distance2 = jnp.sum((coordinates - centre) ** 2, axis=-1)
        return total + height * jnp.exp(-0.5 * distance2 / sd**2), None

    start = jnp.zeros(coordinates.shape[:-1], jnp.result_type(peak, coordinates))
    return jax.lax.scan(add, start, (peak, width, centres))[0]


@final
@dataclass(frozen=True)
class BasisPath:
    """Centres that are a basis' functions of the state times coefficients (eq. 27's kind).

    `c(tau) = sum_q P_q(tau) path[q]`: polynomials with `state_basis.Chebyshev`, cosines with
    `Cosine`, closed paths with `Fourier`, plain powers of tau with `Powers`.
    """

    basis: Callable[[Array], Array]

    def __call__(self, path: Array, tau: Array) -> Array:
        """Centres [n, 3] in Angstrom for path [n_terms, n, 3] and tau [dim]."""
        return jnp.einsum("q,qnd->nd", self.basis(tau), path)


@final
@dataclass(frozen=True)
class Powers:
    """The functions 1, tau, tau^2, ... up to `degree` of a one-dimensional state."""

    degree: int

    def __call__(self, tau: Array) -> Array:
        """Values [degree + 1] at tau [1]."""
        return jnp.concatenate(
            [jnp.ones(1, tau.dtype), jnp.cumprod(jnp.broadcast_to(tau, (self.degree,)))]
        )


@final
@dataclass(frozen=True, eq=False)
class MovingGaussians:
    """Gaussians on paths: the four-name molecule protocol (sec. 3.6).

    Attributes:
        state_space: where tau lives.
        path_function: path parameters and tau [dim] to centres [n, 3] in Angstrom.
        mean: the prior's mean of theta.
        sd: the prior's standard deviations, a pytree like `mean`.
        init_spread: `init` draws at this many standard deviations; 0 gives `mean` itself, which
            is how the toys of the gallery are made.
        init_strain: `init` also moves centres along the path's second function by a random linear
            map of where they are, its entries of this standard deviation: neighbours together.
    """

    state_space: StateSpace
    path_function: PathFunction
    mean: Theta
    sd: Theta
    init_spread: float = 1.0
    init_strain: float = 0.0

    def init(self, key: Array) -> Theta:
        """A draw around the prior's mean."""
        leaves, tree = jax.tree.flatten(self.mean)
        scales = jax.tree.leaves(self.sd)
        strain_key, *keys = jax.random.split(key, 1 + len(leaves))
        drawn = [
            jnp.asarray(leaf) + self.init_spread * sd * jax.random.normal(k, jnp.shape(leaf))
            for leaf, sd, k in zip(leaves, scales, keys, strict=True)
        ]
        theta = jax.tree.unflatten(tree, drawn)
        if not self.init_strain:
            return theta
        strain = self.init_strain * jax.random.normal(strain_key, (3, 3))
        moved = theta["path"].at[1].add(theta["path"][0] @ strain.T)
        return theta | {"path": moved}

    def centres(self, theta: Theta, tau: Array) -> Array:
        """Centres [n, 3] in Angstrom at the state tau [dim]."""
        return self.path_function(theta["path"], tau)

    def fourier(self, theta: Theta, k: Array, tau: Array) -> Array:
        """V-hat[theta](k, tau): complex [K] at k [K, 3] in 1/Angstrom."""
        return transform_of_gaussians(
            theta["amplitude"], theta["width"], self.centres(theta, tau), k
        )

    def density(self, theta: Theta, tau: Array, coordinates: Array) -> Array:
        """V[theta](r, tau): float [...] at coordinates [..., 3] (x, y, z) in Angstrom."""
        return density_of_gaussians(
            theta["amplitude"], theta["width"], self.centres(theta, tau), coordinates
        )

    def log_prior(self, theta: Theta) -> Array:
        """Independent normals around `mean`, up to a constant."""
        terms = jax.tree.map(
            lambda x, m, s: -0.5 * jnp.sum(((x - m) / s) ** 2), theta, self.mean, self.sd
        )
        return jax.tree.reduce(jnp.add, terms)


def random_gaussians(
    state_space: StateSpace,
    basis: Callable[[Array], Array],
    n_blobs: int,
    radius_angstrom: float,
    width_angstrom: float,
) -> MovingGaussians:
    """Gaussians at unknown places: a start for fitting, with a weak prior.

    The prior's mean fills a ball evenly and is at rest; the centres' mean positions have a
    standard deviation of `radius_angstrom` / 2 in each direction, each further path coefficient of
    `radius_angstrom` / (4 q). `init` stays near the mean, with a small motion that neighbours
    share: blobs that move each its own way fold the state. A blob's amplitude is that of a peak
    density of 1.

    Args:
        state_space: where tau lives.
        basis: path basis whose first function is 1, see `BasisPath`; its value at tau = 0 gives
            the number of terms.
        n_blobs: number of Gaussians.
        radius_angstrom: rough radius of the molecule.
        width_angstrom: rough standard deviation of a Gaussian.
    """
    n_terms = int(jax.eval_shape(basis, jnp.zeros(state_space.dim)).shape[-1])
    order = np.arange(n_terms)
    scale = np.where(order == 0, 0.5, 0.25 / np.maximum(order, 1)) * radius_angstrom
    amplitude = (2.0 * np.pi * width_angstrom**2) ** 1.5
    path = np.zeros((n_terms, n_blobs, 3), np.float32)
    path[0] = radius_angstrom * _even_ball(n_blobs)
    mean = {
        "amplitude": np.full(n_blobs, amplitude, np.float32),
        "width": np.full(n_blobs, width_angstrom, np.float32),
        "path": path,
    }
    sd = {
        "amplitude": np.float32(0.3 * amplitude),
        "width": np.float32(0.1 * width_angstrom),
        "path": np.broadcast_to(scale[:, None, None], (n_terms, n_blobs, 3)).astype(np.float32),
    }
    strain = _START_STRAIN if n_terms > 1 else 0.0
    return MovingGaussians(state_space, BasisPath(basis), mean, sd, _START_SPREAD, strain)


def _even_ball(n: int) -> np.ndarray:
    """n points that fill the unit ball evenly: [n, 3], golden-angle spiral, radii shuffled."""
    place = np.arange(n) + 0.5
    height, angle = 1.0 - 2.0 * place / n, np.pi * (3.0 - np.sqrt(5.0)) * place
    ring = np.sqrt(1.0 - height**2)
    # any irrational step spreads the radii over the sphere
    radius = np.cbrt((place * np.sqrt(2.0)) % 1.0)
    points = np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=-1)
    return radius[:, None] * points
