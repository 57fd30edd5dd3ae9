"""One image against every rotation of a grid and every shift of a lattice at once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from hypermol.inference.ensemble import contrast_marginal, draw_contrast


class Match(NamedTuple):
    """What was drawn for one image.

    Attributes:
        rotation, shift: rows of the grid and of the lattice.
        contrast: given them, exactly.
        log_evidence: log of the mean likelihood over grid, lattice's prior and contrast's, at
            inverse temperature 1, up to what the image alone says.
    """

    rotation: Array
    shift: Array
    contrast: Array
    log_evidence: Array


def draw_match(
    key: Array,
    evidence: tuple[Array, Array],
    log_prior: Array,
    contrast_precision: Array,
    beta: Array | float,
) -> Match:
    """Draw (rotation, shift, contrast) by posterior weight on the grid, contrast integrated out.

    Args:
        key: random key.
        evidence: (gram [G], linear [G, S]): the log-likelihood of contrast a at rotation g and
            shift s is a linear - a^2 gram / 2.
        log_prior: [S] of the shifts, normalised over the lattice.
        contrast_precision: 1 / variance of the contrasts about 1.
        beta: inverse temperature of the likelihood; 0 draws from the prior.
    """
    gram, linear = evidence
    score = contrast_marginal(linear, gram[:, None], contrast_precision)
    score = score - contrast_marginal(jnp.zeros(()), jnp.zeros(()), contrast_precision)
    keys = jax.random.split(key, 3)
    heated = beta * score + log_prior
    # one after the other: a random number for every pair would cost more than the images
    rotation = jax.random.categorical(keys[0], jax.nn.logsumexp(heated, axis=1))
    shift = jax.random.categorical(keys[1], heated[rotation])
    contrast = draw_contrast(keys[2], linear[rotation, shift], gram[rotation], contrast_precision)
    log_evidence = jax.nn.logsumexp(score + log_prior) - jnp.log(len(gram))
    return Match(rotation, shift, contrast, log_evidence)
