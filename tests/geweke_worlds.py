"""The worlds of Geweke's joint test: one of each kind of molecule, as small as can be."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from geweke import Draw
from hypermol.molecule.by_fourier import GAIN_SD
from hypermol.molecule.composite import Composite
from hypermol.molecule.state_basis import Cosine, OneHot, ProductBasis, StateBasis
from hypermol.posterior.density_priors import Positivity
from hypermol.posterior.pose_priors import PosePrior, SomeMisplaced, Uniform
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import Hyperparameters, HyperPrior, InverseGamma
from hypermol.space.discrete import Discrete
from hypermol.space.fourier import half_plane
from hypermol.space.state_space import Interval, StateSpace
from simulated import (
    World,
    draw_prior,
    draw_tilted_prior,
    falling_spectrum,
    given,
    linear_theta,
    make_world,
    normal_like,
)
from small_molecules import hinged_pair, two_lobes

BOX, KMAX, RADIUS_PX = 8, 3, 1.5
#: Particles, and particles in a block: one is absent.
BLOCKS = (7, 4)
#: Precision of a voxel of the prior: signal somewhat below the noise, so that chains mix (shifts of
#: all particles move together with theta).
PRECISION = 0.3

#: Proper, with fourth moments: shapes well above 4.
PRIOR = HyperPrior(
    noise=InverseGamma(8.0, 8.0),
    pose=InverseGamma(8.0, 8.0 * 0.35**2),
    shift=InverseGamma(8.0, 8.0 * 0.6**2),
    contrast=InverseGamma(8.0, 8.0 * 0.3**2),
    level_shape=8.0,
    level_rate=8.0,
    occupancy=3.0,
    n_bins=3,
)


def generic(basis: StateBasis, prior: HyperPrior = PRIOR) -> World:
    """19 voxels a term."""
    return make_world(
        basis,
        prior,
        box=BOX,
        kmax=KMAX,
        radius_px=RADIUS_PX,
        blocks=BLOCKS,
        precision=PRECISION,
    )


def hinge() -> World:
    """A part that deforms, and one on a learned trajectory."""
    molecule: Composite = hinged_pair(BOX, KMAX, RADIUS_PX)
    spectrum = falling_spectrum(molecule, PRECISION)
    posterior = Posterior(molecule, half_plane(BOX, KMAX), replace(PRIOR, n_bins=2))
    return given(posterior, spectrum, linear_theta(molecule, spectrum), BLOCKS)


#: Density that counts as negative, and how much: about a tenth of draws of the prior are kept.
POSITIVITY = Positivity(weight=0.05, width=1.0, nodes=2, box=BOX)


def positive() -> World:
    """Densities that are seldom negative, at both ends of the interval."""
    world = generic(Cosine(2))
    return replace(world, posterior=replace(world.posterior, density_prior=POSITIVITY))


def most_positive(world: World) -> float:
    """The largest value of the log prior: positive by far at every voxel that may be."""
    voxels = world.posterior.molecule.parts[0].basis.support.sum()
    unit = POSITIVITY.weight * (BOX / world.posterior.molecule.parts[0].basis.n) ** 3
    return float(unit * voxels * np.log(2.0) ** 2)


def black_box(space: StateSpace) -> World:
    """A molecule that only has `fourier`, of a gain that keeps its signal below the noise."""
    posterior = Posterior(two_lobes(space, BOX, KMAX, -2.0), half_plane(BOX, KMAX), PRIOR)
    like = posterior.molecule.init(jax.random.key(0))

    def draw(rng: np.random.Generator, posterior: Posterior, mu: Hyperparameters):
        theta = normal_like(rng, like)
        return theta._replace(log_gain=like.log_gain + GAIN_SD * theta.log_gain)

    return given(posterior, jnp.zeros((0, KMAX + 2)), draw, BLOCKS)


#: Variance of shifts of misplaced poses, in pixels^2.
WIDE = InverseGamma(8.0, 24.0)


def posed(pose_prior: PosePrior) -> World:
    """A generic molecule whose poses may be far from the input's."""
    world = generic(Cosine(2), replace(PRIOR, misplaced=0.4))
    return replace(world, posterior=replace(world.posterior, pose_prior=pose_prior))


TWO_KNOBS = ProductBasis((Cosine(2, Interval("first")), Cosine(2, Interval("second"))))

WORLDS: dict[str, Callable[[], World]] = {
    "generic": partial(generic, Cosine(2)),
    "hinge": hinge,
    "two knobs": partial(generic, TWO_KNOBS, replace(PRIOR, n_bins=2)),
    "positive": positive,
    "classes": partial(generic, OneHot(Discrete("class", 3))),
    "uniform": partial(posed, Uniform()),
    "misplaced": partial(posed, SomeMisplaced(WIDE)),
    "black box": partial(black_box, Interval()),
    "black box of classes": partial(black_box, Discrete("class", 3)),
}


def draw_of(name: str) -> Draw:
    """How all unknowns of a world are drawn."""
    if name == "positive":
        return lambda rng, world: draw_tilted_prior(rng, world, most_positive(world))
    return draw_prior
