"""States that are mirror images of others, and states that only move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.analysis.alignment import align_both_hands, align_volumes
from hypermol.analysis.gauge import flip_hand, rotate_volume
from hypermol.analysis.hands import judge_hands, states_apart
from hypermol.molecule.gallery import toy

from .blobs import blob_volume

BOX = 32


def moving(n: int) -> np.ndarray:
    """[n, BOX, BOX, BOX] a chiral molecule of which two balls of five move by 3 px."""
    places = [[9, 0, 0], [-2, 8, 1], [0, -5, 7], [-3, -4, -8], [4, 5, -4]]
    centres, masses = np.array(places, float), np.array([1.0, 0.8, 1.2, 0.7, 0.9])
    volumes = []
    for state in np.linspace(0.0, 1.0, n):
        bent = centres.copy()
        bent[:2, 2] += 3.0 * state
        volumes.append(blob_volume(bent, masses, BOX))
    return np.stack(volumes)


def test_both_hands_are_scored_and_the_better_is_what_a_global_search_finds() -> None:
    volume = moving(1)[0]
    turn = Rotation.from_rotvec([0.5, -1.1, 0.4]).as_matrix()
    hands = align_both_hands(rotate_volume(flip_hand(volume), turn), volume, 1.0)
    assert hands.mirrored.flipped and hands.mirrored.score > 0.99
    assert not hands.kept.flipped and hands.kept.score < 0.9
    found = align_volumes(rotate_volume(volume, turn), volume, 1.0, "global")
    hands = align_both_hands(rotate_volume(volume, turn), volume, 1.0)
    assert not found.flipped
    assert Rotation.from_matrix(found.rotation @ hands.kept.rotation.T).magnitude() < 0.02


@pytest.mark.parametrize("mirrored", [(), (1, 3)])
def test_which_states_have_the_other_hand(mirrored: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    volumes = moving(4)
    for place in mirrored:
        turn = Rotation.random(rng=rng).as_matrix()
        volumes[place] = rotate_volume(flip_hand(volumes[place]), turn)
    volumes[2] *= 1.1  # the strongest
    volumes += rng.normal(0.0, 0.1 * volumes.std(), volumes.shape)
    found = judge_hands(np.arange(4.0)[:, None], volumes)
    assert [row[0] for row in found.states] == [2.0, 0.0, 1.0, 3.0]
    assert found.other_hand == [False, 1 in mirrored, 3 in mirrored]
    assert found.is_mixed == bool(mirrored)


@pytest.mark.parametrize(("name", "is_own"), [("cat", True), ("pretzel", False)])
def test_the_cat_is_its_own_mirror_image_but_for_its_tail(name: str, is_own: bool) -> None:
    molecule = toy(name, 50.0)
    theta = molecule.init(jax.random.key(0))
    states = np.linspace(0.0, 1.0, 3)[:, None] * np.ones(molecule.state_space.dim)
    axis = np.fft.ifftshift(np.arange(BOX) - BOX // 2) / (5.0 * BOX)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    points = jnp.asarray(np.stack([x, y, z], axis=-1).reshape(-1, 3), jnp.float32)
    inside = np.sqrt(x**2 + y**2 + z**2) < 9.0 / (5.0 * BOX)
    volumes = []
    for state in states:
        values = np.asarray(molecule.fourier(theta, points, jnp.asarray(state, jnp.float32)))
        volume = np.fft.ifftn(values.reshape(BOX, BOX, BOX) * inside).real
        volumes.append(np.fft.fftshift(volume))
    found = judge_hands(states, np.stack(volumes))
    assert found.is_own_mirror == is_own, found


def test_states_that_are_far_apart() -> None:
    line = np.linspace(0.0, 1.0, 101)[:, None]
    assert np.sort(states_apart(line, 5)[:, 0]).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert len(states_apart(line[:2], 5)) == 2
    two_classes = np.repeat([[0.0], [1.0]], 20, axis=0)
    assert np.sort(states_apart(two_classes, 5)[:, 0]).tolist() == [0.0, 1.0]
    assert len(states_apart(two_classes[:20], 5)) == 1
