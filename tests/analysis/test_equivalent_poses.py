"""Copies under a symmetry: equivalent descriptions show the same, and the nearest is found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.analysis.equivalent_poses import choose, equivalents, reordered, turned
from hypermol.recipe.design import Grid
from hypermol.recipe.part_tables import read_parts
from knob_runs import ARMS, MIXED
from runs import random_rotations

BOX, PIXEL = 16, 2.0


def molecule_of(tables: list[dict]):
    grid = Grid(BOX, PIXEL, 4, 16.0)
    return read_parts(tables, BOX, PIXEL).molecule(grid, 3)


@pytest.mark.parametrize("group", ["C2", "C3"])
def test_equivalents_have_the_same_transform(group: str):
    """V-hat(S k, pi tau) is V-hat(k, tau): arms alone, for a lone base may break the symmetry."""
    count = int(group[1])
    places = [{"knobs": [f"arm_{i}"]} for i in range(count)]
    molecule = molecule_of([ARMS[1] | {"symmetry": group, "places": places}])
    found = equivalents(molecule)
    assert len(found) == count
    theta = molecule.init(jax.random.key(0))
    maps = jax.tree.map(lambda m: jax.random.normal(jax.random.key(1), m.shape), theta.maps)
    theta = theta._replace(maps=maps)
    rng = np.random.default_rng(0)
    k, tau = rng.normal(0, 0.04, (20, 3)), rng.random(count)
    expected = molecule.fourier(theta, jnp.asarray(k, jnp.float32), jnp.asarray(tau))
    for one in found:
        moved = jnp.asarray(k @ one.rotation.T, jnp.float32)
        same = molecule.fourier(theta, moved, jnp.asarray(tau[list(one.source)]))
        scale = float(jnp.abs(expected).max())
        np.testing.assert_allclose(same, expected, atol=2e-3 * scale)
    wrong = molecule.fourier(theta, jnp.asarray(k @ found[1].rotation.T), jnp.asarray(tau))
    assert float(jnp.abs(wrong - expected).max()) > 0.05 * scale


def test_no_copies_no_equivalents():
    assert len(equivalents(molecule_of(MIXED))) == 1


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_turned_particles_are_found(share: float):
    rng = np.random.default_rng(1)
    n = 200
    true = random_rotations((n,), rng), rng.normal(size=(n, 2))
    noise = Rotation.from_rotvec(rng.normal(0, 0.02, (n, 3))).as_matrix()
    frame = Rotation.from_rotvec([0.2, -0.3, 0.1]).as_matrix()
    choices = equivalents(molecule_of(ARMS))
    swapped = rng.permutation(n) < share * n
    states = rng.random((3, n, 2))
    own = turned((noise @ true[0] @ frame, true[1]), choices, swapped.astype(int))
    found = choose(own, true, choices)
    # which of two equal halves counts as turned is a matter of the gauge
    agree = np.mean((found.which == 1) == swapped)
    assert max(agree, 1 - agree) == 1.0
    assert -found.gauge.score < 3.0
    if share < 0.5:
        assert agree == 1.0
    back = reordered(reordered(states, choices, swapped.astype(int)), choices, found.which)
    assert np.allclose(back, states if agree == 1.0 else states[..., ::-1])
