import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.io.errors import InputError
from hypermol.molecule.gallery import cat, pretzel, toy

KEY = jax.random.key(0)
HALF_TURN = np.array([-1.0, -1.0, 1.0])


def centres(molecule, *tau) -> np.ndarray:
    return np.asarray(molecule.centres(molecule.init(KEY), jnp.array(tau)))


def test_half_turn_of_the_pretzel_exchanges_its_states():
    molecule = pretzel()
    theta = molecule.init(KEY)
    k = np.random.default_rng(0).normal(size=(50, 3)) * 0.01
    here = molecule.fourier(theta, jnp.asarray(k), jnp.array([0.2, 0.9]))
    turned = molecule.fourier(theta, jnp.asarray(k * HALF_TURN), jnp.array([0.9, 0.2]))
    assert np.abs(here - turned).max() < 1e-5 * np.abs(here).max()
    unswapped = molecule.fourier(theta, jnp.asarray(k * HALF_TURN), jnp.array([0.2, 0.9]))
    assert np.abs(here - unswapped).max() > 0.05 * np.abs(here).max()


def test_pretzel_arms_curl_independently_and_the_base_stays():
    molecule = pretzel(140.0)
    straight, curled = centres(molecule, 0.0, 0.4), centres(molecule, 1.0, 0.4)
    moved = np.linalg.norm(straight - curled, axis=-1)
    assert np.allclose(moved[:11], 0.0) and np.allclose(moved[19:], 0.0)
    assert moved[18] > 100.0
    links = np.linalg.norm(np.diff(curled[11:19], axis=0), axis=-1)
    assert np.allclose(links, links[0], rtol=1e-4)
    assert np.linalg.norm(straight, axis=-1).max() == pytest.approx(140.0, rel=1e-3)


def overlap(molecule, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Inner product of the densities with blobs at first [n, 3] and at each of second [m, n, 3]."""
    theta = molecule.init(KEY)
    weight, width = np.asarray(theta["amplitude"]), np.asarray(theta["width"])
    variance = width[:, None] ** 2 + width**2
    distance2 = np.sum((first[:, None] - second[:, None]) ** 2, axis=-1)
    factor = weight[:, None] * weight / variance**1.5
    return np.sum(factor * np.exp(-0.5 * distance2 / variance), axis=(1, 2))


def test_pretzel_has_a_hand():
    molecule = pretzel()
    shape = centres(molecule, 0.3, 0.3)
    weight = np.asarray(molecule.init(KEY)["amplitude"])
    shape = shape - weight @ shape / weight.sum()
    turns = Rotation.from_quat(np.random.default_rng(0).normal(size=(2000, 4))).as_matrix()
    itself = overlap(molecule, shape, shape[None])[0]
    unknown = Rotation.from_rotvec([0.4, 1.0, -0.7]).as_matrix()
    found = [
        overlap(molecule, shape, (copy @ unknown) @ np.swapaxes(turns, 1, 2)).max() / itself
        for copy in (shape, shape * [1, 1, -1])
    ]
    # a coarse search finds the molecule again, and its mirror image nowhere
    assert found[0] > 0.85 and found[1] < 0.7


def test_pretzel_with_one_arm():
    molecule = pretzel(arms=1)
    assert molecule.state_space.dim == 1
    first, second = centres(molecule, 0.0), centres(molecule, 1.0)
    assert np.allclose(first[19:], second[19:])
    with pytest.raises(InputError, match="1 or 2"):
        pretzel(arms=3)


@pytest.mark.parametrize(("circle", "expected"), [(False, 240.0), (True, 180.0)])
def test_only_the_head_of_the_cat_turns(circle, expected):
    molecule = cat(100.0, circle=circle)
    before, after = centres(molecule, 0.0), centres(molecule, 0.5 if circle else 1.0)
    head = np.linalg.norm(before - after, axis=-1) > 1e-3
    assert head[-8:-4].any() and not head[:-8].any()
    pivot = np.asarray(molecule.init(KEY)["path"]["pivot"])
    nose = [c[-5, :2] - pivot[:2] for c in (before, after)]
    angle = np.rad2deg(np.diff([np.arctan2(n[1], n[0]) for n in nose]))[0] % 360.0
    assert angle == pytest.approx(expected, abs=0.1)


def test_the_head_on_a_circle_comes_round():
    molecule = cat(circle=True)
    assert np.allclose(centres(molecule, 0.0), centres(molecule, 1.0), atol=1e-2)
    assert not np.allclose(centres(molecule, 0.0), centres(molecule, 0.9), atol=5.0)


def test_toys_by_name():
    assert toy("cat").state_space.names == ("head",)
    assert toy("pretzel").state_space.names == ("arm_1", "arm_2")
    with pytest.raises(InputError, match="cat, pretzel"):
        toy("dog")
