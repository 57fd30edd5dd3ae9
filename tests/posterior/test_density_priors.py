"""Priors on densities: values in NumPy, what a quadratic form must be, what mass flow measures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf
from scipy.stats import wasserstein_distance

from hypermol.io.errors import InputError
from hypermol.molecule.composite import Composite, composite, expansion
from hypermol.molecule.parts import Part, Place
from hypermol.molecule.protocol import Coefficients
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import (
    Chebyshev,
    Constant,
    Cosine,
    Fourier,
    Hats,
    OneHot,
    ProductBasis,
)
from hypermol.molecule.trajectory import Translation
from hypermol.posterior.density_priors import DensityPrior, NoPrior, Positivity, UserPrior
from hypermol.posterior.state_smoothness import AdjacentStates, MassFlow, translation_reference
from hypermol.recipe.density_priors import read_density_prior
from hypermol.space.discrete import Discrete
from hypermol.space.normal import Gaussian
from hypermol.space.product import Product
from hypermol.space.state_space import Circle, Interval
from one_part import one_part

BOX, KMAX, PIXEL, NODES = 12, 4, 1.5, 9
BASIS = Voxels(BOX, PIXEL, KMAX, 5.0 * PIXEL)
LENGTH = 6.0
MOLECULES = {"interval": expansion(BASIS, Cosine(3)), "circle": expansion(BASIS, Fourier(3))}
QUADRATIC: dict[str, DensityPrior] = {
    "adjacent": AdjacentStates(0.3, NODES, BOX),
    "flow": MassFlow(0.7, NODES, BOX, PIXEL, LENGTH, 0.4),
}


def size_of_theta(molecule, theta):
    """A user's prior: not a quadratic form."""
    return -jnp.sum(jnp.sqrt(1.0 + theta.maps[""] ** 2))


OTHERS: dict[str, DensityPrior] = {
    "positivity": Positivity(0.6, 0.4, 5, BOX),
    "user": UserPrior(size_of_theta),
}


def random_theta(molecule: Composite, seed: int = 0) -> Coefficients:
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(len(molecule.term_labels), *BASIS.coefficient_shape)) * BASIS.support
    return one_part(maps)


def densities_along(name: str, theta: Coefficients) -> np.ndarray:
    """V at the nodes, from end to end or round the circle and back to the first: float64."""
    angle = np.pi * np.linspace(0, 1, NODES)
    rows = [np.ones(NODES), np.sqrt(2) * np.cos(angle), np.sqrt(2) * np.cos(2 * angle)]
    if name == "circle":
        angle = 2 * np.pi * (np.arange(NODES + 1) + 0.5) / NODES
        rows = [np.ones(NODES + 1), np.sqrt(2) * np.cos(angle), np.sqrt(2) * np.sin(angle)]
    return np.einsum("qj,qzyx->jzyx", rows, np.asarray(theta.maps[""], np.float64))


def direct(kind: str, name: str, theta: Coefficients) -> float:
    """The log priors again, in NumPy."""
    steps = np.diff(densities_along(name, theta), axis=0) * (NODES - (name == "interval"))
    n = BASIS.n
    hat = np.fft.fftn(steps, axes=(1, 2, 3)) * (BOX / n) ** 3
    if kind == "adjacent":
        return -0.15 * np.mean(np.sum(np.abs(hat / BOX) ** 2, axis=(1, 2, 3)))
    k = np.fft.fftfreq(n, BOX * PIXEL / n)
    wave2 = 4 * np.pi**2 * (k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)
    # masses are sums over pixels; the box holds (BOX PIXEL)^3 cubic Angstrom
    norm2 = np.sum(np.abs(hat) ** 2 / (wave2 + LENGTH**-2), axis=(1, 2, 3)) / (BOX * PIXEL) ** 3
    return -0.35 * np.mean(norm2) / (0.4 / PIXEL**3)


@pytest.mark.parametrize("name", MOLECULES)
@pytest.mark.parametrize("kind", QUADRATIC)
def test_smoothness_is_what_numpy_says(kind: str, name: str) -> None:
    molecule = MOLECULES[name]
    theta = random_theta(molecule)
    found = float(jax.jit(lambda t: QUADRATIC[kind].log_density(molecule, t))(theta))
    assert found == pytest.approx(direct(kind, name, theta), rel=1e-4)


def test_positivity_is_what_numpy_says() -> None:
    molecule = MOLECULES["interval"]
    theta = random_theta(molecule)
    angle = np.pi * (np.arange(5) + 0.5) / 5
    rows = [np.ones(5), np.sqrt(2) * np.cos(angle), np.sqrt(2) * np.cos(2 * angle)]
    values = np.einsum("qj,qzyx->jzyx", rows, np.asarray(theta.maps[""], np.float64))
    soft = np.logaddexp(0.0, -values / 0.4) ** 2 - np.log(2.0) ** 2
    expected = -0.6 * np.mean(np.sum(soft, axis=(1, 2, 3))) * (BOX / BASIS.n) ** 3
    found = float(OTHERS["positivity"].log_density(molecule, theta))
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", [*QUADRATIC, *OTHERS])
def test_gradients_are_finite_differences(kind: str) -> None:
    molecule, prior = MOLECULES["interval"], {**QUADRATIC, **OTHERS}[kind]
    theta, way = random_theta(molecule), random_theta(molecule, 1)
    value = jax.jit(lambda maps: prior.log_density(molecule, one_part(maps)))
    found = float(jnp.vdot(jax.grad(value)(theta.maps[""]), way.maps[""]))
    h = 0.01
    ends = [float(value(theta.maps[""] + side * h * way.maps[""])) for side in (1, -1)]
    assert found == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=5e-3, abs=0.5)


@pytest.mark.parametrize("name", MOLECULES)
@pytest.mark.parametrize("kind", QUADRATIC)
def test_quadratic_members_are_quadratic_forms(kind: str, name: str) -> None:
    """-<x, A x> / 2, A symmetric, its perturbation of covariance A."""
    molecule, prior = MOLECULES[name], QUADRATIC[kind]
    x, y = (random_theta(molecule, seed).maps[""] for seed in (2, 3))
    apply = jax.jit(lambda maps: prior.precision(molecule, one_part(maps))[""])
    ax, ay = apply(x), apply(y)
    assert float(jnp.vdot(y, ax)) == pytest.approx(float(jnp.vdot(x, ay)), rel=1e-3, abs=1e-2)
    value = float(prior.log_density(molecule, one_part(x)))
    assert value == pytest.approx(-0.5 * float(jnp.vdot(x, ax)), rel=1e-4)
    assert prior.is_quadratic and prior.tilt(molecule, one_part(x)).size == 0

    drawn = jax.jit(
        jax.vmap(lambda key: prior.precision_root(key, molecule, one_part(0.0 * x))[""])
    )(jax.random.split(jax.random.key(0), 3000))
    seen = np.asarray(jnp.stack([jnp.tensordot(drawn, way, axes=4) for way in (x, y)]), np.float64)
    expected = np.array([[jnp.vdot(x, ax), jnp.vdot(x, ay)], [jnp.vdot(y, ax), jnp.vdot(y, ay)]])
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    # five standard deviations of a sample covariance
    assert np.max(np.abs(np.cov(seen) - expected) / scale) < 5 * np.sqrt(2 / 3000)


@pytest.mark.parametrize("kind", QUADRATIC)
def test_shell_estimate_is_near_the_matrix(kind: str) -> None:
    """Its mean over white maps in the ball is that of the matrix, to the ball's blur of k."""
    molecule, prior = MOLECULES["interval"], QUADRATIC[kind]
    shells = prior.shell_precision(molecule, BASIS.n_shells)
    assert np.linalg.eigvalsh(np.asarray(shells, np.float64)).min() > -1e-3 * float(shells.max())
    x = random_theta(molecule, 4)
    found = molecule.term_products(x.maps, molecule.multiply_shells(x.maps, shells))
    expected = molecule.term_products(x.maps, prior.precision(molecule, x))
    rtol = 0.02 if kind == "adjacent" else 0.3
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-2 * float(expected.max()))


def test_the_number_of_nodes_does_not_matter() -> None:
    molecule = MOLECULES["interval"]
    theta = random_theta(molecule)
    values = [AdjacentStates(1.0, n, BOX).log_density(molecule, theta) for n in (16, 64)]
    assert float(values[0]) == pytest.approx(float(values[1]), rel=0.02)


def test_a_constant_molecule_costs_nothing() -> None:
    hats = expansion(BASIS, Hats(4))
    one = random_theta(MOLECULES["interval"]).maps[""][0]
    theta = one_part(jnp.stack([one] * 4))
    value = float(AdjacentStates(1.0, 16, BOX).log_density(hats, theta))
    assert abs(value) < 1e-6 * float(jnp.sum(one**2)) * BOX


@pytest.mark.parametrize(
    ("space", "slopes"),
    [
        (Interval(), (1.5,)),
        (Product((Interval("a"), Interval("b"))), (1.0, 2.0)),
        (Product((Discrete("c", 3), Interval("b"))), (0.0, 2.0)),
        (Product((Gaussian(2), Interval("b"), Discrete("c"))), (0.0, 0.0, 3.0, 0.0)),
    ],
)
def test_pairs_sum_to_the_mean_squared_slope_along_each_knob(space, slopes) -> None:
    """Knobs without neighbours, classes and Gaussian coordinates, say nothing."""
    known = space.neighbours(7)
    values = np.asarray(known.nodes, np.float64) @ np.asarray(slopes)
    first, second = known.pairs.T
    found = np.sum(known.weights * (values[second] - values[first]) ** 2)
    assert found == pytest.approx(np.sum(np.square(slopes)), rel=1e-5)
    assert np.all(np.sum(np.asarray(known.nodes)[first] != np.asarray(known.nodes)[second], 1) == 1)


def test_circles_close_and_classes_have_no_neighbours() -> None:
    assert (4, 0) in {tuple(pair) for pair in Circle().neighbours(5).pairs.tolist()}
    molecule = expansion(BASIS, OneHot(Discrete("c", 3)))
    prior, theta = AdjacentStates(1.0, 5, BOX), random_theta(molecule)
    assert float(prior.log_density(molecule, theta)) == 0.0
    assert not np.any(prior.shell_precision(molecule, BASIS.n_shells))


def test_product_molecules_are_smooth_along_both_knobs() -> None:
    """V = a(t) + b(u): the sum of what each knob's own prior says."""
    both = expansion(BASIS, ProductBasis((Cosine(2, Interval("t")), Cosine(2, Interval("u")))))
    maps = np.zeros((len(both.term_labels), *BASIS.coefficient_shape), np.float32)
    rng, expected = np.random.default_rng(5), 0.0
    prior, one = AdjacentStates(1.0, 8, BOX), expansion(BASIS, Cosine(2))
    for tau in ([0.0, 0.5], [0.5, 0.0]):  # where the other knob's cosine vanishes
        row = np.asarray(both.weights(jnp.asarray(tau)))
        alone = np.flatnonzero(np.abs(row - np.eye(len(both.term_labels))[0]) > 1e-3)
        assert len(alone) == 1
        maps[alone[0]] = rng.normal(size=BASIS.coefficient_shape) * BASIS.support
        own = one_part(jnp.stack([jnp.zeros(BASIS.coefficient_shape), maps[alone[0]]]))
        expected += float(prior.log_density(one, own))
    found = float(prior.log_density(both, one_part(maps)))
    assert found == pytest.approx(expected, rel=1e-4)


def test_parts_that_move_are_compared_where_they_are() -> None:
    """A rigid arm that swings with a knob: against densities at the nodes; smooth in the path."""
    arm = Voxels(BOX, PIXEL, KMAX, 3.5, (4.0, 0.0, 0.0))
    path = Translation(Chebyshev(2, Interval("arm")), 1.0, (0.0, 3.0, 0.0))
    molecule = composite(
        (
            Part("body", BASIS, Constant()),
            Part("arm", arm, Constant(), path, (Place(("arm",)),)),
        )
    )
    fresh, prior = molecule.init(jax.random.key(0)), AdjacentStates(0.3, NODES, BOX)
    spectrum = jnp.tile(jnp.exp(-jnp.arange(BASIS.n_shells) / 1.0), (2, 1))
    theta = fresh._replace(maps=molecule.precision_root(jax.random.key(1), spectrum))
    known = molecule.state_space.neighbours(NODES).nodes
    values = jax.jit(lambda t: jax.lax.map(lambda tau: molecule.density(t, tau), known))(theta)
    steps = np.diff(np.asarray(values, np.float64), axis=0) * (NODES - 1)
    norm = np.mean(np.sum(steps**2, axis=(1, 2, 3))) * BOX * (BOX / BASIS.n) ** 3
    found, slope = jax.jit(jax.value_and_grad(lambda t: prior.log_density(molecule, t)))(theta)
    assert float(found) == pytest.approx(-0.15 * norm, rel=0.1)
    assert not np.any(slope.maps["body"]) and np.any(slope.maps["arm"])
    motion = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(slope.motion)])
    assert np.all(np.isfinite(motion)) and np.any(motion)


# mass flow

_BLOB_BOX = 32
_WIDTH = 2.5
_SMOOTH = expansion(Voxels(_BLOB_BOX, 1.0, 15, 15.9), Hats(2))


def blob(shift: float, width: float = _WIDTH) -> np.ndarray:
    """A Gaussian of mass 3 moved along x, averaged over voxels."""
    edges = np.arange(_BLOB_BOX + 1) - _BLOB_BOX // 2 - 0.5
    x, y = (np.diff(0.5 * erf((edges - at) / (np.sqrt(2) * width))) for at in (shift, 0.0))
    return 3.0 * y[:, None, None] * y[:, None] * x


def flow_distance2(first: np.ndarray, second: np.ndarray, prior: DensityPrior) -> float:
    """What the prior charges for two end states: -2 log density at weight 1, spacing 1."""
    maps = jnp.asarray(np.stack([first, second]), jnp.float32)
    return -2.0 * float(prior.log_density(_SMOOTH, one_part(maps)))


def flow(length: float = 1e3) -> MassFlow:
    return MassFlow(1.0, 2, _BLOB_BOX, 1.0, length, translation_reference(blob(0.0)))


@pytest.mark.parametrize("shift", [0.25, 1.0, 2.0, 5.0])
def test_moved_blobs_cost_their_wasserstein_distance(shift: float) -> None:
    """W2^2 = mass shift^2, less 0.075 (shift / width)^2 of it and so on: see `MassFlow`."""
    found, x = flow_distance2(blob(0.0), blob(shift), flow()), shift / (2 * _WIDTH)
    expected = 12 * 3.0 * _WIDTH**2 * (1 - np.sqrt(np.pi) * erf(x) / (2 * x))
    assert found == pytest.approx(expected, rel=0.015)
    if shift <= 1.0:
        assert found == pytest.approx(3.0 * shift**2, rel=0.025)


def test_the_balance_term_lets_mass_be_created() -> None:
    near, share = flow_distance2(blob(0.0), blob(1.0), flow()), 0.2
    balanced = flow_distance2(blob(0.0), blob(1.0), flow(_WIDTH / share))
    tail = 2 * np.sqrt(np.pi) * share * np.exp(share**2) * (1 - erf(share))
    assert balanced / near == pytest.approx(1 - share**2 * (2 - tail), abs=0.015)


def test_order_is_that_of_optimal_transport() -> None:
    """Against scipy's distance of the profiles along x, by quantiles; eq. 24 flattens earlier."""
    eq24, x = AdjacentStates(1.0, 2, _BLOB_BOX), np.arange(_BLOB_BOX)
    cost, l2, transport = [], [], []
    for shift in (0.5, 1.0, 2.0, 4.0, 6.0, 8.0):
        ends = blob(-4.0), blob(shift - 4.0)
        cost.append(np.sqrt(flow_distance2(*ends, flow())))
        l2.append(np.sqrt(flow_distance2(*ends, eq24)))
        transport.append(wasserstein_distance(x, x, *[v.sum(axis=(0, 1)) for v in ends]))
    assert np.array_equal(np.argsort(cost), np.argsort(transport))
    doubled = [values[-1] / values[3] for values in (transport, cost, l2)]
    assert doubled[0] == pytest.approx(2.0, rel=0.01)
    assert doubled[1] > 1.55 > 1.45 > doubled[2]


def test_mass_that_comes_or_goes_costs_more_than_mass_that_moves() -> None:
    eq24, prior = AdjacentStates(1.0, 2, _BLOB_BOX), flow(8.0)
    moved, faded = (blob(0.0), blob(2.0)), (blob(0.0), 0.5 * blob(0.0))
    ratio = flow_distance2(*faded, prior) / flow_distance2(*moved, prior)
    assert ratio > 1.8 * flow_distance2(*faded, eq24) / flow_distance2(*moved, eq24)


# composition


def test_priors_add_up() -> None:
    molecule = MOLECULES["circle"]
    theta = random_theta(molecule)
    parts = [*QUADRATIC.values(), *OTHERS.values()]
    total = sum(parts, NoPrior())
    assert len(total.members) == 4 and not total.is_quadratic
    assert (parts[0] + parts[1] + NoPrior()).is_quadratic and NoPrior().is_quadratic
    values = [float(part.log_density(molecule, theta)) for part in parts]
    assert float(total.log_density(molecule, theta)) == pytest.approx(sum(values), rel=1e-5)
    assert float(NoPrior().log_density(molecule, theta)) == 0.0
    applied = total.precision(molecule, theta)[""]
    expected = sum(part.precision(molecule, theta)[""] for part in parts)
    np.testing.assert_allclose(applied, expected, rtol=1e-4, atol=1e-3)


def test_tables_of_a_recipe() -> None:
    tables = {
        "adjacent_states": {"weight": 2, "nodes": 5},
        "mass_flow": {"weight": 1.0, "length": 0.5},
        "positivity": {"weight": 1.0, "width": 0.2},
    }
    found = read_density_prior(tables, 40, 2.0)
    assert found.members[0] == AdjacentStates(2, 5, 40)
    assert found.members[1] == MassFlow(1.0, 16, 40, 2.0, 40.0, 1.0)
    assert found.members[2] == Positivity(1.0, 0.2, 8, 40)
    assert read_density_prior({}, 40, 2.0) == NoPrior()


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"adjacent_states": {}}, "weight is missing"),
        ({"adjacent_states": {"weight": -1.0}}, "weight is -1.0"),
        ({"adjacent_states": {"weight": "a"}}, "give a number"),
        ({"adjacent_states": {"weight": 1.0, "nodes": 1}}, "nodes is 1"),
        ({"adjacent_states": {"weight": 1.0, "nodes": 2.5}}, "whole number"),
        ({"mass_flow": {"weight": 1.0, "lenght": 1.0}}, "'lenght' is not known"),
        ({"positivity": {"weight": 1.0, "width": 0.0}}, "width is 0.0"),
        ({"positivity": 3.0}, "write a table"),
        ({"sparsity": {}}, "is not known"),
    ],
)
def test_tables_are_refused_with_a_remedy(tables, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_density_prior(tables, 40, 2.0)
