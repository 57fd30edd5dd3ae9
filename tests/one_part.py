"""theta of a generic molecule, which is a composite of one part without a name."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from hypermol.molecule.protocol import Coefficients


def one_part(maps: ArrayLike) -> Coefficients:
    """Coefficients [terms, ...] of the one part, which does not move."""
    return Coefficients({"": jnp.asarray(maps, jnp.float32)}, {"": ()})
