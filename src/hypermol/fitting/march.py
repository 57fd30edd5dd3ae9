"""Start a chain, and carry it from one level of the march to the next (sec. 5)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.fitting.level import Form, Level
from hypermol.fitting.sweep import ChainState
from hypermol.imaging.blocks import first_latents, from_blocks
from hypermol.posterior.priors import Hyperparameters

#: Prior power of a new state term, as a share of the nearest known term's.
_NEW_TERM = 0.2
_START_ROTATION_RAD, _START_SHIFT_PX, _START_CONTRAST_SD = 0.04, 0.7, 0.1


def shell_power(level: Level) -> np.ndarray:
    """Mean |Y|^2 per shell, [n_shells]: an upper bound of the noise to start from."""
    posterior, images = level.posterior, level.data.images

    def block(item: Any) -> Array:
        total = posterior.by_shell(jnp.abs(item.pixels) ** 2)
        return jnp.sum(total * item.present[:, None], axis=0)

    per_block = jax.jit(lambda images: jax.lax.map(block, images))(images)
    count = float(np.sum(images.present)) * np.maximum(posterior.shell_counts, 1)
    total = np.asarray(per_block, np.float64).sum(axis=0) / count
    total[0] = total[1]
    return total.astype(np.float32)


def _first_spectrum(level: Level, power: np.ndarray) -> Array:
    """Prior precision [T, n_shells + 1] from the images' power above their noise floor.

    A coefficient has power |scale FFT(v)|^2 transfer^2; the floor is the lowest shell's power.
    """
    molecule: Any = level.molecule
    posterior, images, shells = level.posterior, level.data.images, level.grid.n_shells
    if not molecule.is_linear:
        return jnp.zeros((0, shells))
    plane = posterior.plane

    def block(ctf: Array) -> Array:
        return jnp.mean(posterior.imaging.transfer(ctf, plane) ** 2, axis=0)

    ctf2 = np.asarray(jax.jit(lambda c: jax.lax.map(block, c))(images.ctf)).mean(axis=0)
    counts = np.maximum(posterior.shell_counts, 1)
    transfer = np.bincount(plane.shells, ctf2, plane.n_shells) / counts
    signal = (power[1:] - power[1:].min()) / np.maximum(transfer[1:], 1e-3)
    signal = np.maximum(signal, 1e-2 * signal.max())
    known = np.minimum(np.arange(shells), plane.kmax)
    density = signal[np.maximum(known, 1) - 1] / molecule.power_gain[:, None]
    return jnp.asarray(1.0 / density, jnp.float32)


def first_state(level: Level) -> ChainState:
    """A chain at the input's poses, contrast 1, mid states and the molecule's first theta."""
    molecule, consensus = level.molecule, level.data.consensus
    latents = first_latents(consensus, molecule.state_space.dim)
    latents = latents._replace(state=molecule.state_space.wrap(latents.state))
    power = shell_power(level)
    mu = Hyperparameters(
        noise_variance=jnp.asarray(power),
        spectrum=_first_spectrum(level, power),
        level=jnp.ones(len(molecule.term_sizes)),
        pose_sd_rad=jnp.float32(_START_ROTATION_RAD),
        shift_sd_px=jnp.float32(_START_SHIFT_PX),
        contrast_sd=jnp.float32(_START_CONTRAST_SD),
        occupancy=_even_occupancy(level),
    )
    return ChainState(molecule.init(jax.random.key(0)), mu, latents)


def _even_occupancy(level: Level) -> Array:
    """Uniform probabilities of the level's bins of states."""
    n_bins = level.posterior.n_bins
    # a weak type would be compiled for, and again once it has been drawn
    return jnp.full(n_bins, 1.0 / n_bins, jnp.float32)


def _carried_spectrum(state: ChainState, old: Form, new: Level) -> Array:
    """The old spectrum on the new shells and terms: held flat beyond, weaker for new terms.

    A term that the old molecule did not have, over the same states, starts below the last one
    that it had of the same part; over other states, below the part's mean density. A term that a
    constant density takes part in (the first of most bases, every hat, every class) has the power
    of a whole density.
    """
    molecule: Any = new.molecule
    if not molecule.is_linear:
        return jnp.zeros((0, new.grid.n_shells))
    known = np.asarray(state.mu.spectrum / state.mu.level[:, None])
    shells = np.minimum(np.arange(new.grid.n_shells), old.kmax - 1)
    rows_of = {label: row for row, label in enumerate(old.molecule.term_labels)}
    same_states = molecule.state_space == old.molecule.state_space
    rows = []
    for (part, order), whole in zip(molecule.term_labels, molecule.whole_terms, strict=True):
        nearest = order if same_states else 0
        while nearest and (part, nearest) not in rows_of:
            nearest -= 1
        weaker = 1.0 if whole or nearest == order else 1.0 / _NEW_TERM
        rows.append(weaker * known[rows_of.get((part, nearest), 0), shells])
    return jnp.asarray(np.stack(rows), jnp.float32)


def carry(key: Array, state: ChainState, old: Form, new: Level) -> ChainState:
    """Move a chain to another level: resize theta, carry the spectrum, map the states.

    Args:
        key: of first states, where they are drawn.
        state: in the form `old`.
        old: the level that the chain comes from.
        new: the level that it goes to.
    """
    same_states = new.molecule.state_space == old.molecule.state_space
    theta = new.molecule.resize(state.theta, old.molecule)
    latents = state.latents
    if not same_states:
        latents = latents._replace(state=_new_states(key, state, old, new))
    noise = shell_power(new)
    shared = min(len(noise), len(state.mu.noise_variance))
    noise[:shared] = np.asarray(state.mu.noise_variance)[:shared]
    mu = state.mu._replace(
        noise_variance=jnp.asarray(noise),
        spectrum=_carried_spectrum(state, old, new),
        level=jnp.ones(len(new.molecule.term_sizes)),
        occupancy=state.mu.occupancy if same_states else _even_occupancy(new),
    )
    return ChainState(theta, mu, latents)


def _new_states(key: Array, state: ChainState, old: Form, new: Level) -> Array:
    """States of the new space, as the new molecule starts them; absent particles get others'."""
    shape = state.latents.contrast.shape
    n = int(np.asarray(new.data.images.present).sum())
    known = from_blocks(state.latents.state, n)
    tau = new.molecule.first_states(key, state.theta, known, old.molecule)
    filled = np.asarray(tau, np.float32)[np.arange(shape[0] * shape[1]) % n]
    return jnp.asarray(filled.reshape(*shape, -1))
