"""Two bodies that overlap: their masks, their STAR file, and images of them."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from hypermol.data.latents import Latents
from hypermol.imaging.forward import predict
from hypermol.io.mrc import write_stack, write_volume
from hypermol.io.star import write_particles_star
from hypermol.recipe.design import Design, Grid
from hypermol.space.fourier import half_plane, half_plane_to_image
from hypermol.space.rotation import matrix_from_quaternion, random_quaternions
from runs import particle_metadata

BOX, PIXEL = 24, 3.0
CENTRES = ((-9.0, 0.0, 0.0), (14.0, 2.0, -3.0))
RADII = (17.0, 12.0)


def soft_ball(centre: tuple[float, float, float], radius: float, edge: float = 6.0) -> np.ndarray:
    """float32 [BOX, BOX, BOX]: 1 inside, a soft edge outwards."""
    axis = (np.arange(BOX) - BOX // 2) * PIXEL
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
    return np.clip((radius - distance) / edge + 1.0, 0.0, 1.0).astype(np.float32)


def write_masks(folder: Path) -> None:
    """head.mrc is the smaller one."""
    for name, centre, radius in zip(("large", "head"), CENTRES, RADII, strict=True):
        write_volume(folder / f"{name}.mrc", soft_ball(centre, radius), PIXEL)


STAR = """
data_

loop_
_rlnBodyMaskName #1
_rlnBodyRotateRelativeTo #2
_rlnBodySigmaAngles #3
_rlnBodySigmaOffset #4
large.mrc 2 10 2
head.mrc  1 15 1
"""


def write_bodies(folder: Path, text: str = STAR) -> Path:
    """bodies.star with the masks that it names."""
    write_masks(folder)
    path = folder / "bodies.star"
    path.write_text(text)
    return path


def blobs(centre: tuple[float, float, float], n: int, voxel: float) -> np.ndarray:
    """float32 [n, n, n]: four Gaussians about a centre that look alike from no two directions."""
    axis = (np.arange(n) - n // 2) * voxel
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    total = np.zeros((n, n, n), np.float32)
    for weight, place in (
        (1.0, (6.0, 0.0, 0.0)),
        (0.8, (-4.0, 5.0, 1.0)),
        (1.2, (0.0, -7.0, 3.0)),
        (0.9, (1.0, 2.0, -8.0)),
    ):
        gone = np.asarray(centre) + place
        square = (x - gone[0]) ** 2 + (y - gone[1]) ** 2 + (z - gone[2]) ** 2
        total += weight * np.exp(-square / (2 * 3.5**2))
    return total


def simulate(folder: Path, design: Design, n: int, noise_sd: float) -> tuple[Path, np.ndarray]:
    """Images of the two bodies, each in its own state, as ordinary files.

    Returns:
        particles.star with the true poses, and the states [n, dim].
    """
    kmax = (BOX - 1) // 2
    molecule = design.molecule(Grid(BOX, PIXEL, kmax, 30.0), 1)
    theta = molecule.init(jax.random.key(0))
    for part, centre in zip(molecule.parts, CENTRES, strict=True):
        density = blobs(centre, part.basis.n, part.basis.voxel_size_angstrom)
        theta.maps[part.name] = part.basis.expand(jnp.asarray(density)[None])
    rng = np.random.default_rng(2)
    plane = half_plane(BOX, kmax)
    quaternion = random_quaternions(jax.random.key(1), n)
    states = rng.normal(size=(n, molecule.state_space.dim)).astype(np.float32)
    latents = Latents(quaternion, jnp.zeros((n, 2)), jnp.ones(n), jnp.asarray(states))
    ones = jnp.ones((n, len(plane.shells)))
    clean = predict(molecule, molecule.prepare(theta), latents, ones, plane)
    images = np.array(half_plane_to_image(clean, plane))
    images += noise_sd * images.std() * rng.normal(size=images.shape)
    write_stack(folder / "particles.mrcs", images.astype(np.float32), PIXEL)
    rotations = np.asarray(matrix_from_quaternion(quaternion), np.float64)
    metadata = particle_metadata(folder, rotations, np.zeros((n, 2)), BOX)
    path = folder / "particles.star"
    write_particles_star(path, replace(metadata, pixel_size_angstrom=PIXEL))
    return path, states
