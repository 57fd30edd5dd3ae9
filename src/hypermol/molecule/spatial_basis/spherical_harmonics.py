"""Real orthonormal spherical harmonics, a degree at a time, for NumPy and JAX arrays alike.

Y_lm = sqrt(2) N_lm P_l^m(cos) cos(m phi) for m > 0, N_l0 P_l(cos) for m = 0 and
sqrt(2) N_l|m| P_l^|m|(cos) sin(|m| phi) for m < 0, without the sign (-1)^m.
"""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np


def real_harmonics(directions, n_degrees: int) -> Iterator:
    """Y_lm at unit vectors, one degree after the other.

    Args:
        directions: [n, 3] (x, y, z) of unit length, NumPy (float64) or JAX.
        n_degrees: l = 0 .. n_degrees - 1.

    Yields:
        [n, 2 l + 1], columns m = -l .. l.
    """
    xp = np if isinstance(directions, np.ndarray) else jnp
    x, y, z = directions[:, 0], directions[:, 1], directions[:, 2]
    squared = x**2 + y**2
    pole = squared < 1e-30
    sine = xp.sqrt(xp.where(pole, 1.0, squared))
    # at the poles every m > 0 vanishes with the sine, whatever the azimuth
    cos_phi, sin_phi = xp.where(pole, 1.0, x / sine), xp.where(pole, 0.0, y / sine)
    sine = xp.where(pole, 0.0, sine)
    cosines, sines = [xp.ones_like(z)], [xp.zeros_like(z)]
    # the powers of the sine stay inside: what underflows is negligible, and nothing overflows
    top = xp.full_like(z, np.sqrt(0.25 / np.pi))
    before, last = None, top[:, None]
    for degree in range(n_degrees):
        if degree:
            cosines.append(cosines[-1] * cos_phi - sines[-1] * sin_phi)
            sines.append(sines[-1] * cos_phi + cosines[-2] * sin_phi)
            top = top * sine * float(np.sqrt((1.0 + 0.5 / degree) * (2.0 if degree == 1 else 1.0)))
            before, last = last, _next_degree(xp, degree, z, last, before, top)
        positive = last * xp.stack(cosines, axis=1)
        negative = last[:, 1:] * xp.stack(sines, axis=1)[:, 1:]
        yield xp.concatenate([negative[:, ::-1], positive], axis=1)


def _next_degree(xp, degree: int, z, last, before, top):
    """Legendre functions [n, l + 1], m = 0 .. l, from the two degrees below and the one m = l."""
    m2 = np.arange(degree) ** 2.0
    first = np.sqrt((4.0 * degree**2 - 1.0) / (degree**2 - m2))
    grown = z[:, None] * last
    if before is not None:
        inner = m2[: degree - 1]
        second = np.sqrt(((degree - 1.0) ** 2 - inner) / (4.0 * (degree - 1.0) ** 2 - 1.0))
        lower = before * second.astype(before.dtype)
        grown = grown - xp.concatenate([lower, xp.zeros_like(lower[:, :1])], axis=1)
    return xp.concatenate([grown * first.astype(grown.dtype), top[:, None]], axis=1)
