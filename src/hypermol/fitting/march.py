"""Start a chain, and carry it from one level of the march to the next (sec. 5)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import Latents
from hypermol.data.particles import ParticleSet
from hypermol.fitting.blocks.matching import SHIFT_SHARE
from hypermol.fitting.level import Form, Level
from hypermol.fitting.sweep import ChainState
from hypermol.imaging.blocks import consensus_poses, first_latents, from_blocks
from hypermol.posterior.pose_priors import APART
from hypermol.posterior.priors import Hyperparameters
from hypermol.runtime import on_device
from hypermol.space.rotation import random_quaternions

#: Prior power of a new state term, as a share of the nearest known term's.
_NEW_TERM = 0.2
_START_ROTATION_RAD, _START_SHIFT_PX, _START_CONTRAST_SD = 0.04, 0.7, 0.1
_START_MISPLACED = 0.1
#: The first two where the input is not to be trusted; the second as a share of the box.
_START_ROUGH_RAD, _START_ROUGH_SHIFT = 0.17, 0.5 * SHIFT_SHARE


def _first_spectrum(level: Level) -> np.ndarray:
    """Prior precision [T, n_shells + 1] from the images' power above their noise floor.

    A coefficient has power |scale FFT(v)|^2 transfer^2; the floor is the lowest shell's power.
    """
    molecule: Any = level.molecule
    shells, power = level.grid.n_shells, level.shell_power
    if not molecule.is_linear:
        return np.zeros((0, shells))
    signal = (power[1:] - power[1:].min()) / np.maximum(level.shell_transfer[1:], 1e-3)
    signal = np.maximum(signal, 1e-2 * signal.max())
    known = np.minimum(np.arange(shells), level.posterior.plane.kmax)
    density = signal[np.maximum(known, 1) - 1] / molecule.power_gain[:, None]
    return 1.0 / density


def first_state(level: Level) -> ChainState:
    """A chain at the input's poses, contrast 1, mid states and the molecule's first theta."""
    molecule, consensus = level.molecule, level.data.consensus

    @jax.jit
    def first(latents: Latents) -> tuple[Any, Array]:
        return molecule.init(jax.random.key(0)), molecule.state_space.wrap(latents.state)

    latents = first_latents(consensus, molecule.state_space.dim)
    wide = level.posterior.pose_prior.misplaced_shift
    box = level.posterior.plane.box
    turn, shift = _START_ROTATION_RAD, _START_SHIFT_PX
    if wide:
        turn, shift = _START_ROUGH_RAD, _START_ROUGH_SHIFT * box
    if not level.posterior.pose_prior.has_width:  # nothing is known of poses
        turn, shift = np.pi, SHIFT_SHARE * box
        latents = latents._replace(contrast=on_device(np.zeros(latents.contrast.shape)))
    theta, states = first(latents)
    mu = Hyperparameters(
        noise_variance=on_device(level.shell_power),
        spectrum=on_device(_first_spectrum(level)),
        level=on_device(np.ones(len(molecule.term_sizes))),
        pose_sd_rad=on_device(turn),
        shift_sd_px=on_device(shift),
        contrast_sd=on_device(_START_CONTRAST_SD),
        occupancy=on_device(even_occupancy(level)),
        misplaced=on_device(np.full(2, _START_MISPLACED if wide else 0.0)),
        misplaced_shift_sd_px=on_device(max(wide.mean**0.5, APART * shift) if wide else 1.0),
    )
    return ChainState(theta, mu, latents._replace(state=states))


def placed(state: ChainState, particles: ParticleSet) -> ChainState:
    """A chain whose particles are where the input has them."""
    n_blocks, block = state.latents.contrast.shape
    known = consensus_poses(particles, block, n_blocks)
    contrast = jnp.ones_like(state.latents.contrast)
    latents = state.latents._replace(**known._asdict(), contrast=contrast)
    return state._replace(latents=latents)


def scattered(key: Array, state: ChainState) -> ChainState:
    """A chain whose particles look in random directions, all of contrast 1: as the paper begins
    (sec. 5)."""
    latents = state.latents
    contrast = jnp.ones_like(latents.contrast)
    turned = random_quaternions(key, contrast.size).reshape(*contrast.shape, 4)
    return state._replace(latents=latents._replace(quaternion=turned, contrast=contrast))


def even_occupancy(level: Level) -> np.ndarray:
    """Uniform probabilities of the level's bins of states."""
    n_bins = level.posterior.n_bins
    return np.full(n_bins, 1.0 / n_bins)


def _carried_spectrum(state: ChainState, old: Form, new: Level) -> np.ndarray:
    """The old spectrum on the new shells and terms: held flat beyond, weaker for new terms.

    A term that the old molecule did not have, over the same states, starts below the last one
    that it had of the same part; over other states, below the part's mean density. A term that a
    constant density takes part in (the first of most bases, every hat, every class) has the power
    of a whole density.
    """
    molecule: Any = new.molecule
    if not molecule.is_linear:
        return np.zeros((0, new.grid.n_shells))
    known = np.asarray(state.mu.spectrum) / np.asarray(state.mu.level)[:, None]
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
    return np.stack(rows)


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
    if old.blocks is not None and new.form.blocks is None:
        state = state._replace(latents=_grown(key, state.latents, old, new))
    latents = state.latents
    if not same_states:
        latents = latents._replace(state=_new_states(key, state, old, new))
    noise = new.shell_power.copy()
    shared = min(len(noise), len(state.mu.noise_variance))
    noise[:shared] = np.asarray(state.mu.noise_variance)[:shared]
    mu = state.mu._replace(
        noise_variance=on_device(noise),
        spectrum=on_device(_carried_spectrum(state, old, new)),
        level=on_device(np.ones(len(new.molecule.term_sizes))),
        occupancy=state.mu.occupancy if same_states else on_device(even_occupancy(new)),
    )
    return ChainState(theta, mu, latents)


def _grown(key: Array, some: Latents, old: Form, new: Level) -> Latents:
    """Latents of all particles from those of some blocks: the others have no place yet.

    They have the input's poses, states at random, and contrast 0: they say nothing of theta.
    """
    consensus, space = new.data.consensus, old.molecule.state_space
    shape = consensus.quaternion.shape[:-1]
    states = space.sample_base(key, shape)
    contrast = on_device(np.zeros(shape, np.float32))
    every = Latents(consensus.quaternion, consensus.shift_px, contrast, states)
    return jax.tree.map(lambda all_, known: all_.at[old.blocks].set(known), every, some)


def _new_states(key: Array, state: ChainState, old: Form, new: Level) -> Array:
    """States of the new space, as the new molecule starts them; absent particles get others'."""
    shape = state.latents.contrast.shape
    n = int(np.asarray(new.data.images.present).sum())
    known = from_blocks(state.latents.state, n)
    tau = new.molecule.first_states(key, state.theta, known, old.molecule)
    filled = np.asarray(tau, np.float32)[np.arange(shape[0] * shape[1]) % n]
    return jax.device_put(filled.reshape(*shape, -1))
