"""How far a march goes in state frequency: as far as the images tell (sec. 5).

What a molecule does between its highest term and those that it lacks stays in the images as misfit,
which takes poses and states along. Where nobody said how many terms there are to be, they rise as
long as the highest ones explain something.
"""

from typing import Any

import numpy as np

from hypermol.fitting.level import Level
from hypermol.fitting.maps import thetas_of_parts
from hypermol.fitting.sweep import ChainState

#: Terms that are asked, of each part: a motion that is even or odd about its middle leaves out
#: every second one.
_HIGHEST = 2
#: More are needed where these explain so many nats of an image.
WORTH_NATS = 5.0


def highest_terms_tell(level: Level, state: ChainState, parts: frozenset[str]) -> float:
    """Log-likelihood in nats that the highest terms of parts explain of an image, on average.

    The power of a term is that of one half's map times the other's, whose noise is independent
    given poses and states, so that it is about 0 of a term that the images do not tell.

    Args:
        level: of a linear molecule.
        state: a draw of all unknowns.
        parts: names of those that are asked.
    """
    molecule: Any = level.molecule
    shape = level.data.images.present.shape
    second = np.broadcast_to(np.arange(shape[1]) % 2, shape)
    first, other = (theta.maps for theta in thetas_of_parts(level, state, [1 - second, second]))
    power = _cross_power(molecule, first, other)
    return float(_nats(level, state, power)[_highest(molecule.term_labels, parts)].sum())


def _cross_power(molecule: Any, first: Any, other: Any) -> np.ndarray:
    """Mean over each shell of one molecule's coefficients times the other's, [T, n_shells]."""
    keys = first.keys()
    sums = {key: first[key] + other[key] for key in keys}
    differences = {key: first[key] - other[key] for key in keys}
    whole, away = (np.asarray(molecule.shell_power(m), np.float64) for m in (sums, differences))
    return 0.25 * (whole - away)


def _nats(level: Level, state: ChainState, power: np.ndarray) -> np.ndarray:
    """What terms of this power [T, n_shells] add to an image's log-likelihood, [T]."""
    molecule: Any = level.molecule
    present = np.asarray(level.data.images.present) > 0
    weights = np.asarray(molecule.weights(state.latents.state), np.float64)[present]
    contrast = np.asarray(state.latents.contrast, np.float64)[present]
    seen = np.mean((contrast[:, None] * weights) ** 2, axis=0)
    of_term = np.bincount(molecule.feature_terms, seen, len(power))
    # shell 0 is not observed; a residual's log density is -|r|^2 / sigma^2 a half-plane pixel
    shells = np.arange(1, level.posterior.plane.n_shells)
    noise = np.asarray(state.mu.noise_variance, np.float64)[shells]
    told = level.posterior.shell_counts[shells] * level.shell_transfer[shells] / noise
    return of_term * molecule.power_gain * (power[:, shells] @ told)


def _highest(labels: tuple[tuple[str, int], ...], parts: frozenset[str]) -> np.ndarray:
    """bool [T]: the highest terms of each of the parts."""
    last = {name: max(order for part, order in labels if part == name) for name, _ in labels}
    return np.array([name in parts and order > last[name] - _HIGHEST for name, order in labels])
