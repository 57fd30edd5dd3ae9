"""Copies that lie on one another: turned maps against direct transforms, and what is averaged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.molecule.composite import composite
from hypermol.molecule.copies import averaged, shared_operators
from hypermol.molecule.parts import Part, Place
from hypermol.molecule.region import Ball, Mask
from hypermol.molecule.spatial_basis.base import SpatialBasis
from hypermol.molecule.spatial_basis.gaussians import GaussianGrid
from hypermol.molecule.spatial_basis.prolates import Prolates
from hypermol.molecule.spatial_basis.voxels import Voxels, voxels_in
from hypermol.molecule.state_basis import Constant, Cosine
from hypermol.molecule.symmetry import symmetry_operators
from hypermol.molecule.trajectory import RigidBody
from hypermol.space.state_space import Interval

BOX, KMAX, RADIUS = 24, 8, 8.0
VOXELS = Voxels(BOX, 1.0, KMAX, RADIUS)


def places(group: str) -> tuple[Place, ...]:
    operators = symmetry_operators(group)
    return tuple(Place((f"arm_{i}",), operator) for i, operator in enumerate(operators))


def part(basis: SpatialBasis, group: str) -> Part:
    return Part("arm", basis, Cosine(3, Interval("arm")), places=places(group))


def smooth_maps(basis: SpatialBasis, seed: int = 0) -> jax.Array:
    """Maps of falling power, white at each frequency."""
    white = np.random.default_rng(seed).normal(size=(2, *basis.coefficient_shape))
    falling = np.exp(-0.5 * (np.arange(basis.n_shells) / 2.5) ** 2)
    matrices = jnp.asarray(falling[:, None, None] * np.eye(2), jnp.float32)
    return basis.multiply_shells(jnp.asarray(white, jnp.float32), matrices)


@pytest.mark.parametrize(
    ("basis", "turn"),
    [
        (VOXELS, [0, 0, 180]),
        (VOXELS, [90, 0, 0]),
        (VOXELS, [0, 90, 90]),
        (GaussianGrid(BOX, 1.0, KMAX, 1.0, RADIUS), [0, 180, 0]),
    ],
)
def test_turned_maps_are_turned_densities(basis: SpatialBasis, turn: list):
    operator = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    maps = smooth_maps(basis)
    k = np.random.default_rng(1).normal(0.0, 0.06, (40, 3)).astype(np.float32)
    found = basis.fourier(basis.turned(maps, operator), k)
    # the transform of V(S^T r) at k is V-hat(S^T k)
    expected = basis.fourier(maps, (k @ operator).astype(np.float32))
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("group", ["C2", "D2", "C4"])
def test_means_over_a_group_are_projections(group: str):
    arm = part(VOXELS, group)
    assert len(shared_operators(arm)) == len(symmetry_operators(group))
    maps = smooth_maps(VOXELS)
    once = averaged(arm, maps)
    np.testing.assert_allclose(averaged(arm, once), once, atol=1e-5 * float(jnp.abs(maps).max()))
    assert float(jnp.linalg.norm(once)) < 0.9 * float(jnp.linalg.norm(maps))


def test_only_copies_that_lie_on_one_another_count():
    whole = composite((Part("body", VOXELS, Cosine(2, Interval("bend"))), part(VOXELS, "C4")))
    assert whole.copies.tolist() == [1, 1, 4, 4, 4]
    body = {"body": smooth_maps(VOXELS), "arm": smooth_maps(VOXELS, 1)}
    assert whole.averaged(body)["body"] is body["body"]
    aside = voxels_in(Ball((6.0, 0.0, 0.0), 4.0), BOX, 1.0, KMAX)
    on_axis = voxels_in(Ball((0.0, 0.0, 4.0), 4.0), BOX, 1.0, KMAX)
    masked = voxels_in(Mask(np.ones((BOX,) * 3, np.float32), 1.0), BOX, 1.0, KMAX)
    counts = [len(shared_operators(part(b, "C2"))) for b in (aside, on_axis, masked)]
    assert counts == [1, 2, 1]
    assert len(shared_operators(part(on_axis, "D2"))) == 1
    assert len(shared_operators(part(Prolates(BOX, 1.0, KMAX, RADIUS), "C2"))) == 1
    assert len(shared_operators(part(VOXELS, "C3"))) == 1  # does not keep the grid
    half = Part("arm", VOXELS, Cosine(3, Interval("arm")), places=places("C4")[:2])
    assert len(shared_operators(half)) == 1
    free = RigidBody("arm", (0.0, 0.0, 0.0), 0.1, 1.0)
    assert len(shared_operators(Part("arm", VOXELS, Constant(), free, places("C2")))) == 1
