"""theta given the rest, in the strongest true form: `Quadratic` where a molecule is linear in its
maps (`Tilted` under a density prior that is not), `Differentiable` for any molecule.

All images are passed over in groups of blocks; what is kept of a group is a gradient with respect
to what the molecule prepared from theta, so that memory does not grow with the images.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import ImageBlocks, Latents
from hypermol.inference import exact
from hypermol.inference.target import Differentiable, Quadratic, Tilted, differentiable
from hypermol.molecule.protocol import LinearMolecule
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters
from hypermol.posterior.theta_convolution import convolution, is_worthwhile
from hypermol.posterior.theta_precision import preconditioner

#: Blocks of images that are predicted and projected back together: adding up a gradient for every
#: block would cost as much as the block.
_BLOCKS = 8


class Given(NamedTuple):
    """All that theta is drawn given."""

    mu: Hyperparameters
    latents: Latents
    images: ImageBlocks


def group_count(n_blocks: int) -> int:
    """How many groups of equal size all blocks are passed over in, of about `_BLOCKS` each."""
    least = -(-n_blocks // _BLOCKS)
    return next(n for n in range(least, n_blocks + 1) if n_blocks % n == 0)


def full_block_count(n_blocks: int) -> int:
    """The least number of blocks, not below this, that falls into groups of almost `_BLOCKS`."""
    groups = -(-n_blocks // _BLOCKS)
    return groups * -(-n_blocks // groups)


def _grouped(tree: Any) -> Any:
    """[n_blocks, B, ...] to [groups, blocks of a group x B, ...]."""

    def group(x: Array) -> Array:
        n = group_count(x.shape[0])
        return x.reshape(n, x.shape[0] // n * x.shape[1], *x.shape[2:])

    return jax.tree.map(group, tree)


#: (predicted [M, K], images of the group, key) -> cotangent of the prediction [M, K], terms [M].
_Pass = Callable[[Array, ImageBlocks, Array], tuple[Array, Array]]


def _pass_over(
    posterior: Posterior, prepared: Any, given: Given, key: Array, visit: _Pass
) -> tuple[Any, Array]:
    """Project back what `visit` makes of every prediction: (cotangent of `prepared`, terms [N])."""
    latents, images = _grouped((given.latents, given.images))

    def group(total: Any, item: tuple[Latents, ImageBlocks, Array]) -> tuple[Any, Array]:
        lat, img, key = item
        predicted, back = jax.vjp(lambda p: posterior.predict(p, lat, img.ctf), prepared)
        values, terms = visit(predicted, img, key)
        # JAX's complex cotangents are unconjugated, hence conj
        (cotangent,) = back(jnp.conj(values))
        return jax.tree.map(jnp.add, total, cotangent), terms

    zero = jax.tree.map(jnp.zeros_like, prepared)
    keys = jax.random.split(key, images.present.shape[0])
    total, terms = jax.lax.scan(group, zero, (latents, images, keys))
    return total, terms.reshape(-1)


def _weights(posterior: Posterior, mu: Hyperparameters, images: ImageBlocks) -> Array:
    """[..., K] weight of |residual|^2 / 2 in the negative log-likelihood."""
    return posterior.pixel_precision(mu) * images.present[..., None]


def _linear(posterior: Posterior) -> LinearMolecule:
    molecule: Any = posterior.molecule
    return molecule


def _add(first: Any, second: Any) -> Any:
    return jax.tree.map(jnp.add, first, second)


def theta_quadratic(posterior: Posterior, given: Given, theta: Any) -> Quadratic:
    """theta's maps given the rest, its trajectories included: Gaussian.

    Of the density prior the quadratic part; `theta_tilted` has what is left.
    """
    molecule, density_prior = _linear(posterior), posterior.density_prior
    precision = given.mu.level[:, None] * given.mu.spectrum
    no_key = jax.random.key(0)

    def back(maps: Any, key: Array, visit: _Pass) -> Any:
        """Pass over the images at these maps; the gradient with respect to the maps."""
        prepared, pull = jax.vjp(lambda m: molecule.prepare(theta._replace(maps=m)), maps)
        cotangent, _ = _pass_over(posterior, prepared, given, key, visit)
        return pull(cotangent)[0]

    def prior_matrix(maps: Any) -> Any:
        own = density_prior.precision(molecule, theta._replace(maps=maps))
        return _add(molecule.precision(maps, precision), own)

    def normal(predicted: Array, images: ImageBlocks, key: Array) -> tuple[Array, Array]:
        return _weights(posterior, given.mu, images) * predicted, images.present

    def data(predicted: Array, images: ImageBlocks, key: Array) -> tuple[Array, Array]:
        return _weights(posterior, given.mu, images) * images.pixels, images.present

    def perturbed(predicted: Array, images: ImageBlocks, key: Array) -> tuple[Array, Array]:
        weight = _weights(posterior, given.mu, images)
        white = jax.random.normal(key, (2, *predicted.shape))
        noise = jnp.sqrt(weight) * jax.lax.complex(white[0], white[1])
        return weight * (images.pixels - predicted) + noise, images.present

    def perturbed_residual(key: Array, maps: Any) -> Any:
        keys = jax.random.split(key, 3)
        own = density_prior.precision_root(keys[2], molecule, theta)
        noise = _add(molecule.precision_root(keys[1], precision), own)
        shrink = prior_matrix(jax.tree.map(jnp.negative, maps))
        return _add(_add(back(maps, keys[0], perturbed), noise), shrink)

    dimension = int(np.sum(molecule.term_sizes))
    precondition = preconditioner(posterior, *given)
    if is_worthwhile(molecule, given.images.present.size * len(posterior.plane.shells)):
        nearly = convolution(posterior, *given)
        precondition = exact.inverse(
            lambda maps: _add(nearly(maps), prior_matrix(maps)), precondition, dimension
        )
    return Quadratic(
        apply=lambda maps: _add(back(maps, no_key, normal), prior_matrix(maps)),
        linear=back(jax.tree.map(jnp.zeros_like, theta.maps), no_key, data),
        perturbed_residual=perturbed_residual,
        precondition=precondition,
        dimension=dimension,
    )


def theta_tilted(posterior: Posterior, given: Given, theta: Any) -> Tilted:
    """theta's maps given the rest: a Gaussian times what of the density prior is not quadratic."""

    def log_density(maps: Any) -> Array:
        return posterior.density_prior.tilt(_linear(posterior), theta._replace(maps=maps))

    return Tilted(theta_quadratic(posterior, given, theta), differentiable(log_density))


def theta_differentiable(posterior: Posterior, given: Given) -> Differentiable:
    """All of theta given the rest as a log density with gradient, for any molecule.

    The log density comes as one term a particle and one for the prior, so that a kernel can sum
    differences of terms: a sum over all images is larger than float32 resolves.
    """
    molecule, mu = posterior.molecule, given.mu
    no_key = jax.random.key(0)

    def visit(predicted: Array, images: ImageBlocks, key: Array) -> tuple[Array, Array]:
        terms = posterior.log_likelihood(images.pixels, predicted, mu) * images.present
        return _weights(posterior, mu, images) * (images.pixels - predicted), terms

    def value_and_gradient(theta: Any) -> tuple[Array, Any]:
        prepared, pull = jax.vjp(molecule.prepare, theta)
        cotangent, terms = _pass_over(posterior, prepared, given, no_key, visit)
        prior, slope = jax.value_and_grad(lambda t: posterior.log_prior_theta(t, mu))(theta)
        return jnp.concatenate([terms, prior[None]]), _add(pull(cotangent)[0], slope)

    def log_density(theta: Any) -> Array:
        prepared = molecule.prepare(theta)

        def group(item: tuple[Latents, ImageBlocks]) -> Array:
            lat, img = item
            predicted = posterior.predict(prepared, lat, img.ctf)
            return posterior.log_likelihood(img.pixels, predicted, mu) * img.present

        terms = jax.lax.map(group, (given.latents, given.images))
        return jnp.concatenate([terms.reshape(-1), posterior.log_prior_theta(theta, mu)[None]])

    return Differentiable(log_density, value_and_gradient)


#: Finite difference for curvatures, in the parameters' own prior standard deviations.
_STEP = 0.02


def motion_information(
    posterior: Posterior, given: Given, theta_at: Callable[[Array], Any], size: int
) -> Callable[[Array], Array]:
    """Fisher information of trajectories' parameters [P] from these images: x -> [P, P].

    Args:
        posterior, given: images by whose latents it is taken.
        theta_at: theta with these values [P] of the parameters.
        size: P.
    """
    weight = _weights(posterior, given.mu, given.images)

    def images_at(values: Array) -> Array:
        prepared = posterior.molecule.prepare(theta_at(values))

        def block(item: tuple[Latents, Array]) -> Array:
            return posterior.predict(prepared, *item)

        return jnp.sqrt(weight) * jax.lax.map(block, (given.latents, given.images.ctf))

    def information(values: Array) -> Array:
        # slices have a hand-written reverse rule, hence no forward one
        columns = jax.lax.map(
            lambda step: (images_at(values + step) - images_at(values - step)) / (2.0 * _STEP),
            _STEP * jnp.eye(size),
        )
        flat = columns.reshape(size, -1)
        return (jnp.conj(flat) @ flat.T).real

    return information


def score_variance(posterior: Posterior, given: Given, theta: Any) -> Any:
    """Sum over the images of their squared score, entry by entry: an estimate of the information's
    diagonal for any molecule, shaped like theta."""
    mu = given.mu

    def score(latents: Latents, images: ImageBlocks) -> Any:
        one = jax.tree.map(lambda x: x[None], (latents, images))

        def log_likelihood(theta: Any) -> Array:
            predicted = posterior.predict(posterior.molecule.prepare(theta), one[0], one[1].ctf)
            return jnp.sum(posterior.log_likelihood(one[1].pixels, predicted, mu) * one[1].present)

        return jax.tree.map(jnp.square, jax.grad(log_likelihood)(theta))

    def block(total: Any, item: tuple[Latents, ImageBlocks]) -> tuple[Any, None]:
        squares = jax.vmap(score)(*item)
        return jax.tree.map(lambda t, s: t + jnp.sum(s, axis=0), total, squares), None

    zero = jax.tree.map(jnp.zeros_like, theta)
    return jax.lax.scan(block, zero, (given.latents, given.images))[0]


def prior_precision(posterior: Posterior, theta: Any, mu: Hyperparameters) -> Any:
    """The prior's precision of every entry of theta, for priors under which entries are
    independent; entries of no curvature count as known to their unit."""
    gradient = jax.grad(lambda t: posterior.log_prior_theta(t, mu))
    ones = jax.tree.map(jnp.ones_like, theta)
    # exact for independent priors: their Hessian's row sums are its diagonal
    curvature = jax.jvp(gradient, (theta,), (ones,))[1]
    return jax.tree.map(lambda c: jnp.where(c < 0.0, -c, 1.0), curvature)
