"""What maps tell a fit: contrast's sign, size and scale at its start, half maps at its end."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from hypermol.data.half_sets import half_sets
from hypermol.data.particles import ParticleSet
from hypermol.fitting.level import Level
from hypermol.fitting.march import first_state
from hypermol.fitting.sweep import ChainState
from hypermol.inference import exact
from hypermol.io.errors import InputError
from hypermol.io.store import RunDirectory
from hypermol.posterior.hyper_draws import image_summer
from hypermol.posterior.theta_conditional import Given, theta_differentiable, theta_quadratic
from hypermol.space.fourier import voxel_radii

#: Margin of the support's radius, in boxes.
_MARGIN = 0.05


def _radii(level: Level) -> np.ndarray:
    """Distance of every voxel from the origin in Angstrom, [n, n, n]."""
    return voxel_radii(level.grid.n, level.grid.voxel_size_angstrom)


def check_contrast(level: Level, density: np.ndarray) -> None:
    """Refuse images whose first map [n, n, n] is darker in the middle than at the rim.

    Raises:
        InputError: the images' contrast is inverted.
    """
    radius, edge = _radii(level), level.grid.radius_angstrom
    core = density[radius < 0.4 * edge]
    rim = density[(radius > 0.8 * edge) & (radius <= edge)]
    error = density[radius <= edge].std() / np.sqrt(max(core.size, 1))
    if core.mean() < rim.mean() - 3.0 * error:
        raise InputError(
            "the first map is negative where the particle should be: the images' contrast is "
            "inverted (particles dark on bright ground, or phase-flipped CTF signs): run again "
            "with --invert-contrast"
        )


def support_radius_angstrom(level: Level, density: np.ndarray) -> float:
    """Radius of the molecule from a first map [n, n, n]: where the density's excess power ends.

    The posterior's scatter fills the whole ball evenly; its power is read off the outer shells
    and taken away. A margin of 5 % of the box is added for what the blur of motion thins out.
    """
    grid, radius = level.grid, _radii(level)
    inside = np.asarray(grid.support) > 0
    bins = np.floor(radius[inside] / grid.voxel_size_angstrom).astype(int)
    count = np.bincount(bins)
    power = np.bincount(bins, density[inside] ** 2) / np.maximum(count, 1)
    floor = np.median(power[int(0.8 * len(power)) :])
    excess = np.maximum(power - 1.5 * floor, 0.0) * count
    share = np.cumsum(excess) / max(excess.sum(), 1e-30)
    edge = (np.searchsorted(share, 0.995) + 1) * grid.voxel_size_angstrom
    return float(min(edge + _MARGIN * grid.box_angstrom, grid.radius_angstrom))


def log_gain(level: Level) -> float:
    """Logarithm of image units per unit of a molecule of the user's own, whose gain is now 1.

    The power of images of its first theta at mid states is to be the images' own above their
    noise: the outer quarter of the shells is taken as noise, what is above it inside as signal.
    """
    posterior, images = level.posterior, level.data.images
    state = first_state(level)
    sums = image_summer(posterior)(state.theta, state.latents, images)
    model = np.einsum("nbs,nb->s", np.asarray(sums.model, np.float64), np.asarray(images.present))
    power = level.shell_power
    count = posterior.shell_counts * float(np.asarray(images.present).sum())
    floor = power[-max(posterior.plane.kmax // 4, 1) :].min()
    signal = max(np.sum(np.maximum(power - floor, 0.0) * count), 0.01 * np.sum(power * count))
    return float(0.5 * np.log(signal / model.sum()))


#: Error of a half map in posterior standard deviations.
_TOLERANCE, _MAX_ITERATIONS = 0.03, 100
#: Steps of L-BFGS to the nearest optimum of a half, for molecules that are not linear.
_DESCENTS = 30


def write_half_maps(
    directory: RunDirectory, particles: ParticleSet, level: Level, state: ChainState
) -> None:
    """halves.npz: `half_maps` of the input's half sets, or of halves that are made."""
    halves, _ = half_sets(particles)
    directory.write_arrays("halves.npz", half_maps(level, state, halves))


def half_maps(level: Level, state: ChainState, halves: np.ndarray) -> dict[str, np.ndarray]:
    """theta from each half set, given the state's latents, as it is shown: half1, half2.

    The posterior mean of linear molecules; the nearest optimum of others, from the state's theta.
    Poses and states were drawn against all images, so an FSC between the halves is optimistic
    (not "gold standard").

    Args:
        level: the final one.
        state: a draw of all unknowns.
        halves: [N] of 1 and 2.
    """
    members = np.zeros((2, level.data.images.present.size), np.float32)
    members[:, : len(halves)] = [halves == half for half in (1, 2)]
    parts = members.reshape(2, *level.data.images.present.shape)
    found = thetas_of_parts(level, state, list(parts))
    return {f"half{i}": np.asarray(level.shown(theta)) for i, theta in enumerate(found, 1)}


def thetas_of_parts(level: Level, state: ChainState, members: list[np.ndarray]) -> list[Any]:
    """The best theta of each part of the images, given the state's latents.

    Args:
        level: the images', and the molecule.
        state: a draw of all unknowns.
        members: for each part, [n_blocks, B] of 0 and 1.
    """
    images = level.data.images
    fitted = _linear_mean if level.molecule.is_linear else _optimum
    best = jax.jit(partial(fitted, level.posterior))
    found = []
    for member in members:
        present = jax.device_put((np.asarray(images.present) * member).astype(np.float32))
        given = Given(state.mu, state.latents, images._replace(present=present))
        found.append(best(given, state.theta))
    return found


def _linear_mean(posterior: Any, given: Given, theta: Any) -> Any:
    target = theta_quadratic(posterior, given, theta)
    maps, _ = exact.mean(target, theta.maps, _TOLERANCE, _MAX_ITERATIONS)
    return theta._replace(maps=maps)


def _optimum(posterior: Any, given: Given, theta: Any) -> Any:
    target = theta_differentiable(posterior, given)
    optimizer = optax.lbfgs()

    def loss(theta: Any) -> Array:
        return -jnp.sum(target.log_density(theta))

    def one(_: int, carried: tuple[Any, Any]) -> tuple[Any, Any]:
        theta, memory = carried
        terms, slope = target.value_and_gradient(theta)
        down = jax.tree.map(jnp.negative, slope)
        change, memory = optimizer.update(
            down, memory, theta, value=-jnp.sum(terms), grad=down, value_fn=loss
        )
        return optax.apply_updates(theta, change), memory

    return jax.lax.fori_loop(0, _DESCENTS, one, (theta, optimizer.init(theta)))[0]
