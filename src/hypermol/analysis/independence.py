"""What a run's samples are worth: how many independent ones tell as much of a particle.

Samples of one chain may stand about a place for longer than the chain runs, and look independent of
one another there. Chains tell: means of S samples of n chains differ by sigma^2 / S if all samples
are independent, and by sigma^2 if each chain stands at a place of its own.
"""

import numpy as np

from hypermol.analysis.chains import aligned_states, has_states, run_knobs
from hypermol.analysis.knobs import numbers
from hypermol.analysis.run import Run

#: The ends of a 90 % interval lie beyond the first and the last of so many.
WANTED = 19.0
#: Particles that are asked at most; of them, those that differ most tell of their jumps alone.
_MAX_PARTICLES, _ASKED = 2000, 0.9


def worth(run: Run) -> dict[str, float]:
    """Independent samples that all samples of a typical particle are worth.

    Args:
        run: with samples.

    Returns:
        Of rotation, shift, contrast and each knob, if they move at all; no more than there are
        samples. Empty for a single chain, which does not tell.
    """
    found = {}
    for name, draws in _drawn(run).items():
        chains, samples = draws.shape[:2]
        if chains < 2:
            return {}
        between = draws.mean(axis=1).var(axis=0, ddof=1)
        within = draws.var(axis=1).mean(axis=0)
        total = (between + within).sum(axis=-1)
        asked = (total > 0) & (total <= np.quantile(total, _ASKED))
        if asked.any():
            share = between.sum(axis=-1)[asked].sum() / total[asked].sum()
            found[name] = float(min(chains / max(share, 1e-12), chains * samples))
    return found


def _drawn(run: Run) -> dict[str, np.ndarray]:
    """Unknowns of some particles as numbers whose means have a meaning, [C, S, n, p]."""
    n = run.info["n_particles"]
    rows = np.unique(np.linspace(0, n - 1, min(n, _MAX_PARTICLES)).astype(int))
    names = ("quaternion", "shift_px", "contrast")
    turned, shifts, contrasts = (
        np.asarray(run.stacked(name)[:, :, rows], np.float64) for name in names
    )
    turned /= np.linalg.norm(turned, axis=-1, keepdims=True)
    # q and -q are one rotation: their products with themselves are the same
    products = np.einsum("...i,...j->...ij", turned, turned)
    found = {
        "rotation": products.reshape(*turned.shape[:-1], 16),
        "shift": shifts,
        "contrast": contrasts[..., None],
    }
    if has_states(run):
        states = aligned_states(run)[:, :, rows]
        found |= {knob.name: numbers(knob, states[..., knob.column]) for knob in run_knobs(run)}
    return found
