"""The conformance test finds one planted mistake of each kind, and passes what ships."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.molecule.check import Finding, Report, check_model
from hypermol.molecule.composite import expansion
from hypermol.molecule.coordinate_network import CoordinateNetwork
from hypermol.molecule.elastic_network import ElasticNetwork, anisotropic_modes
from hypermol.molecule.gallery import cat, pretzel
from hypermol.molecule.moving_gaussians import density_of_gaussians, transform_of_gaussians
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import Chebyshev, Constant, Cosine, Fourier
from hypermol.space.product import Product
from hypermol.space.state_space import Interval


@dataclass(frozen=True)
class Two:
    """Two Gaussians, one of which moves; `bug` plants a mistake."""

    bug: str = ""
    state_space: Any = Interval()

    def init(self, key):
        start = {"place": jnp.array([[0.0, 0, 30], [10, 5, 0]]), "size": jnp.array([1.0, 2.0])}
        if self.bug == "integer":
            start["size"] = jnp.array([1, 2])
        if self.bug == "nan start":
            start["size"] = jnp.array([1.0, jnp.nan])
        return start

    def parts(self, theta, tau):
        t = jnp.sqrt(tau[0]) if self.bug == "edge" else tau[0]
        centres = theta["place"] + jnp.array([[40.0, 0, 0], [0, 0, 0]]) * t
        return theta["size"], jnp.full(2, 15.0), centres

    def fourier(self, theta, k, tau):
        if self.bug == "rounded":
            theta = jax.tree.map(jax.lax.stop_gradient, theta)
        if self.bug == "theta root":
            root = jnp.sqrt(jnp.sum((theta["size"] - theta["size"]) ** 2))
            theta = theta | {"size": theta["size"] + root}
        values = transform_of_gaussians(*self.parts(theta, tau), k)
        if self.bug == "not hermitian":
            values = values + 0.5j * jnp.exp(-20 * jnp.sum(k**2, axis=-1))
        if self.bug == "real":
            values = values.real
        if self.bug == "shape":
            values = values[:, None]
        if self.bug == "nan":
            values = values / jnp.sum(k**2, axis=-1)
        if self.bug == "norm":
            values = values * jnp.exp(-jnp.linalg.norm(k, axis=-1))
        if self.bug == "no jit":
            values = values * float(theta["size"][0])
        if self.bug == "python branch" and isinstance(tau, jax.core.Tracer):
            values = values * 1.1
        if self.bug == "zero":
            values = 0.0 * values
        return values

    def density(self, theta, tau, coordinates):
        if self.bug == "axes":
            coordinates = coordinates[..., ::-1]
        return density_of_gaussians(*self.parts(theta, tau), coordinates)

    def log_prior(self, theta):
        value = -0.5 * jnp.sum(theta["size"] ** 2)
        if self.bug == "prior shape":
            return value[None]
        if self.bug == "prior nan":
            return value / 0.0
        if self.bug == "prior gradient":
            return value + jnp.sqrt(jnp.sum((theta["size"] - theta["size"]) ** 2))
        return value


def failed(report: Report) -> set[str]:
    return {finding.name for finding in report.findings if not finding.passed}


@pytest.mark.parametrize(
    ("bug", "name"),
    [
        ("integer", "init"),
        ("nan start", "init"),
        ("not hermitian", "hermitian"),
        ("real", "fourier"),
        ("shape", "fourier"),
        ("nan", "fourier"),
        ("zero", "fourier"),
        ("norm", "gradient in R"),
        ("edge", "gradient in tau"),
        ("theta root", "gradient in theta"),
        ("rounded", "gradient in theta"),
        ("no jit", "jit and vmap"),
        ("python branch", "jit"),
        ("axes", "density"),
        ("prior shape", "log_prior"),
        ("prior nan", "log_prior"),
        ("prior gradient", "log_prior"),
    ],
)
def test_planted_mistakes_are_found(bug, name):
    report = check_model(Two(bug))
    assert name in failed(report)
    assert not report.ok
    for finding in report.findings:
        assert finding.passed or (": " in finding.message or "fails with" in finding.message)


def test_the_right_model_passes_and_is_not_linear():
    report = check_model(Two())
    assert report.ok, str(report)
    assert Finding("linear in theta", True, "measured: not linear in theta") in report.findings


def test_missing_names_are_listed():
    class Bare:
        def init(self, key):
            return jnp.zeros(3)

    report = check_model(Bare())
    assert "state_space, fourier, log_prior" in report.findings[0].message


def test_state_spaces_that_disagree_with_themselves():
    class Unnamed:
        dim, names = 2, ("one",)

    assert failed(check_model(replace(Two(), state_space=Unnamed()))) == {"state_space"}


@dataclass(frozen=True)
class Affine:
    """Linear in theta but for an offset."""

    offset: float
    state_space: Any = Interval()

    def init(self, key):
        return jnp.ones(3)

    def fourier(self, theta, k, tau):
        centres = jnp.eye(3) * 20.0 * (1 + tau[0])
        return transform_of_gaussians(theta + self.offset, jnp.full(3, 15.0), centres, k)

    def log_prior(self, theta):
        return -0.5 * jnp.sum(theta**2)


def test_linearity_is_measured():
    kinds = [dict((f.name, f.message) for f in check_model(Affine(o)).findings) for o in (0.0, 2.0)]
    assert [kind["linear in theta"] for kind in kinds] == [
        "measured: linear in theta",
        "measured: affine in theta",
    ]


VOXELS = Voxels(24, 5.0, 7, 40.0)


class Wrong:
    """An expansion with a mistake in one of its fast paths."""

    def __init__(self, bug: str):
        self.inner, self.bug = expansion(VOXELS, Cosine(3)), bug

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def features(self, prepared, rotations, states, frequencies):
        if self.bug == "transposed":
            rotations = jnp.swapaxes(rotations, -1, -2)
        found = self.inner.features(prepared, rotations, states, frequencies)
        return found[:, :2] if self.bug == "too few" else found

    def fourier(self, theta, k, tau):
        if self.bug == "squared":
            theta = theta._replace(maps=jax.tree.map(jnp.square, theta.maps))
        return self.inner.fourier(theta, k, tau)


@pytest.mark.parametrize("bug", ["transposed", "too few", "squared"])
def test_wrong_fast_paths_are_found(bug):
    assert "features" in failed(check_model(Wrong(bug), resolution_angstrom=20.0))


def elastic(n_modes: int) -> ElasticNetwork:
    t = np.arange(30)
    rest = np.stack([9 * np.cos(0.6 * t), 9 * np.sin(0.6 * t), 1.5 * t - 20], axis=-1)
    _, modes = anisotropic_modes(rest, n_modes + 2, 18.0)
    space = (
        Interval("mode_1") if n_modes == 1 else Product((Interval("mode_1"), Interval("mode_2")))
    )
    weights = np.full(30, 38.0, np.float32)
    return ElasticNetwork(
        space, rest.astype(np.float32), modes.astype(np.float32), weights, 4.0, 5.0
    )


@pytest.mark.parametrize(
    ("model", "radius"),
    [
        pytest.param(expansion(VOXELS, Cosine(3)), 60.0, id="voxels, cosine"),
        pytest.param(
            expansion(VOXELS, Fourier(3)), 60.0, id="voxels, fourier", marks=pytest.mark.slow
        ),
        pytest.param(
            expansion(VOXELS, Constant()), 60.0, id="voxels, constant", marks=pytest.mark.slow
        ),
        pytest.param(cat(100.0), 180.0, id="cat"),
        pytest.param(cat(100.0, circle=True), 180.0, id="cat on a circle", marks=pytest.mark.slow),
        pytest.param(pretzel(100.0), 180.0, id="pretzel"),
        pytest.param(pretzel(100.0, arms=1), 180.0, id="pretzel, one arm", marks=pytest.mark.slow),
        pytest.param(elastic(1), 60.0, id="elastic network"),
        pytest.param(elastic(2), 60.0, id="elastic network, two modes"),
        pytest.param(CoordinateNetwork(), 140.0, id="coordinate network"),
        pytest.param(
            CoordinateNetwork(Chebyshev(3), hidden=(8,)),
            140.0,
            id="coordinate network, chebyshev",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_every_shipped_molecule_passes(model, radius):
    report = check_model(model, radius_angstrom=radius, resolution_angstrom=20.0)
    assert report.ok, str(report)


def test_coordinate_networks_are_bounded_and_differ_between_states():
    model = CoordinateNetwork(init_spread=1.0)
    theta = model.init(jax.random.key(3))
    _, _, first = model.gaussians(theta, jnp.array([0.0]))
    _, _, last = model.gaussians(theta, jnp.array([1.0]))
    assert float(jnp.abs(first - model.centres).max()) <= model.travel_angstrom
    assert float(jnp.sqrt(jnp.mean((first - last) ** 2))) > 1.0
