"""The burn-in step that takes a state-dependent rigid motion out of all poses."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from hypermol.data.latents import Consensus, Latents
from hypermol.fitting.blocks.moving_frame import take_out_shared_motion
from hypermol.molecule.state_basis import Cosine
from hypermol.posterior.pose_priors import Near
from hypermol.recipe.design import Grid, consensus
from hypermol.recipe.options import make_design
from hypermol.recipe.part_tables import read_generic
from hypermol.recipe.toml import read_recipe
from hypermol.space.rotation import (
    angle_between,
    matrix_from_quaternion,
    quaternion_from_vector,
    quaternion_multiply,
    random_quaternions,
)

BLOCKS, B = 8, 32
EVERYONE = Near(jnp.ones((BLOCKS, B)), jnp.ones((BLOCKS, B)))
BASIS = Cosine(2)


def planted(turn, drift, scatter_rad=0.0):
    """Latents whose poses left the consensus by a motion linear in the state weights."""
    keys = jax.random.split(jax.random.key(0), 5)
    consensus = random_quaternions(keys[0], BLOCKS * B).reshape(BLOCKS, B, 4)
    state = jax.random.uniform(keys[1], (BLOCKS, B, 1))
    weights = BASIS(state)
    vector = weights @ turn + scatter_rad * jax.random.normal(keys[2], (BLOCKS, B, 3))
    quaternion = quaternion_multiply(consensus, quaternion_from_vector(vector))
    rotations = matrix_from_quaternion(quaternion)
    centre = jax.random.normal(keys[3], (BLOCKS, B, 2))
    shift = centre + jnp.einsum("nbxa,nba->nbx", rotations[..., :2, :], weights @ drift)
    latents = Latents(quaternion, shift, jnp.ones((BLOCKS, B)), state)
    return latents, Consensus(consensus, centre)


def motion(size):
    terms = BASIS.n_terms
    return size * jnp.asarray(np.random.default_rng(1).normal(size=(terms, 3)), jnp.float32)


def angles(latents, consensus):
    first = np.asarray(matrix_from_quaternion(latents.quaternion)).reshape(-1, 3, 3)
    second = np.asarray(matrix_from_quaternion(consensus.quaternion)).reshape(-1, 3, 3)
    return angle_between(first, second)


def test_a_planted_motion_is_taken_out():
    turn, drift = motion(0.02), motion(0.5)
    latents, consensus = planted(turn, drift)
    settled, turned, drifted = take_out_shared_motion(
        BASIS(latents.state), latents, consensus, EVERYONE
    )
    assert np.median(angles(latents, consensus)) > 1.0
    # the ridge keeps a few percent, and the motion is only to first order a rotation vector
    assert np.median(angles(settled, consensus)) < 0.1 * np.median(angles(latents, consensus))
    left = np.abs(np.asarray(settled.shift_px - consensus.shift_px))
    assert np.median(left) < 0.1 * np.median(
        np.abs(np.asarray(latents.shift_px - consensus.shift_px))
    )
    assert float(turned) > 0.01 and float(drifted) > 0.2


def test_what_particles_do_on_their_own_is_left_alone():
    latents, consensus = planted(motion(0.0), motion(0.0), 0.05)
    settled, turned, _ = take_out_shared_motion(BASIS(latents.state), latents, consensus, EVERYONE)
    assert float(turned) < 0.02
    before, after = angles(latents, consensus), angles(settled, consensus)
    assert np.corrcoef(before, after)[0, 1] > 0.95


def test_absent_particles_do_not_speak():
    latents, consensus = planted(motion(0.02), motion(0.5))
    present = jnp.ones((BLOCKS, B)).at[-1].set(0.0)
    wild = latents._replace(shift_px=latents.shift_px.at[-1].add(100.0))
    weights = BASIS(latents.state)
    first = take_out_shared_motion(weights, latents, consensus, Near(present, present))[0]
    second = take_out_shared_motion(weights, wild, consensus, Near(present, present))[0]
    np.testing.assert_allclose(first.shift_px[:-1], second.shift_px[:-1], atol=1e-4)


def test_a_displaced_molecule_moves_its_image_by_the_first_two_rows_of_the_rotation():
    """The sign of the drift, against the transform of a displaced point: exp(-2 pi i k.d)."""
    rotation = np.asarray(matrix_from_quaternion(random_quaternions(jax.random.key(3), 1)[0]))
    displacement, k2 = np.array([3.0, -1.0, 2.0]), np.array([0.013, -0.027])
    k3 = k2 @ rotation[:2]
    image_shift = rotation[:2] @ displacement
    np.testing.assert_allclose(k3 @ displacement, k2 @ image_shift, rtol=1e-5)


def test_only_a_generic_molecule_with_states_has_a_free_frame():
    """A part at rest holds the frame of a composite; a rigid molecule has no state to move with."""
    pretzel = Path(__file__).parents[3] / "examples" / "pretzel.toml"
    grid = Grid(box=16, pixel_size_angstrom=20.0, kmax=4, radius_angstrom=150.0)
    composite = make_design(read_recipe(pretzel), 16, 20.0).molecule(grid, 3)
    assert not composite.frame_is_free
    assert not consensus(grid).frame_is_free
    assert read_generic("cosine", 3, "bend").molecule(grid, 3).frame_is_free


def test_rotations_tell_of_the_motion_whatever_is_thought_of_their_shifts():
    """Those few whose shifts stayed near the input's may be of a few states only."""
    latents, consensus = planted(motion(0.1), motion(0.0))
    few = (latents.state[..., 0] < 0.1).astype(jnp.float32)
    telling = Near(jnp.ones((BLOCKS, B)), few)
    settled, turned, _ = take_out_shared_motion(BASIS(latents.state), latents, consensus, telling)
    assert np.median(angles(settled, consensus)) < 0.15 * np.median(angles(latents, consensus))
    assert float(turned) > 0.05


def test_particles_that_are_half_believed_are_not_overshot():
    """Weights of 0.3 take out what weights of 1 do, but for the ridge."""
    latents, consensus = planted(motion(0.05), motion(0.5))
    weights, third = BASIS(latents.state), jnp.full((BLOCKS, B), 0.3)
    wholly = take_out_shared_motion(weights, latents, consensus, EVERYONE)
    partly = take_out_shared_motion(weights, latents, consensus, Near(third, third))
    for whole, part in zip(wholly[1:], partly[1:], strict=True):
        assert 0.75 * float(whole) < float(part) < 1.02 * float(whole)
    assert np.median(angles(partly[0], consensus)) < 0.25 * np.median(angles(latents, consensus))
