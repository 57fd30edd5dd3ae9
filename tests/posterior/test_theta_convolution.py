"""The normal operator as a convolution: sums of cosines written out, and what solves gain by it."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.fitting.sweep import ChainState, Data
from hypermol.inference import exact
from hypermol.molecule.composite import Composite, composite, expansion
from hypermol.molecule.parts import Part, Place
from hypermol.molecule.spatial_basis.prolates import Prolates
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import Chebyshev, Constant, Cosine
from hypermol.molecule.symmetry import symmetry_operators
from hypermol.molecule.trajectory import Hinge
from hypermol.posterior import theta_conditional
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import HyperPrior, InverseGamma
from hypermol.posterior.theta_conditional import Given, theta_quadratic
from hypermol.posterior.theta_convolution import convolution, is_worthwhile, periods
from hypermol.space.fourier import half_plane
from hypermol.space.rotation import matrix_from_quaternion
from hypermol.space.state_space import Interval
from simulated import draw_images, draw_prior, falling_spectrum, given, linear_theta

BOX, KMAX = 16, 6
BALL = Voxels(BOX, 1.0, KMAX, 4.0)
ASIDE = Voxels(BOX, 1.0, KMAX, 3.0, (2.0, -1.0, 0.5))
PRIOR = HyperPrior(noise=InverseGamma(8.0, 8.0), n_bins=3)
HINGE = Hinge(
    Chebyshev(2, Interval("hinge")),
    pivot_angstrom=(0.0, 0.0, 0.0),
    axis=(0.0, 0.0, 1.0),
    angle_scale_rad=0.6,
    axis_scale_rad=0.3,
    pivot_scale_angstrom=0.5,
    start_rad=0.4,
)


def copies(group: str) -> Composite:
    operators = symmetry_operators(group)
    knobs = [(f"arm_{place}",) for place in range(len(operators))]
    places = tuple(Place(*both) for both in zip(knobs, operators, strict=True))
    return composite((Part("arm", BALL, Cosine(2, Interval("arm")), places=places),))


def two_parts() -> Composite:
    return composite((Part("body", BALL, Constant()), Part("lid", ASIDE, Cosine(3))))


MOLECULES = {
    "rigid": lambda: expansion(BALL, Constant()),
    "one": lambda: expansion(BALL, Cosine(3)),
    "aside": lambda: expansion(ASIDE, Cosine(2)),
    "two parts": two_parts,
    "C2": lambda: copies("C2"),
    "C3": lambda: copies("C3"),
    "prolates": lambda: expansion(Prolates(BOX, 1.0, KMAX, 4.0), Cosine(2)),
}


def world_of(molecule: Composite, n: int = 300) -> tuple[Posterior, ChainState, Data]:
    """Images of the molecule, or of one of voxels over the same states where it is of others."""
    voxels = all(isinstance(part.basis, Voxels) for part in molecule.parts)
    made = molecule if voxels else expansion(BALL, molecule.parts[0].state_basis)
    spectrum = falling_spectrum(made, 0.5)
    posterior = Posterior(made, half_plane(BOX, KMAX), PRIOR)
    world = given(posterior, spectrum, linear_theta(made, spectrum), (n, 20))
    state = draw_prior(np.random.default_rng(2), world)
    data = draw_images(jax.random.key(3), world, state)
    state = state if voxels else state._replace(theta=molecule.init(jax.random.key(0)))
    return replace(posterior, molecule=molecule), state, data


def random_maps(state: ChainState) -> Any:
    rng = np.random.default_rng(5)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), state.theta.maps
    )


def summed(posterior: Posterior, state: ChainState, data: Data, maps: Any) -> np.ndarray:
    """Sum over images, pixels and features of cosines, [F, n, n, n]: float64, without any grid."""
    molecule: Any = posterior.molecule
    densities = np.asarray(molecule.feature_densities(maps), np.float64)
    n, plane = densities.shape[-1], posterior.plane
    flat = jax.tree.map(
        lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), (state.latents, data.images)
    )
    latents, images = flat
    power = np.asarray(posterior.pixel_precision(state.mu), np.float64)
    power = power * images.present[:, None] * images.ctf.astype(np.float64) ** 2
    weights = latents.contrast[:, None] * np.asarray(molecule.weights(jnp.asarray(latents.state)))
    rotations = np.asarray(matrix_from_quaternion(jnp.asarray(latents.quaternion)), np.float64)
    axis = np.arange(n) - n // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    places = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    out = np.zeros((len(densities), n**3))
    for image in range(len(rotations)):
        points = plane.frequencies @ rotations[image, :2]
        waves = np.exp(2j * np.pi / n * (places @ points.T))
        seen = weights[image] @ densities.reshape(len(densities), -1) @ waves.conj()
        back = (waves * power[image]) @ seen
        out += weights[image][:, None] * back.real
    return out.reshape(densities.shape)


@pytest.mark.parametrize("name", ["aside", "C2"])
def test_it_is_the_sum_over_all_pixels(name: str) -> None:
    posterior, state, data = world_of(MOLECULES[name](), 40)
    maps = random_maps(state)
    molecule: Any = posterior.molecule
    _, back = jax.vjp(molecule.feature_densities, maps)
    expected = back(jnp.asarray(summed(posterior, state, data, maps), jnp.float32))[0]
    found = convolution(posterior, state.mu, state.latents, data.images)(maps)
    for part, values in expected.items():
        gap = np.linalg.norm(found[part] - values) / np.linalg.norm(values)
        assert gap < 0.03, (part, gap)


#: Those that the short suite leaves out.
SLOW = ("one", "aside", "C3", "prolates")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in MOLECULES]
)
def test_it_is_nearly_what_the_posterior_has_and_draws_are_the_same(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    posterior, state, data = world_of(MOLECULES[name]())
    everything = Given(state.mu, state.latents, data.images)
    draws, records = {}, {}
    for fast, tolerance in ((False, 0.002), (True, 0.02)):  # the plain one's estimate is less good
        monkeypatch.setattr(theta_conditional, "is_worthwhile", lambda *_, fast=fast: fast)

        def drawn(tolerance: float = tolerance) -> Any:
            target = theta_quadratic(posterior, everything, state.theta)
            key = jax.random.key(1)
            return exact.draw(key, target, state.theta.maps, tolerance, 400)

        draws[fast], records[fast] = jax.jit(drawn)()
    target = theta_quadratic(posterior, everything, state.theta)
    left = jax.tree.map(jnp.subtract, draws[True], draws[False])
    gap = float(exact.dot(left, jax.jit(target.apply)(left)) / target.dimension) ** 0.5
    # in posterior standard deviations; where parts share voxels, or copies are interpolated, some
    # are known by the prior alone, and the plain solve ends before it is at its end
    hard = name in ("two parts", "C3")
    assert gap < (0.2 if hard else 0.05)
    # prolates reach beyond the ball and their grid; the convolution does not
    few = {"prolates": 6, "C3": 15}.get(name, 3)
    assert int(records[True].iterations) <= few < int(records[False].iterations)


def test_moving_parts_few_pixels_and_too_many_features_have_none() -> None:
    still = MOLECULES["one"]()
    assert not is_worthwhile(still, 1000) and is_worthwhile(still, 10**7)
    moving = composite((Part("body", BALL, Constant()), Part("arm", BALL, Constant(), HINGE)))
    assert not moving.features_rest and not is_worthwhile(moving, 10**7)
    wide = expansion(Voxels(96, 1.0, 40, 44.0), Cosine(30))
    assert not is_worthwhile(wide, 10**9)


def test_periods_hold_twice_the_extent_wherever_it_lies() -> None:
    for basis in (BALL, ASIDE):
        found, inside = (
            periods(expansion(basis, Cosine(2))),
            np.flatnonzero(basis.support.any((0, 1))),
        )
        assert found.voxels == basis.n
        assert found.convolution >= max(2 * len(inside), basis.n)
        assert found.spread >= 1.5 * found.convolution
