"""What images tell of theta as a convolution, whose cost does not grow with their number.

Where nothing moves, each image is a slice of one sum of densities y_f at rest, weighed by its P_f.
Then the normal operator of all images couples y_f with y_g through

    K_fg(r - r') = sum over images and pixels of w P_f P_g cos(2 pi k.(r - r')),

which is made once for given poses, states and contrasts, from weights spread over a grid of
frequencies, and applied by FFTs over twice the support. It is not quite the posterior's operator,
whose slices are interpolated: it preconditions its solves, which then need a pass or two over the
images instead of dozens. Toeplitz operators are known from tomography (Fessler et al. 2005) and
from maps of one state in cryo-EM (Wang, Shkolnisky and Singer 2013).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import ImageBlocks, Latents
from hypermol.molecule.protocol import LinearMolecule, SlicedMolecule
from hypermol.molecule.spatial_basis.slicing import grid_radius, spread
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters
from hypermol.space.fourier import fast_even_size
from hypermol.space.rotation import matrix_from_quaternion

#: The box that weights' frequencies are told apart by, in periods of the convolution.
_OVERSAMPLING = 1.5
#: Pairs of features whose weights are spread together: a grid point's are a line of a cache.
_TOGETHER = 16
#: It is used where the images' Fourier pixels are so many times the convolution's grid points, and
#: its kernels have no more numbers than this.
_WORTHWHILE, _MOST_NUMBERS = 1.0, 2**27
#: And where pixels times features are so many: below, it saves nothing (the demo takes as long).
_LEAST_WORK = 4_000_000
#: What of a density's largest values lies beyond is nothing: turned copies have edges that ring.
_REACH = 0.02
_AXES = (-3, -2, -1)


class Periods(NamedTuple):
    """Sides in voxels: of the densities, of the convolution's period, and of the box by whose
    frequencies weights are spread."""

    voxels: int
    convolution: int
    spread: int


def periods(molecule: LinearMolecule) -> Periods:
    """Twice the extent of all densities, so that nothing wraps round."""
    shapes = jax.eval_shape(molecule.init, jax.random.key(0)).maps
    with jax.ensure_compile_time_eval():
        rng = np.random.default_rng(0)
        maps = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), shapes)
        found = np.abs(np.asarray(molecule.feature_densities(maps))).max(axis=0)
    inside = found > _REACH * found.max()
    extents = [np.ptp(np.flatnonzero(inside.any(axis=other))) + 1 for other in _OTHERS]
    n = inside.shape[0]
    period = max(fast_even_size(2 * int(max(extents))), n)
    return Periods(n, period, fast_even_size(int(np.ceil(_OVERSAMPLING * period))))


#: Axes to look along for an extent along each one.
_OTHERS = ((1, 2), (0, 2), (0, 1))


def is_worthwhile(molecule: SlicedMolecule, n_pixels: int) -> bool:
    """Whether images of so many Fourier pixels in all are told cheaper so, if they can be."""
    linear: Any = molecule
    if not (linear.is_linear and linear.features_rest):
        return False
    if n_pixels * len(linear.feature_terms) < _LEAST_WORK:
        return False
    points = periods(linear).convolution ** 3
    return n_pixels > _WORTHWHILE * points and n_numbers(linear) < _MOST_NUMBERS


def n_numbers(molecule: LinearMolecule) -> int:
    """Of all kernels' transforms."""
    features = len(molecule.feature_terms)
    return features * (features + 1) // 2 * periods(molecule).convolution ** 3 // 2


def convolution(
    posterior: Posterior, mu: Hyperparameters, latents: Latents, images: ImageBlocks
) -> Callable[[Any], Any]:
    """maps -> what `theta_quadratic` has of the images, very nearly.

    Args:
        posterior: of a molecule whose features rest.
        mu, latents, images: what theta is drawn given.
    """
    molecule: Any = posterior.molecule
    sides = periods(molecule)
    features = range(len(molecule.feature_terms))
    first, second = np.triu_indices(len(features))
    kernels = _kernels(posterior, mu, (latents, images), (first, second))
    pair = np.zeros((len(features),) * 2, int)
    pair[first, second] = pair[second, first] = np.arange(len(first))

    def mixed(values: Array) -> Array:
        def one(row: Array) -> Array:
            # written out, so that products are added up as they are made
            return sum((kernels[row[g]] * values[g] for g in features), jnp.zeros_like(values[0]))

        return jax.lax.map(one, jnp.asarray(pair))

    def apply(maps: Any) -> Any:
        densities, back = jax.vjp(molecule.feature_densities, maps)
        n, period = densities.shape[-1], (sides.convolution,) * 3
        transform = jnp.fft.rfftn(densities, s=period, axes=_AXES)
        out = jnp.fft.irfftn(mixed(transform), s=period, axes=_AXES)
        return back(out[:, :n, :n, :n])[0]

    return apply


def _in_a_row(values: Array) -> Array:
    """[n_blocks, B, ...] to [M, ...]; trailing axes may be empty."""
    return values.reshape(values.shape[0] * values.shape[1], *values.shape[2:])


def _kernels(
    posterior: Posterior,
    mu: Hyperparameters,
    given: tuple[Latents, ImageBlocks],
    pairs: tuple[np.ndarray, np.ndarray],
) -> Array:
    """Transforms of the K_fg of pairs of features, real [P, p, p, p // 2 + 1]."""
    molecule: Any = posterior.molecule
    latents, images = jax.tree.map(_in_a_row, given)
    sides, plane = periods(molecule), posterior.plane
    transfer = posterior.imaging.transfer(images.ctf, plane)
    power = posterior.pixel_precision(mu) * images.present[:, None] * transfer**2
    weights = latents.contrast[:, None] * molecule.weights(latents.state)
    steps = sides.spread / sides.voxels
    frequencies = jnp.asarray(plane.frequencies * steps, jnp.float32)
    radius = grid_radius(plane.kmax, steps)
    rotations = matrix_from_quaternion(latents.quaternion)
    # pairs in groups of equal size: the last one repeats its last pair
    n_pairs = len(pairs[0])
    groups = -(-n_pairs // _TOGETHER)
    chosen = np.minimum(np.arange(groups * _TOGETHER), n_pairs - 1).reshape(groups, _TOGETHER)

    def group(pair: tuple[Array, Array]) -> Array:
        both = weights[:, pair[0]] * weights[:, pair[1]]
        return _transforms(spread(radius, rotations, frequencies, power, both), sides)

    first, second = (jnp.asarray(which[chosen]) for which in pairs)
    found = jax.lax.map(group, (first, second))
    return found.reshape(-1, *found.shape[2:])[:n_pairs]


def _transforms(weights: Array, sides: Periods) -> Array:
    """Weights [D, D, X, P] on half a grid of frequencies to kernels' transforms [P, p, p, h]."""
    radius, large, period = weights.shape[2] - 1, sides.spread, sides.convolution
    place = np.arange(-radius, radius + 1) % large
    halves = np.where(np.arange(radius + 1) > 0, 0.5, 1.0).astype(np.float32)
    near = np.fft.fftfreq(period, 1.0 / period).astype(int)  # the kernel's lags, as FFTs order them
    attenuation = np.sinc(near / large) ** 2
    window = np.where(2 * near > -period, 1.0 / attenuation, 0.0).astype(np.float32)
    full = jnp.zeros((large, large, large // 2 + 1), jnp.complex64)

    def one(values: Array) -> Array:
        spectrum = full.at[place[:, None, None], place[:, None], np.arange(radius + 1)]
        kernel = jnp.fft.irfftn(spectrum.set(values * halves), s=(large,) * 3) * large**3
        for axis in range(3):
            ramp = np.expand_dims(window, tuple(a for a in range(3) if a != axis))
            kernel = jnp.take(kernel, near % large, axis=axis) * ramp
        return jnp.fft.rfftn(kernel).real

    return jax.lax.map(one, jnp.moveaxis(weights, -1, 0))
