"""Composites: slices, symmetric copies, trajectories and densities against direct evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats
from scipy.spatial.transform import Rotation

from hypermol.molecule.composite import Composite, composite, expansion
from hypermol.molecule.parts import Part, Place
from hypermol.molecule.protocol import Coefficients, LinearMolecule
from hypermol.molecule.spatial_basis.prolates import Prolates
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import Chebyshev, Constant, Cosine, Fourier, Variation
from hypermol.molecule.trajectory import Hinge, RigidBody, Still, Trajectory, Translation
from hypermol.space.fourier import half_plane
from hypermol.space.state_space import Circle, Interval

BOX, PIXEL, KMAX = 24, 2.0, 8
C2 = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
BODY = Voxels(BOX, PIXEL, KMAX, 12.0)
ARM = Prolates(BOX, PIXEL, KMAX, 8.0, (10.0, 2.0, 0.0))
HINGE = Hinge(
    Cosine(3, Interval("arm")), (4.0, 0.0, 0.0), (0.0, 0.0, 1.0), 0.0, 0.4, 0.2, 2.0, start_rad=0.3
)


def pretzel(trajectory: Trajectory | None = None) -> Composite:
    """A body and two copies of an arm."""
    places = (Place(("arm_1",)), Place(("arm_2",), C2))
    arm = Part("arm", ARM, Cosine(3, Interval("arm")), trajectory or Still(), places)
    return composite((Part("body", BODY, Constant()), arm))


def random_theta(molecule: Composite) -> Coefficients:
    """Smooth random maps (drawn from a falling prior) and trajectories off their start."""
    rng = np.random.default_rng(0)
    fresh = molecule.init(jax.random.key(0))
    fall = jnp.asarray(np.exp(-np.arange(KMAX + 2) / 4.0), jnp.float32)
    spectrum = jnp.tile(fall, (len(molecule.term_sizes), 1))
    maps = molecule.precision_root(jax.random.key(1), spectrum)
    motion = jax.tree.map(
        lambda x: x + jnp.asarray(0.3 * rng.normal(size=x.shape), jnp.float32), fresh.motion
    )
    return Coefficients(maps, motion)


MOLECULES = {
    "shared arms": pretzel(),
    "hinged arms": pretzel(HINGE),
    "moving arms": pretzel(Translation(Chebyshev(2, Interval("arm")), 3.0, (2.0, 0.0, 0.0))),
    "two bodies": composite(
        (
            Part("body", BODY, Constant()),
            Part("head", ARM, Constant(), RigidBody("head", (10.0, 2.0, 0.0), 0.2, 1.0)),
        )
    ),
    "turning head": composite(
        (
            Part("body", BODY, Constant()),
            Part(
                "head",
                ARM,
                Constant(),
                Hinge(Fourier(3, Circle("phase")), (0.0, 0.0, 0.0), (0.0, 1.0, 1.0), turns=1.0),
            ),
        )
    ),
}


@pytest.fixture(params=list(MOLECULES), scope="module")
def molecule(request) -> Composite:
    return MOLECULES[request.param]


def features_of(molecule: Composite, theta: Coefficients, turns, states, k) -> np.ndarray:
    """Compiled as one: the pieces of prolates compile slowly one by one."""

    @jax.jit
    def seen(theta):
        return molecule.features(molecule.prepare(theta), turns, states, k)

    return np.asarray(seen(theta))


def state_of(molecule: Composite) -> jnp.ndarray:
    return 0.2 + 0.5 * jnp.asarray(np.random.default_rng(3).uniform(size=molecule.state_space.dim))


def test_it_is_a_linear_molecule(molecule):
    assert isinstance(molecule, LinearMolecule)
    terms = len(molecule.term_labels)
    assert len(molecule.term_sizes) == len(molecule.whole_terms) == terms
    assert molecule.slice_gain.shape[1] == len(molecule.power_gain) == terms
    assert molecule.weights(state_of(molecule)).shape[-1] == len(molecule.feature_terms)


def test_slices_agree_with_direct_evaluation(molecule):
    theta, tau = random_theta(molecule), state_of(molecule)
    turns = Rotation.random(2, random_state=0).as_matrix().astype(np.float32)
    k = half_plane(BOX, KMAX).frequencies.astype(np.float32)
    states = jnp.tile(tau, (2, 1))
    features = features_of(molecule, theta, jnp.asarray(turns), states, k)
    slices = np.einsum("f,bfk->bk", molecule.weights(tau), features)
    points = jnp.asarray(k @ turns[:, :2] / (BOX * PIXEL))
    fourier = jax.jit(molecule.fourier)
    direct = np.stack([np.asarray(fourier(theta, p, tau)) for p in points])
    assert np.linalg.norm(slices - direct) / np.linalg.norm(direct) < 0.03


def test_density_projects_to_the_slice(molecule):
    """Sum of the density over z is the image seen from the identity."""
    theta, tau = random_theta(molecule), state_of(molecule)
    density = np.asarray(jax.jit(molecule.density)(theta, tau), np.float64)
    n = len(density)
    plane = half_plane(BOX, KMAX)
    axis = np.arange(n) - n // 2
    k = plane.frequencies / n
    waves = [np.exp(-2j * np.pi * k[:, d, None] * axis) for d in range(2)]
    image = np.einsum("yx,kx,ky->k", density.sum(axis=0), *waves) * BODY.scale
    k = jnp.asarray(plane.frequencies, jnp.float32)
    features = features_of(molecule, theta, jnp.eye(3)[None], tau[None], k)
    expected = np.asarray(molecule.weights(tau) @ features[0])
    low = np.linalg.norm(plane.frequencies, axis=1) < 0.8 * KMAX
    error = np.linalg.norm((image - expected)[low]) / np.linalg.norm(expected[low])
    assert error < 0.06  # samples of the density fold what lies above kmax


def test_features_have_an_exact_adjoint(molecule):
    theta, tau = random_theta(molecule), state_of(molecule)
    turns = jnp.asarray(Rotation.random(2, random_state=1).as_matrix(), jnp.float32)
    k = jnp.asarray(half_plane(BOX, KMAX).frequencies, jnp.float32)

    def forward(maps):
        prepared = molecule.prepare(theta._replace(maps=maps))
        return molecule.features(prepared, turns, jnp.tile(tau, (2, 1)), k)

    value, transpose = jax.vjp(jax.jit(forward), theta.maps)
    rng = np.random.default_rng(2)
    other = jnp.asarray(rng.normal(size=value.shape) + 1j * rng.normal(size=value.shape))
    (back,) = transpose(jnp.conj(other).astype(value.dtype))
    left = float(jnp.sum((value * jnp.conj(other)).real))
    right = float(jnp.sum(molecule.term_products(back, theta.maps)))
    assert left == pytest.approx(right, rel=1e-3, abs=1e-3 * float(jnp.linalg.norm(value)))


@pytest.mark.parametrize("name", ["hinged arms", "moving arms", "turning head"])
def test_trajectories_have_gradients(name):
    molecule = MOLECULES[name]
    theta, tau = random_theta(molecule), state_of(molecule)
    k = jnp.asarray(half_plane(BOX, 4).frequencies, jnp.float32)
    points = jnp.pad(k, ((0, 0), (0, 1))) / (BOX * PIXEL)
    flat, rebuild = ravel_pytree(theta.motion)

    def power(values):
        moved = molecule.fourier(theta._replace(motion=rebuild(values)), points, tau)
        return jnp.sum(moved.real * jnp.cos(jnp.arange(len(moved))))

    value, gradient = jax.jit(power), np.asarray(jax.jit(jax.grad(power))(flat))
    assert np.all(np.isfinite(gradient))
    step = 1e-2
    for i in range(len(flat)):
        up, down = flat.at[i].add(step), flat.at[i].add(-step)
        difference = (float(value(up)) - float(value(down))) / (2 * step)
        slack = 0.02 * float(np.abs(gradient).max())
        assert float(gradient[i]) == pytest.approx(difference, rel=0.05, abs=slack)


def test_a_copy_is_the_part_turned_by_its_operator():
    molecule = MOLECULES["shared arms"]
    theta = random_theta(molecule)
    theta.maps["body"] = jnp.zeros_like(theta.maps["body"])
    density = jax.jit(molecule.density)
    both = np.asarray(density(theta, jnp.array([0.3, 0.7])))
    swapped = np.asarray(density(theta, jnp.array([0.7, 0.3])))
    turned = np.roll(swapped[:, ::-1, ::-1], (1, 1), axis=(1, 2))  # about the voxel n // 2
    # the first copy is sampled as it stands, the second through its transform: the functions'
    # sharp edges differ
    assert np.corrcoef(both.ravel(), turned.ravel())[0, 1] > 0.9


def test_only_knobs_that_no_trajectory_reads_have_a_lattice():
    both = composite(
        (
            Part("body", BODY, Cosine(2, Interval("breath"))),
            Part("head", ARM, Constant(), HINGE),
        )
    )
    assert both.state_space.names == ("breath", "arm")
    assert both.is_position == (False, True)
    members = np.asarray(both.lattice(jnp.array([0.2, 0.6]), 8))
    assert members.shape == (8, 2)
    assert np.ptp(members[:, 0]) > 0.5
    np.testing.assert_allclose(members[:, 1], 0.6)


def test_levels_carry_maps_and_motion():
    coarse = pretzel(HINGE)
    theta = random_theta(coarse)
    arm = Prolates(BOX, PIXEL, 10, 8.0, (10.0, 2.0, 0.0))
    places = (Place(("arm_1",)), Place(("arm_2",), C2))
    fine = composite(
        (
            Part("body", Voxels(BOX, PIXEL, 10, 12.0), Constant()),
            Part("arm", arm, Cosine(4, Interval("arm")), HINGE, places),
        )
    )
    grown = fine.resize(theta, coarse)
    assert grown.maps["arm"].shape[0] == 4
    tau = state_of(coarse)
    k = half_plane(BOX, 6).frequencies
    points = jnp.asarray(np.pad(k, ((0, 0), (0, 1))) / (BOX * PIXEL), jnp.float32)
    before = jax.jit(coarse.fourier)(theta, points, tau)
    after = jax.jit(fine.fourier)(grown, points, tau)
    assert np.corrcoef(np.abs(before), np.abs(after))[0, 1] > 0.95
    jax.tree.map(np.testing.assert_array_equal, theta.motion, grown.motion)


def test_the_mean_is_exact_for_parts_that_rest_and_drawn_for_those_that_move():
    """Copies of a resting arm: each its own mean, wherever the base measure puts their states."""
    resting = MOLECULES["shared arms"]
    theta = random_theta(resting)
    nodes = np.stack(np.meshgrid(*2 * [(np.arange(8) + 0.5) / 8]), axis=-1).reshape(-1, 2)
    density = jax.jit(lambda tau: resting.density(theta, tau))
    expected = np.mean([density(jnp.asarray(tau, jnp.float32)) for tau in nodes], axis=0)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(resting.mean(theta), expected, atol=1e-4 * scale)
    moving = MOLECULES["moving arms"]
    theta = random_theta(moving)
    theta.maps["arm"] = jnp.zeros_like(theta.maps["arm"])
    still = jax.jit(moving.density)(theta, jnp.array([0.3, 0.9]))
    np.testing.assert_allclose(moving.mean(theta), still, atol=1e-4 * float(jnp.abs(still).max()))


def test_a_subspace_starts_the_states_of_both_copies():
    molecule = pretzel()
    linear = molecule.subspace(2)
    assert linear is not None
    assert linear.state_space.is_subspace
    assert linear.state_space.dim == 4
    theta = linear.init(jax.random.key(0))
    theta.maps["arm"] = theta.maps["arm"].at[1, 0].set(5.0).at[2, 1].set(0.1)
    scores = np.random.default_rng(0).normal(size=(200, 4))
    tau = molecule.first_states(jax.random.key(0), theta, scores, linear)
    for own, first in ((0, 0), (1, 2)):
        assert abs(np.corrcoef(tau[:, own], scores[:, first])[0, 1]) > 0.9
    assert MOLECULES["two bodies"].subspace(2) is None


def test_a_part_that_only_varies_leaves_the_mean_to_the_body():
    space = Interval("open")
    parts = (Part("body", BODY, Constant()), Part("arm", ARM, Variation(Cosine(3, space))))
    molecule = composite(parts)
    consensus = expansion(BODY, Constant())
    whole = consensus.init(jax.random.key(0))
    whole.maps[""] = jax.random.normal(jax.random.key(1), whole.maps[""].shape)
    theta = molecule.resize(whole, consensus)
    assert theta.maps["arm"].shape[0] == 2 and not theta.maps["arm"].any()
    assert list(molecule.whole_terms) == [True, False, False]
    linear = molecule.subspace(2)
    assert linear is not None and len(linear.term_labels) == 3
    start = linear.init(jax.random.key(0))
    start.maps["arm"] = start.maps["arm"].at[0, 0].set(5.0).at[1, 1].set(0.1)
    scores = np.random.default_rng(0).normal(size=(200, 2))
    tau = molecule.first_states(jax.random.key(0), start, scores, linear)
    assert abs(stats.spearmanr(tau[:, 0], scores[:, 0]).statistic) > 0.9


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Place((), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))), "not a rotation"),
        (lambda: composite((Part("a", BODY, Constant()), Part("a", BODY, Constant()))), "2 times"),
        (
            lambda: composite((Part("a", BODY, Cosine(2), places=(Place(), Place())),)),
            "names 0 knobs",
        ),
        (
            lambda: composite(
                (
                    Part("a", BODY, Cosine(2, Interval("x"))),
                    Part("b", BODY, Fourier(3, Circle("x"))),
                )
            ),
            "another name",
        ),
        (
            lambda: composite(
                (Part("a", BODY, Constant()), Part("b", Voxels(BOX, PIXEL, 6, 9.0), Constant()))
            ),
            "different grids",
        ),
        (lambda: Hinge(Cosine(2), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)), "no direction"),
        (lambda: Hinge(Cosine(2), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0), 1.0), "on a circle"),
    ],
)
def test_parts_that_do_not_fit_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
