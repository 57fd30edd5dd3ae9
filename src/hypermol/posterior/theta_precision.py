"""theta's posterior precision as matrices between terms, one a shell: preconditioners of solves.

As good as directions are spread evenly. Where a part has P copies that lie on one another, turned
by S_p, images couple what one copy shows to what another does. A map's mean over the turns is then
told by the sum over copies of a term's weights w_p, and the rest of it by how these differ,

    mean: sum_p w_p sum_q w_q',   rest: P / (P - 1) sum_p (w_p - w) (w_p - w)',  w their mean,

so that of the rest of a term that does not change (w_p all alike) its prior alone says anything.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import ImageBlocks, Latents
from hypermol.molecule.protocol import LinearMolecule
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters


class _Normal(NamedTuple):
    """The normal operator's mean over each shell as Fourier multipliers, [n_shells + 1, T, T] each.

    Attributes:
        each: as if every place saw coefficients of its own.
        mean: of maps' means over the turns of their copies.
        rest: of what is left of them.
    """

    each: Array
    mean: Array
    rest: Array


def _molecule(posterior: Posterior) -> LinearMolecule:
    molecule: Any = posterior.molecule
    return molecule


def _normal(
    posterior: Posterior, mu: Hyperparameters, latents: Latents, images: ImageBlocks
) -> _Normal:
    molecule, plane = _molecule(posterior), posterior.plane
    places, terms = molecule.feature_places, molecule.feature_terms
    shown = jnp.asarray(np.eye(len(molecule.copies))[terms])
    one_place = jnp.asarray(places[:, None] == places, jnp.float32)
    copies = jnp.asarray(molecule.copies, jnp.float32)

    def block(item: tuple[Latents, ImageBlocks]) -> _Normal:
        lat, img = item
        weights = lat.contrast[..., None] * molecule.weights(lat.state)
        transfer = posterior.imaging.transfer(img.ctf, plane)
        precision = posterior.pixel_precision(mu) * img.present[..., None]
        power = posterior.by_shell(transfer**2 * precision)
        sums = weights @ shown
        apart = weights - (sums / jnp.sum(shown, axis=0))[:, terms]

        def by_place(values: Array) -> Array:
            pairs = jnp.einsum("bs,bf,bg->sfg", power, values, values) * one_place
            return jnp.einsum("sfg,ft,gu->stu", pairs, shown, shown)

        mean = jnp.einsum("bs,bt,bu->stu", power, sums, sums)
        return _Normal(by_place(weights), mean, by_place(apart))

    total = jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.lax.map(block, (latents, images)))
    several = copies > 1
    parts = np.array([label[0] for label in molecule.term_labels])
    own = several[:, None] & several & jnp.asarray(parts[:, None] == parts)
    rest = total.rest * (copies / jnp.maximum(copies - 1.0, 1.0))[:, None]
    chosen = _Normal(
        total.each,
        jnp.where(own, total.mean, total.each),
        jnp.where(own, rest, total.each),
    )
    return jax.tree.map(lambda x: _blurred(posterior, x), chosen)


def _blurred(posterior: Posterior, total: Array) -> Array:
    """In units of coefficients, and over neighbouring shells.

    The ball blurs Fourier space over about a shell (and fills the unobserved k = 0): halves the
    iterations.
    """
    plane = posterior.plane
    gain = np.sqrt(_molecule(posterior).slice_gain[: plane.n_shells])
    total = total * gain[:, :, None] * gain[:, None]
    below, above = jnp.maximum(jnp.arange(plane.n_shells) - 1, 1), jnp.arange(plane.n_shells) + 1
    above = jnp.minimum(above, plane.kmax)
    here = jnp.maximum(jnp.arange(plane.n_shells), 1)
    smooth = 0.25 * total[below] + 0.5 * total[here] + 0.25 * total[above]
    return jnp.concatenate([smooth, jnp.zeros_like(total[:1])])


def _prior(posterior: Posterior, mu: Hyperparameters) -> Array:
    prior = jax.vmap(jnp.diag)((mu.level[:, None] * mu.spectrum).T)
    if posterior.density_prior.members:
        own = posterior.density_prior.shell_precision(_molecule(posterior), len(prior))
        prior = prior + own
    return prior


def shell_precision(
    posterior: Posterior, mu: Hyperparameters, latents: Latents, images: ImageBlocks
) -> Array:
    """Posterior precision of the maps as if it were one matrix a shell, [n_shells + 1, T, T].

    Features seen from different directions count as of different coefficients.
    """
    return _normal(posterior, mu, latents, images).each + _prior(posterior, mu)


def preconditioner(
    posterior: Posterior, mu: Hyperparameters, latents: Latents, images: ImageBlocks
) -> Callable[[Any], Any]:
    """r -> M^-1 r for maps r, M near their posterior precision given the rest.

    Without copies M is `shell_precision`. With them, A being the rest's matrix, L L' = A, B the
    mean's and E the mean over turns,

        M^-1 = L'^-1 (1 - E' E + E' L' B^-1 L E) L^-1,

    which is positive definite whatever E is, if it makes nothing longer.
    """
    molecule = _molecule(posterior)
    normal, prior = _normal(posterior, mu, latents, images), _prior(posterior, mu)
    if np.all(molecule.copies == 1):
        inverse = jnp.linalg.inv(normal.each + prior)
        return lambda residual: molecule.multiply_shells(residual, inverse)
    lower = jnp.linalg.cholesky(normal.rest + prior)
    upper = jnp.swapaxes(lower, -1, -2)
    white = jnp.linalg.inv(lower)
    both = upper @ jnp.linalg.inv(normal.mean + prior) @ lower

    def precondition(residual: Any) -> Any:
        inner = molecule.multiply_shells(residual, white)
        mean, back = jax.vjp(molecule.averaged, inner)
        told = molecule.multiply_shells(mean, both)
        (change,) = back(jax.tree.map(jnp.subtract, told, mean))
        inner = jax.tree.map(jnp.add, inner, change)
        return molecule.multiply_shells(inner, jnp.swapaxes(white, -1, -2))

    return precondition
