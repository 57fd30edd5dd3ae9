"""theta's posterior precision as matrices between terms, one a shell: preconditioners of solves.

As good as directions are spread evenly. Where a part has P copies that lie on one another, turned
by S_p, images couple what one copy shows to what another does. A map's mean over the turns is then
told by the sum over copies of a term's weights w_p, and the rest of it by how these differ,

    mean: sum_p w_p sum_q w_q',   rest: P / (P - 1) sum_p (w_p - w) (w_p - w)',  w their mean,

so that of the rest of a term that does not change (w_p all alike) its prior alone says anything.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import ImageBlocks, Latents
from hypermol.molecule.protocol import LinearMolecule
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters


def _molecule(posterior: Posterior) -> LinearMolecule:
    molecule: Any = posterior.molecule
    return molecule


#: Sums over the images of a block: (power [B, n_shells], weights [B, F]) -> [n_shells, T, T].
_Pairs = Callable[[Array, Array], Array]


def _summed(
    posterior: Posterior,
    mu: Hyperparameters,
    latents: Latents,
    images: ImageBlocks,
    pairs: Sequence[_Pairs],
) -> list[Array]:
    """The normal operator's mean over each shell as Fourier multipliers, [n_shells + 1, T, T] for
    each way to pair the weights of features."""
    molecule, plane = _molecule(posterior), posterior.plane

    def block(item: tuple[Latents, ImageBlocks]) -> list[Array]:
        lat, img = item
        weights = lat.contrast[..., None] * molecule.weights(lat.state)
        transfer = posterior.imaging.transfer(img.ctf, plane)
        precision = posterior.pixel_precision(mu) * img.present[..., None]
        power = posterior.by_shell(transfer**2 * precision)
        return [pair(power, weights) for pair in pairs]

    totals = jax.lax.map(block, (latents, images))
    return [_blurred(posterior, jnp.sum(total, axis=0)) for total in totals]


def _shown(molecule: LinearMolecule) -> np.ndarray:
    """[F, T]: 1 where a feature shows a term."""
    return np.eye(len(molecule.copies), dtype=np.float32)[molecule.feature_terms]


def _by_place(molecule: LinearMolecule) -> _Pairs:
    """Only features of one place meet: others count as of different coefficients."""
    shown, places = _shown(molecule), molecule.feature_places
    together = jnp.asarray(places[:, None] == places, jnp.float32)

    def pairs(power: Array, weights: Array) -> Array:
        found = jnp.einsum("bs,bf,bg->sfg", power, weights, weights) * together
        return jnp.einsum("sfg,ft,gu->stu", found, shown, shown)

    return pairs


def _of_copies(molecule: LinearMolecule) -> tuple[_Pairs, _Pairs]:
    """Of maps' means over the turns of their copies, and of the rest of them; by place of terms
    without copies."""
    shown, copies = _shown(molecule), molecule.copies
    parts = np.array([name for name, _ in molecule.term_labels])
    own = jnp.asarray((copies[:, None] > 1) & (parts[:, None] == parts))
    more = jnp.asarray(copies / np.maximum(copies - 1.0, 1.0), jnp.float32)
    by_place = _by_place(molecule)

    def mean(power: Array, weights: Array) -> Array:
        sums = weights @ shown
        together = jnp.einsum("bs,bt,bu->stu", power, sums, sums)
        return jnp.where(own, together, by_place(power, weights))

    def rest(power: Array, weights: Array) -> Array:
        apart = weights - (weights @ shown / shown.sum(axis=0))[:, molecule.feature_terms]
        return jnp.where(own, more[:, None] * by_place(power, apart), by_place(power, weights))

    return mean, rest


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
    pairs = [_by_place(_molecule(posterior))]
    return _summed(posterior, mu, latents, images, pairs)[0] + _prior(posterior, mu)


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
    if np.all(molecule.copies == 1):
        inverse = jnp.linalg.inv(shell_precision(posterior, mu, latents, images))
        return lambda residual: molecule.multiply_shells(residual, inverse)
    mean_of, rest_of = _summed(posterior, mu, latents, images, _of_copies(molecule))
    prior = _prior(posterior, mu)
    lower = jnp.linalg.cholesky(rest_of + prior)
    white = jnp.linalg.inv(lower)
    both = jnp.swapaxes(lower, -1, -2) @ jnp.linalg.inv(mean_of + prior) @ lower

    def precondition(residual: Any) -> Any:
        inner = molecule.multiply_shells(residual, white)
        mean, back = jax.vjp(molecule.averaged, inner)
        told = molecule.multiply_shells(mean, both)
        (change,) = back(jax.tree.map(jnp.subtract, told, mean))
        inner = jax.tree.map(jnp.add, inner, change)
        return molecule.multiply_shells(inner, jnp.swapaxes(white, -1, -2))

    return precondition
