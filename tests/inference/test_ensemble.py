"""Candidate Gibbs steps leave known densities invariant; collapsed contrast against quadrature."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from scipy import integrate, stats
from scipy.spatial.transform import Rotation

from hypermol.inference import ensemble
from hypermol.inference.ensemble import CandidateCounts, MoveSize, Particles
from hypermol.inference.rotation_priors import AboutCentre, Anywhere
from hypermol.inference.target import Separable
from hypermol.posterior.pose_priors import pose_vector
from hypermol.space.discrete import Discrete
from hypermol.space.product import Product
from hypermol.space.rotation import random_quaternions
from hypermol.space.state_space import Circle, Interval, Point, StateSpace

N = 16000
PRECISION = 4.0


def flat_target(
    is_position: tuple[bool, ...] = (False,),
    log_rotation=lambda rotation: jnp.zeros(rotation.shape[:-2]),
    centre: Array | None = None,
    sd_rad: float | None = 0.05,
    **log_priors,
) -> Separable:
    """One feature; images tell `log_rotation` [...] of rotations [..., 3, 3] and nothing else.

    Rotations are anywhere where `sd_rad` is None.

    With no power in the images contrast's integral is (l + p)^2 / 2 p: l is chosen for it.
    """
    lowest = 50.0

    def evidence(rotations: Array, states: Array, shifts: Array) -> tuple[Array, Array]:
        block, n_rotations = rotations.shape[:2]
        gram = jnp.zeros((block, n_rotations, 1, 1))
        linear = jnp.sqrt(2.0 * PRECISION * (log_rotation(rotations) + lowest)) - PRECISION
        shape = (block, n_rotations, shifts.shape[1], 1)
        return gram, jnp.broadcast_to(linear[..., None, None], shape)

    priors = {
        "log_rotation": lambda q: jnp.zeros(q.shape[:-1]),
        "log_shift": lambda s: jnp.zeros(s.shape[:-1]),
        "log_state": lambda tau: jnp.zeros(tau.shape[:-1]),
    } | log_priors
    middle = jnp.tile(jnp.array([1.0, 0.0, 0.0, 0.0]), (N, 1)) if centre is None else centre
    return Separable(
        evidence=evidence,
        weights=lambda tau: jnp.ones((*tau.shape[:-1], 1)),
        lattice=lambda tau, n: tau[None],
        is_position=is_position,
        rotation_prior=Anywhere() if sd_rad is None else AboutCentre(middle, jnp.asarray(sd_rad)),
        contrast_precision=jnp.asarray(PRECISION),
        **priors,
    )


def run(
    start: Particles,
    target: Separable,
    space: StateSpace,
    size: tuple[float, float],
    counts: CandidateCounts,
    steps: int,
) -> Particles:
    """N particles after `steps` candidate steps (and state steps within +- 0.1)."""
    target = target._replace(lattice=space.lattice)
    widths = MoveSize(jnp.full(N, size[0]), jnp.full(N, size[1]))

    def one(particles: Particles, key: Array) -> tuple[Particles, None]:
        keys = jax.random.split(key)
        moved, local, _ = ensemble.candidate_step(keys[0], particles, target, space, widths, counts)
        if space.dim:
            state = ensemble.state_step(keys[1], moved.state, local, target, space, 0.1)
            moved = moved._replace(state=state)
        return moved, None

    keys = jax.random.split(jax.random.key(0), steps)
    return jax.jit(lambda p: jax.lax.scan(one, p, keys)[0])(start)


def start_at(quaternion=None, shift=None, state=None) -> Particles:
    identity = jnp.tile(jnp.array([1.0, 0.0, 0.0, 0.0]), (N, 1))
    return Particles(
        identity if quaternion is None else quaternion,
        jnp.zeros((N, 2)) if shift is None else shift,
        jnp.ones(N),
        jnp.zeros((N, 0)) if state is None else state,
    )


def assert_mean(values: np.ndarray, wanted: float) -> None:
    z = (values.mean() - wanted) / (values.std(ddof=1) / np.sqrt(len(values)))
    assert abs(z) < 4.0, (values.mean(), wanted, z)


#: Narrow steps, bold ones, and fresh draws of the prior.
WIDTHS = pytest.mark.parametrize("width", [0.3, 0.6, 5.0])


@WIDTHS
def test_rotations_without_images_follow_their_prior(width: float):
    """Gaussian in the rotation vector about the centre, whatever the step."""
    sd = 0.7
    centre = random_quaternions(jax.random.key(5), N)
    counts = CandidateCounts(rotations=6, shifts_per_axis=1, states=1)
    target = flat_target(centre=centre, sd_rad=sd)
    end = run(start_at(centre), target, Point(), (width, 0.1), counts, 30)
    vector = np.asarray(pose_vector(end.quaternion, centre), np.float64)
    assert_mean((vector**2).sum(axis=-1), 3.0 * sd**2)
    assert_mean((vector**2).sum(axis=-1) ** 2, 15.0 * sd**4)
    for axis in range(3):
        assert_mean(vector[:, axis], 0.0)


@WIDTHS
def test_rotations_follow_images_that_tell_the_angle(width: float):
    """exp(kappa cos angle) times the prior: one integral over the angle."""
    kappa, sd = 2.0, 0.9

    def log_rotation(rotation: Array) -> Array:
        return kappa * 0.5 * (jnp.trace(rotation, axis1=-2, axis2=-1) - 1.0)

    counts = CandidateCounts(rotations=4, shifts_per_axis=1, states=1)
    target = flat_target(log_rotation=log_rotation, sd_rad=sd)
    end = run(start_at(), target, Point(), (width, 0.1), counts, 60)
    q = np.asarray(end.quaternion, np.float64)
    cosine = 2.0 * q[:, 0] ** 2 - 1.0

    def moment(power: int) -> float:
        def weight(a, p):
            return np.cos(a) ** p * np.exp(kappa * np.cos(a) - 0.5 * (a / sd) ** 2) * a**2

        return (
            integrate.quad(weight, 0, np.pi, (power,))[0]
            / integrate.quad(weight, 0, np.pi, (0,))[0]
        )

    assert_mean(cosine, moment(1))
    assert_mean(cosine**2, moment(2))
    for axis in (1, 2, 3):
        assert_mean(q[:, 0] * q[:, axis], 0.0)


@WIDTHS
def test_rotations_that_may_be_anywhere_follow_the_images_alone(width: float):
    """exp(kappa cos angle) under Haar measure, whose density of the angle is 1 - cos."""
    kappa = 2.0

    def log_rotation(rotation: Array) -> Array:
        return kappa * 0.5 * (jnp.trace(rotation, axis1=-2, axis2=-1) - 1.0)

    counts = CandidateCounts(rotations=4, shifts_per_axis=1, states=1)
    target = flat_target(log_rotation=log_rotation, sd_rad=None)
    end = run(start_at(), target, Point(), (width, 0.1), counts, 60)
    q = np.asarray(end.quaternion, np.float64)

    def weight(a: float, power: int) -> float:
        return np.cos(a) ** power * np.exp(kappa * np.cos(a)) * (1.0 - np.cos(a))

    mass = integrate.quad(weight, 0, np.pi, (0,))[0]
    cosine = 2.0 * q[:, 0] ** 2 - 1.0
    for power in (1, 2):
        assert_mean(cosine**power, integrate.quad(weight, 0, np.pi, (power,))[0] / mass)


@WIDTHS
def test_rotations_follow_images_that_disagree_with_the_prior(width: float):
    """Against the prior's own draws, weighed by the likelihood; the centre is far from 1."""
    sd, middle = 0.4, Rotation.from_rotvec([1.0, -0.6, 1.3])
    wanted = (Rotation.from_rotvec([0.5, -0.3, 0.2]) * middle).as_matrix()

    def log_rotation(rotation: Array) -> Array:
        return 6.0 * jnp.einsum("...ab,ab->...", rotation, jnp.asarray(wanted, jnp.float32))

    centre = jnp.tile(jnp.asarray(middle.as_quat(scalar_first=True), jnp.float32), (N, 1))
    counts = CandidateCounts(rotations=4, shifts_per_axis=1, states=1)
    target = flat_target(log_rotation=log_rotation, centre=centre, sd_rad=sd)
    end = run(start_at(centre), target, Point(), (width, 0.1), counts, 60)
    found = np.asarray(pose_vector(end.quaternion, centre), np.float64)
    draws = sd * np.random.default_rng(0).normal(size=(400_000, 3))
    draws = draws[np.linalg.norm(draws, axis=1) < np.pi]
    turned = (Rotation.from_rotvec(draws) * middle).as_matrix()
    weight = np.exp(6.0 * (np.einsum("nab,ab->n", turned, wanted) - 3.0))
    weight /= weight.sum()
    for axis in range(3):
        for power in (1, 2):
            assert_mean(found[:, axis] ** power, weight @ draws[:, axis] ** power)


@pytest.mark.parametrize("space", [Interval(), Circle()], ids=["interval", "circle"])
@pytest.mark.parametrize("states", [1, 5, 8])
def test_states_follow_a_given_histogram(space: StateSpace, states: int):
    chance = np.array([0.5, 0.05, 0.3, 0.15])

    def log_state(tau: Array) -> Array:
        index = jnp.clip((tau[..., 0] * 4).astype(jnp.int32), 0, 3)
        return jnp.log(jnp.asarray(chance))[index]

    start = start_at(state=jnp.full((N, 1), 0.37))
    counts = CandidateCounts(rotations=1, shifts_per_axis=1, states=states)
    steps = 40 if states > 1 else 400
    end = run(start, flat_target(log_state=log_state), space, (0.1, 0.1), counts, steps)
    tau = np.asarray(end.state[:, 0], np.float64)
    assert tau.min() >= 0.0
    assert tau.max() <= 1.0
    fine = np.histogram(tau, np.linspace(0, 1, 17))[0]
    assert stats.chisquare(fine, N * np.repeat(chance / 4, 4)).pvalue > 1e-4


@pytest.mark.parametrize("space", [Interval(), Circle()], ids=["interval", "circle"])
def test_positions_follow_a_given_histogram(space: StateSpace):
    chance = np.array([0.5, 0.05, 0.3, 0.15])

    def log_state(tau: Array) -> Array:
        index = jnp.clip((tau[..., 0] * 4).astype(jnp.int32), 0, 3)
        return jnp.log(jnp.asarray(chance))[index]

    start = start_at(state=jnp.full((N, 1), 0.37))
    counts = CandidateCounts(rotations=1, shifts_per_axis=1, states=6, positions=5)
    target = flat_target(is_position=(True,), log_state=log_state)
    end = run(start, target, space, (0.1, 0.1), counts, 40)
    fine = np.histogram(np.asarray(end.state[:, 0]), np.linspace(0, 1, 17))[0]
    assert stats.chisquare(fine, N * np.repeat(chance / 4, 4)).pvalue > 1e-4


def test_rotations_and_positions_do_not_move_in_one_step():
    counts = CandidateCounts(rotations=3, shifts_per_axis=1, states=1, positions=3)
    with pytest.raises(ValueError, match="separate steps"):
        run(start_at(), flat_target(), Interval(), (0.1, 0.1), counts, 1)


def test_joint_states_follow_a_given_histogram():
    """A class and a hinge that depend on each other."""
    space = Product((Discrete("class", 3), Interval("hinge")))
    chance = np.random.default_rng(0).dirichlet(np.ones(12), 1)[0]

    def log_state(tau: Array) -> Array:
        return jnp.log(jnp.asarray(chance, jnp.float32))[joint_bin(tau)]

    def joint_bin(tau: Array) -> Array:
        return space.factors[0].index(tau[..., :1]) * 4 + space.factors[1].bin(tau[..., 1:], 4)

    start = start_at(state=jnp.tile(jnp.array([1 / 6, 0.37]), (N, 1)))
    counts = CandidateCounts(rotations=1, shifts_per_axis=1, states=9)
    end = run(
        start, flat_target((False, False), log_state=log_state), space, (0.1, 0.1), counts, 60
    )
    found = np.bincount(joint_bin(end.state), minlength=12)
    assert stats.chisquare(found, N * chance).pvalue > 1e-4
    np.testing.assert_allclose(end.state, space.wrap(end.state), atol=1e-6)


def test_candidates_of_an_asymmetric_lattice_would_be_caught():
    """Planted: a lattice that is not the same from each of its members (no fold at the ends)."""
    space = Interval()
    chance = jnp.array([0.7, 0.3])

    class Clipped:
        dim = 1

        def propose(self, key: Array, tau: Array, width: float) -> Array:
            return space.propose(key, tau, width)

        def lattice(self, tau: Array, n: int) -> Array:
            return jnp.clip(tau + jnp.arange(n)[:, None] / n, 0.0, 1.0)

    def log_state(tau: Array) -> Array:
        return jnp.log(chance)[(tau[..., 0] > 0.5).astype(jnp.int32)]

    counts = CandidateCounts(rotations=1, shifts_per_axis=1, states=6)
    start = start_at(state=jnp.full((N, 1), 0.37))
    end = run(start, flat_target(log_state=log_state), Clipped(), (0.1, 0.1), counts, 40)
    upper = int((np.asarray(end.state) > 0.5).sum())
    assert stats.binomtest(upper, N, 0.3).pvalue < 1e-6


@pytest.fixture(scope="module")
def shifted() -> np.ndarray:
    """Shifts [N, 2] after 60 steps under a Gaussian of mean (1, -0.5), sd 0.7; one start."""
    centre = jnp.array([1.0, -0.5])

    def log_shift(s: Array) -> Array:
        return -0.5 * jnp.sum((s - centre) ** 2, axis=-1) / 0.49

    counts = CandidateCounts(rotations=1, shifts_per_axis=3, states=1)
    end = run(start_at(), flat_target(log_shift=log_shift), Point(), (0.1, 0.5), counts, 60)
    return np.asarray(end.shift_px, np.float64)


def test_shifts_follow_a_gaussian(shifted: np.ndarray):
    for axis, mean in ((0, 1.0), (1, -0.5)):
        assert stats.kstest(shifted[:, axis], stats.norm(mean, 0.7).cdf).pvalue > 1e-4
    assert abs(np.corrcoef(shifted.T)[0, 1]) < 4.0 / np.sqrt(N)


def test_shifts_leave_the_lattice_of_their_start(shifted: np.ndarray):
    """All chains start at 0: a spacing that never varies would keep them on multiples of it."""
    assert len(np.unique(np.round(shifted, 4), axis=0)) > 0.99 * N


def test_one_candidate_leaves_poses_alone():
    counts = CandidateCounts(rotations=1, shifts_per_axis=1, states=1)
    start = start_at(random_quaternions(jax.random.key(1), N), jnp.ones((N, 2)))
    end = run(start, flat_target(), Point(), (0.5, 0.5), counts, 3)
    np.testing.assert_array_equal(end.quaternion, start.quaternion)
    np.testing.assert_array_equal(end.shift_px, start.shift_px)


def test_contrast_marginal_is_the_integral():
    rng = np.random.default_rng(0)
    for precision in (2.0, 50.0):
        linear, gram = rng.normal(3.0, 5.0, 6), rng.gamma(2.0, 4.0, 6)

        def integrand(a, b, g, p=precision):
            return np.exp(a * b - 0.5 * a**2 * g - 0.5 * p * (a - 1.0) ** 2)

        wanted = [
            np.log(integrate.quad(integrand, -20, 20, (b, g), points=(0, 1), limit=200)[0])
            for b, g in zip(linear, gram, strict=True)
        ]
        found = ensemble.contrast_marginal(jnp.asarray(linear), jnp.asarray(gram), precision)
        difference = np.asarray(found, np.float64) - wanted
        np.testing.assert_allclose(difference, difference[0], atol=2e-4)


def test_contrast_draw_has_its_gaussian_moments():
    linear, gram = jnp.full(100000, 3.0), jnp.full(100000, 5.0)
    drawn = np.asarray(ensemble.draw_contrast(jax.random.key(0), linear, gram, 4.0), np.float64)
    assert_mean(drawn, 7.0 / 9.0)
    assert_mean((drawn - 7.0 / 9.0) ** 2, 1.0 / 9.0)


def log_joint(tau: Array, contrast: float, gram: Array, linear: Array) -> Array:
    """log P(image, tau | contrast) of a linear-subspace model, as in `density.Separable`."""
    w = jnp.concatenate([jnp.ones(1), tau])
    return contrast * w @ linear - 0.5 * contrast**2 * w @ gram @ w - 0.5 * tau @ tau


def test_gaussian_states_have_the_moments_of_their_conditional():
    root = np.random.default_rng(2).normal(size=(3, 5))
    gram, linear = jnp.asarray(root @ root.T, jnp.float32), jnp.array([1.0, -2.0, 0.7])
    score = partial(log_joint, contrast=0.8, gram=gram, linear=linear)
    precision = -np.asarray(jax.hessian(score)(jnp.zeros(2)), np.float64)
    covariance = np.linalg.inv(precision)
    mean = covariance @ np.asarray(jax.grad(score)(jnp.zeros(2)), np.float64)
    n = 100000
    local = (jnp.broadcast_to(gram, (n, 3, 3)), jnp.broadcast_to(linear, (n, 3)))
    target = flat_target()._replace(
        weights=lambda z: jnp.concatenate([jnp.ones((*z.shape[:-1], 1)), z], axis=-1)
    )
    drawn = ensemble.gaussian_state_step(jax.random.key(0), jnp.full(n, 0.8), local, target, 2)
    away = np.asarray(drawn, np.float64) - mean
    for i in range(2):
        assert_mean(away[:, i], 0.0)
        for j in range(2):
            assert_mean(away[:, i] * away[:, j], covariance[i, j])
