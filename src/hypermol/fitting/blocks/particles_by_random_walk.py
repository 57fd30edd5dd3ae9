"""Direction, shift, state and contrast of every particle by random walks, as the paper has it.

"Simpler MH steps (random perturbation of the variables to propose new values)" (sec. 5): each
variable of a particle is perturbed in turn, and the perturbation kept by eq. 16. Any molecule.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.data.latents import Latents
from hypermol.fitting.sweep import Block, ChainState, Data, Info
from hypermol.inference import metropolis
from hypermol.posterior.particle_conditional import particle_density
from hypermol.posterior.posterior import Posterior
from hypermol.space.rotation import quaternion_from_vector, quaternion_multiply
from hypermol.space.state_space import StateSpace

#: First widths of the perturbations of rotation (radians), shift (pixels), state (share of its
#: extent) and contrast, and the shares of them that should be taken.
_FIRST = (0.04, 0.5, 0.1, 0.1)
_WANTED = 0.35
#: Log widths move by this at most a sweep, and stay within these bounds.
_GAIN = 0.3
_BOUNDS = ((0.002, 0.5), (0.02, 3.0), (0.01, 1.0), (0.005, 1.0))
_NAMES = ("rotation", "shift", "state", "contrast")

Propose = Callable[[Array, Latents], Latents]


def _proposals(space: StateSpace, widths: Array) -> tuple[Propose, ...]:
    """One proposal a variable, in the order of `_NAMES`; there and back are equally likely."""

    def rotation(key: Array, at: Latents) -> Latents:
        turn = quaternion_from_vector(widths[0] * jax.random.normal(key, (3,)))
        moved = quaternion_multiply(turn, at.quaternion)
        return at._replace(quaternion=moved / jnp.linalg.norm(moved))

    def shift(key: Array, at: Latents) -> Latents:
        return at._replace(shift_px=at.shift_px + widths[1] * jax.random.normal(key, (2,)))

    def state(key: Array, at: Latents) -> Latents:
        return at._replace(state=space.propose(key, at.state, widths[2]))

    def contrast(key: Array, at: Latents) -> Latents:
        return at._replace(contrast=at.contrast + widths[3] * jax.random.normal(key))

    return rotation, shift, state, contrast


class Walks(NamedTuple):
    """What is perturbed beside states: rotations and shifts, and contrasts."""

    poses: bool
    contrasts: bool = True

    def of(self, posterior: Posterior) -> tuple[int, ...]:
        """Which of the variables are."""
        states = (2,) if posterior.molecule.state_space.dim else ()
        return (*((0, 1) if self.poses else ()), *states, *((3,) if self.contrasts else ()))


def walk(
    posterior: Posterior,
    moves: Walks,
    steps: int,
    key: Array,
    state: ChainState,
    log_widths: Array,
    data: Data,
) -> tuple[Latents, Array]:
    """All particles of `data`, `steps` times round: latents, and acceptance [n_blocks, B, 4]."""
    space, walks = posterior.molecule.state_space, moves.of(posterior)
    prepared = posterior.molecule.prepare(state.theta)

    def one(key: Array, latents: Latents, widths: Array, given: tuple) -> tuple[Latents, Array]:
        consensus, pixels, ctf = given
        target = particle_density(posterior, prepared, state.mu, consensus, (pixels, ctf))
        proposals = _proposals(space, jnp.exp(widths))

        def round_(chain: metropolis.State, key: Array) -> tuple[metropolis.State, Array]:
            taken = jnp.full(len(_NAMES), _WANTED)
            for which, step_key in zip(walks, jax.random.split(key, len(walks)), strict=True):
                chain, info = metropolis.step(step_key, chain, target, proposals[which])
                taken = taken.at[which].set(info.acceptance)
            return chain, taken

        first = metropolis.init(latents, target)
        chain, taken = jax.lax.scan(round_, first, jax.random.split(key, steps))
        return chain.position, jnp.mean(taken, axis=0)

    images = data.images
    keys = jax.random.split(key, images.present.shape)
    given = (data.consensus, images.pixels, images.ctf)
    return jax.lax.map(lambda item: jax.vmap(one)(*item), (keys, state.latents, log_widths, given))


def first_widths(state: ChainState, data: Data) -> Array:
    """Logarithms of the widths to start from, [n_blocks, B, 4]."""
    shape = (*data.images.present.shape, len(_NAMES))
    return jnp.broadcast_to(jnp.log(jnp.asarray(_FIRST, jnp.float32)), shape)


def adapt_widths(log_widths: Array, acceptance: Array) -> Array:
    """Robbins-Monro step of each particle's widths."""
    low, high = np.log(np.asarray(_BOUNDS, np.float32)).T
    return jnp.clip(log_widths + _GAIN * (acceptance - _WANTED), low, high)


def walk_numbers(info: Info) -> dict[str, float]:
    """The share of the rotations', shifts' and states' perturbations that were taken."""
    shares = np.asarray(jnp.mean(info["acceptance"], axis=(0, 1)))
    return {f"moved_{name}": float(share) for name, share in zip(_NAMES, shares, strict=True)}


def particles_by_random_walk(posterior: Posterior, moves: Walks, steps: int = 4) -> Block:
    """Metropolis steps of each variable of each particle in turn.

    Args:
        posterior: of any molecule.
        moves: what is drawn, and what left where it is.
        steps: times round in a sweep.
    """

    @jax.jit
    def step(key: Array, state: ChainState, log_widths: Any, data: Data) -> tuple[ChainState, Info]:
        latents, acceptance = walk(posterior, moves, steps, key, state, log_widths, data)
        return state._replace(latents=latents), {"acceptance": acceptance}

    return Block(
        "particles by random walk",
        step,
        first_widths,
        lambda widths, info: adapt_widths(widths, info["acceptance"]),
        numbers=walk_numbers,
    )
