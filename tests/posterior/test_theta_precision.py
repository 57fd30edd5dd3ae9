"""theta's preconditioner: what it saves where copies lie on one another, and that it is one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from hypermol.fitting.sweep import ChainState, Data
from hypermol.inference import exact
from hypermol.inference.target import Quadratic
from hypermol.molecule.composite import Composite, composite
from hypermol.molecule.parts import Part, Place
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import Cosine
from hypermol.molecule.symmetry import symmetry_operators
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import HyperPrior, InverseGamma
from hypermol.posterior.theta_conditional import Given, theta_quadratic
from hypermol.posterior.theta_precision import preconditioner, shell_precision
from hypermol.space.fourier import half_plane
from hypermol.space.state_space import Interval
from simulated import draw_images, draw_prior, falling_spectrum, given, linear_theta

BASIS = Voxels(16, 1.0, 6, 5.0)
PRIOR = HyperPrior(noise=InverseGamma(8.0, 8.0), n_bins=3)
#: Variance of the noise: images say far more than the prior, of what they say anything of.
NOISE = 1.0


def copies(group: str) -> Composite:
    operators = symmetry_operators(group)
    knobs = [(f"arm_{place}",) for place in range(len(operators))]
    places = tuple(Place(*both) for both in zip(knobs, operators, strict=True))
    return composite((Part("arm", BASIS, Cosine(2, Interval("arm")), places=places),))


def world_of(molecule: Composite) -> tuple[Posterior, ChainState, Data]:
    spectrum = falling_spectrum(molecule, 0.5)
    posterior = Posterior(molecule, half_plane(16, 6), PRIOR)
    world = given(posterior, spectrum, linear_theta(molecule, spectrum), (400, 20))
    state = draw_prior(np.random.default_rng(2), world)
    noise = jnp.full_like(state.mu.noise_variance, NOISE)
    state = state._replace(mu=state.mu._replace(noise_variance=noise))
    return posterior, state, draw_images(jax.random.key(3), world, state)


#: Iterations that are compared, and those of the solution that both are compared with.
FEW, MANY = 24, 60


def test_copies_that_lie_on_one_another_are_told_apart():
    """Without it the part that images say little of is left over, on the posterior's own scale."""
    posterior, state, data = world_of(copies("C2"))
    start = state.theta.maps

    @jax.jit
    def gaps() -> tuple[Array, Array]:
        given_all = Given(state.mu, state.latents, data.images)
        target = theta_quadratic(posterior, given_all, state.theta)
        inverse = jnp.linalg.inv(shell_precision(posterior, *given_all))
        multiply = posterior.molecule.multiply_shells
        own = target._replace(precondition=preconditioner(posterior, *given_all))
        plain = target._replace(precondition=lambda residual: multiply(residual, inverse))
        residual = target.perturbed_residual(jax.random.key(1), start)

        def after(target: Quadratic, iterations: int) -> Any:
            return exact.solve(target, residual, start, 0.0, iterations)[0]

        end = after(target, MANY)

        def gap(target: Quadratic) -> Array:
            left = jax.tree.map(jnp.subtract, after(target, FEW), end)
            return exact.dot(left, target.apply(left)) / target.dimension

        return gap(own), gap(plain)

    own, plain = gaps()
    assert float(own) < 0.25 * float(plain)


@pytest.mark.parametrize("group", ["C2", "D2"])
def test_preconditioner_is_symmetric_and_positive(group: str):
    posterior, state, data = world_of(copies(group))
    apply = jax.jit(preconditioner(posterior, state.mu, state.latents, data.images))
    rng = np.random.default_rng(5)
    x, y = (
        {
            "arm": jnp.asarray(
                rng.normal(size=(2, *BASIS.support.shape)) * BASIS.support, jnp.float32
            )
        }
        for _ in range(2)
    )
    ax, ay = apply(x)["arm"], apply(y)["arm"]
    scale = float(jnp.linalg.norm(ax) * jnp.linalg.norm(y["arm"]))
    assert float(jnp.vdot(ax, y["arm"])) == pytest.approx(
        float(jnp.vdot(x["arm"], ay)), abs=1e-5 * scale
    )
    assert float(jnp.vdot(ax, x["arm"])) > 0.0
