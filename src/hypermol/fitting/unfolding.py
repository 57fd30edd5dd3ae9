"""A motion half of which was taken for mirror images of the other half, and its unfolding.

An image of any molecule at R is one of its mirror image at J R J. A molecule that is nearly its own
mirror image at some state of a motion has images on both sides of it that differ by no more than
what the molecule lacks to being symmetric. A search then explains one side by mirror images of the
other, with their states backwards, and shows a mean of the two. What is lacking is one density, to
be added for the images of one side and taken away for those of the other: it is found from what
the folded molecule leaves unexplained, and tells the sides apart.
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.analysis.gauge import apply_to_volume
from hypermol.analysis.mirror_motion import MirrorMotion, mirror_motion
from hypermol.data.latents import ImageBlocks, Latents
from hypermol.fitting.found import Unfolding
from hypermol.fitting.frames import posed
from hypermol.fitting.hands import densities
from hypermol.fitting.level import Level
from hypermol.fitting.maps import thetas_of_parts
from hypermol.fitting.march import even_occupancy
from hypermol.fitting.sweep import ChainState
from hypermol.inference import exact
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.theta_conditional import Given, theta_quadratic
from hypermol.runtime import on_device
from hypermol.space.fourier import crop_or_pad_volume

#: Rounds in which sides and their density are found from one another, of which the first ones at a
#: rising inverse temperature from this on.
_ROUNDS, _RISING, _FIRST_BETA = 24, 16, 0.2
#: Prior power of what the sides differ by, as a share of the molecule's.
_SHARE = 0.2
#: Solves end at this error in posterior standard deviations, or after so many iterations.
_TOLERANCE, _MAX_ITERATIONS = 0.01, 60
#: Nodes of the motion whose mirror images are laid onto it, voxels a side there.
_NODES, _BOX = 17, 28


class Sides(NamedTuple):
    """Two sides of the images.

    Attributes:
        odds: [n_blocks, B] half the log odds of the first side.
        gain: [n_blocks, B] log-likelihood that telling sides apart adds.
        density: [n, n, n] half of what they differ by.
    """

    odds: np.ndarray
    gain: np.ndarray
    density: np.ndarray


def tell_sides(level: Level, state: ChainState, rigid: Any) -> Sides:
    """Find the density that is added to the images of one side and taken from the others'.

    Each half of the images has its own, found from its residuals times tanh(odds), and gives the
    odds of the other half: no image finds itself in what it is judged by.

    Args:
        level: the images', and the molecule.
        state: a draw of all unknowns.
        rigid: a molecule without states on the level's grid.
    """
    posterior = replace(level.posterior, molecule=rigid)
    images, latents = level.data.images, state.latents
    left = jax.jit(partial(_unexplained, level.posterior))(state, images)
    latents = latents._replace(state=latents.state[..., : rigid.state_space.dim])
    spectrum = jnp.asarray(state.mu.spectrum[:1] / (_SHARE * state.mu.level[:1, None]))
    mu = state.mu._replace(spectrum=spectrum, level=jnp.ones(1, jnp.float32))
    shape = images.present.shape
    halves = [np.broadcast_to(np.arange(shape[1]) % 2 == half, shape) for half in (0, 1)]

    @jax.jit
    def found(theta: Any, signs: Array, half: Array) -> tuple[Any, Array, Array]:
        """A half's density, the odds that it gives all images, and what their sides explain."""
        given = Given(
            mu,
            latents,
            images._replace(pixels=left * signs[..., None], present=images.present * half),
        )
        target = theta_quadratic(posterior, given, theta)
        maps, _ = exact.mean(target, theta.maps, _TOLERANCE, _MAX_ITERATIONS)
        theta = theta._replace(maps=maps)
        odds, power = _odds(posterior, theta, given._replace(images=images), left)
        return theta, odds, power

    signs = jnp.asarray(np.random.default_rng(len(left)).choice([-1.0, 1.0], shape), jnp.float32)
    nothing = jax.tree.map(jnp.zeros_like, rigid.init(jax.random.key(0)))
    thetas, odds, power = [nothing, nothing], jnp.zeros(shape), jnp.zeros(shape)
    for number in range(_ROUNDS):
        beta = _FIRST_BETA + (1.0 - _FIRST_BETA) * min(1.0, number / _RISING)
        for own, other in ((0, 1), (1, 0)):
            thetas[own], given, explained = found(thetas[own], signs, jnp.asarray(halves[own]))
            odds = jnp.where(halves[other], given, odds)
            power = jnp.where(halves[other], explained, power)
            signs = jnp.where(halves[other], jnp.tanh(beta * odds), signs)
    gain = jnp.logaddexp(odds, -odds) - jnp.log(2.0) - power
    density = 0.5 * (np.asarray(rigid.mean(thetas[0])) + np.asarray(rigid.mean(thetas[1])))
    return Sides(np.asarray(odds), np.asarray(gain), density)


def _unexplained(posterior: Posterior, state: ChainState, images: ImageBlocks) -> Array:
    """Residuals of all images, [n_blocks, B, K]."""
    prepared = posterior.molecule.prepare(state.theta)

    def block(item: tuple[Latents, ImageBlocks]) -> Array:
        return item[1].pixels - posterior.predict(prepared, item[0], item[1].ctf)

    return jax.lax.map(block, (state.latents, images))


def _odds(posterior: Posterior, theta: Any, given: Given, left: Array) -> tuple[Array, Array]:
    """Half the log odds of +density against -density given residuals, and half its power."""
    prepared = posterior.molecule.prepare(theta)
    precision = posterior.pixel_precision(given.mu)

    def block(item: tuple[Latents, Array, Array]) -> tuple[Array, Array]:
        latents, ctf, residual = item
        image = posterior.predict(prepared, latents, ctf)
        odds = jnp.sum(precision * (jnp.conj(image) * residual).real, axis=-1)
        return odds, 0.5 * jnp.sum(precision * jnp.abs(image) ** 2, axis=-1)

    return jax.lax.map(block, (given.latents, given.images.ctf, left))


def may_be_folded(level: Level) -> bool:
    """Whether a molecule has one knob between two ends, that acts through its maps' weights."""
    molecule = level.molecule
    return molecule.is_linear and molecule.state_space.has_ends and not any(molecule.is_position)


def unfolded(level: Level, state: ChainState, rigid: Any) -> tuple[ChainState, Unfolding]:
    """A motion between two ends with its mirror images laid out beyond them, if they are any.

    Args:
        level: of a molecule that `may_be_folded`.
        state: a draw of all unknowns.
        rigid: a molecule without states on the level's grid.

    Returns:
        the state, as it was where nothing tells two sides apart; and what was found.
    """
    sides = tell_sides(level, state, rigid)
    gain = sides.gain[np.asarray(level.data.images.present) > 0]
    told = Unfolding(float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(len(gain))))
    if not told.has_sides:
        return state, told
    box = min(_BOX, level.grid.n)
    voxel = level.grid.box_angstrom / box
    nodes = np.linspace(0.0, 1.0, _NODES)[:, None]
    mirror = mirror_motion(crop_or_pad_volume(densities(level, state, nodes), box), voxel)
    small = crop_or_pad_volume(sides.density, box)
    image = apply_to_volume(mirror.gauge, small, voxel)
    alike = float(np.corrcoef(small.ravel(), image.ravel())[0, 1])
    told = replace(told, mirrored_difference=alike, turn=mirror.turn)
    if not told.is_clear:
        return state, told
    return _laid_out(level, state, sides.odds < 0.0, mirror), told


def _laid_out(
    level: Level, state: ChainState, mirrored: np.ndarray, mirror: MirrorMotion
) -> ChainState:
    """Particles of one side where they are, those of the other where their mirror images would be;
    the molecule as they tell it.

    Args:
        level: the images', and the molecule.
        state: the folded one.
        mirrored: bool [n_blocks, B], the other side.
        mirror: where it lies.
    """
    latents = state.latents
    there = posed(level, latents, mirror.gauge)
    lowest, highest = min(0.0, mirror.turn - 1.0), max(1.0, mirror.turn)
    tau = jnp.where(mirrored[..., None], mirror.turn - latents.state, latents.state)
    latents = latents._replace(
        quaternion=jnp.where(mirrored[..., None], there.quaternion, latents.quaternion),
        shift_px=jnp.where(mirrored[..., None], there.shift_px, latents.shift_px),
        state=(tau - lowest) / (highest - lowest),
    )
    mu = state.mu._replace(occupancy=on_device(even_occupancy(level)))
    state = ChainState(state.theta, mu, latents)
    theta = thetas_of_parts(level, state, [np.ones(mirrored.shape)])[0]
    return state._replace(theta=theta)
