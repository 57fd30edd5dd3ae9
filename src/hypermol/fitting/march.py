"""Levels of frequency marching: start a chain, and carry it from one level to the next."""

from dataclasses import dataclass
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.ndimage import gaussian_filter1d

from hypermol.data.particles import ParticleSet
from hypermol.fitting.sampler import ChainState, Data
from hypermol.imaging.blocks import (
    consensus_poses,
    first_latents,
    from_blocks,
    image_blocks,
    particle_ctf,
    read_half_plane,
    to_blocks,
)
from hypermol.inference import exact
from hypermol.inference.ensemble import MoveSize
from hypermol.io.errors import InputError
from hypermol.molecule.protocol import LinearMolecule
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.posterior.conditional import molecule_quadratic
from hypermol.posterior.density_priors import DensityPrior, NoPrior
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import HyperPrior, Nuisance
from hypermol.space.fourier import half_plane, voxel_radii

#: Particles handled together; larger blocks fall out of the cache.
BLOCK = 32
#: Prior power of a new state term, as a share of the nearest known term's.
_NEW_TERM = 0.2
#: Prior power never falls below this share of a term's largest, so that it can come back.
_SPECTRUM_FLOOR = 1e-4
#: Margin of the support's radius, in boxes.
_MARGIN = 0.05
_START_ROTATION_RAD, _START_SHIFT_PX, _START_CONTRAST_SD = 0.04, 0.7, 0.1


@final
@dataclass(frozen=True)
class Level:
    """A posterior at one resolution, with its data and the grid of its maps."""

    posterior: Posterior
    data: Data
    basis: Voxels

    @property
    def molecule(self) -> LinearMolecule:
        """The level's molecule."""
        return self.posterior.molecule


def make_level(
    particles: ParticleSet,
    molecule: LinearMolecule,
    grid: Voxels,
    prior: HyperPrior,
    density_prior: DensityPrior = NoPrior(),
) -> Level:
    """Read the images up to the grid's kmax and bind them to a molecule of that resolution."""
    plane = half_plane(particles.box, grid.kmax)
    images = image_blocks(read_half_plane(particles, plane), particle_ctf(particles, plane), BLOCK)
    data = Data(images, consensus_poses(particles, BLOCK))
    return Level(Posterior(molecule, plane, prior, density_prior=density_prior), data, grid)


def _shell_power(level: Level) -> np.ndarray:
    """Mean |Y|^2 per shell, [n_shells]: an upper bound of the noise to start from."""
    plane, images = level.posterior.plane, level.data.images
    weight = np.asarray(images.present)[..., None]
    power = np.sum(np.abs(np.asarray(images.pixels)) ** 2 * weight, axis=(0, 1)) / weight.sum()
    counts = np.bincount(plane.shells, minlength=plane.n_shells)
    total = np.bincount(plane.shells, power, plane.n_shells) / np.maximum(counts, 1)
    total[0] = total[1]
    return total.astype(np.float32)


def _first_spectrum(level: Level, power: np.ndarray) -> Array:
    """Prior precision [F, n_shells + 1] from the images' power above their noise floor.

    A coefficient has power |scale FFT(v)|^2 transfer^2; the floor is the lowest shell's power.
    """
    basis, plane = level.basis, level.posterior.plane
    images = level.data.images
    transfers = np.asarray(level.posterior.imaging.transfer(images.ctf, plane))
    ctf2 = np.mean(transfers**2, axis=(0, 1))
    counts = np.maximum(np.bincount(plane.shells, minlength=plane.n_shells), 1)
    transfer = np.bincount(plane.shells, ctf2, plane.n_shells) / counts
    signal = (power[1:] - power[1:].min()) / np.maximum(transfer[1:], 1e-3)
    signal = np.maximum(signal, 1e-2 * signal.max())
    shells = np.minimum(np.arange(basis.n_shells), plane.kmax)
    density = signal[np.maximum(shells, 1) - 1] / level.molecule.power_gain[:, None]
    return jnp.asarray(1.0 / density, jnp.float32)


def first_state(level: Level) -> ChainState:
    """A chain at the input's poses, contrast 1, mid states and a zero molecule."""
    molecule, consensus = level.molecule, level.data.consensus
    latents = first_latents(consensus, molecule.state_space.dim)
    latents = latents._replace(state=molecule.state_space.wrap(latents.state))
    terms = len(molecule.term_sizes)
    power = _shell_power(level)
    nuisance = Nuisance(
        noise_variance=jnp.asarray(power),
        spectrum=_first_spectrum(level, power),
        level=jnp.ones(terms),
        pose_sd_rad=jnp.float32(_START_ROTATION_RAD),
        shift_sd_px=jnp.float32(_START_SHIFT_PX),
        contrast_sd=jnp.float32(_START_CONTRAST_SD),
        occupancy=_even_occupancy(level),
    )
    ones = jnp.ones(latents.contrast.shape)
    size = MoveSize(_START_ROTATION_RAD * ones, _START_SHIFT_PX * ones)
    theta = molecule.init(jax.random.key(0))
    return ChainState(theta, nuisance, latents, size, molecule.prepare(theta))


def _even_occupancy(level: Level) -> Array:
    """Uniform probabilities of the level's bins of states."""
    n_bins = level.posterior.n_bins
    # a weak type would be compiled for, and again once it has been drawn
    return jnp.full(n_bins, 1.0 / n_bins, jnp.float32)


def estimate_spectrum(level: Level, state: ChainState) -> ChainState:
    """Empirical Bayes: prior power per shell and term from the current draw of theta.

    A draw holds the posterior's variance as well as its mean, so the estimate does not shrink
    on itself (stochastic EM). Only for burn-in; the level stays sampled.
    """
    power = np.array(level.molecule.shell_power(state.theta.maps), np.float64)
    power[:, -1] = power[:, -2]
    power = np.maximum(power, _SPECTRUM_FLOOR * power.max(axis=1, keepdims=True) + 1e-12)
    power = np.exp(gaussian_filter1d(np.log(power), 1.0, axis=1, mode="nearest"))
    nuisance = state.nuisance._replace(
        spectrum=jnp.asarray(1.0 / power, jnp.float32), level=jnp.ones(len(power))
    )
    return state._replace(nuisance=nuisance)


def _carried_spectrum(state: ChainState, old: Level, new: Level) -> Array:
    """The old spectrum on the new shells and terms: held flat beyond, weaker for new terms.

    A term that the old molecule did not have, over the same states, starts below the last one
    that it had of the same part; over other states, below the part's mean density. A term that a
    constant density takes part in (the first of most bases, every hat, every class) has the power
    of a whole density.
    """
    known = np.asarray(state.nuisance.spectrum / state.nuisance.level[:, None])
    last = old.posterior.plane.kmax - 1
    shells = np.minimum(np.arange(new.basis.n_shells), last)
    places = {label: row for row, label in enumerate(old.molecule.term_labels)}
    same_states = new.molecule.state_space == old.molecule.state_space
    rows = []
    for (part, order), whole in zip(
        new.molecule.term_labels, new.molecule.whole_terms, strict=True
    ):
        nearest = order if same_states else 0
        while nearest and (part, nearest) not in places:
            nearest -= 1
        weaker = 1.0 if whole or nearest == order else 1.0 / _NEW_TERM
        rows.append(weaker * known[places.get((part, nearest), 0), shells])
    return jnp.asarray(np.stack(rows), jnp.float32)


def carry(key: Array, state: ChainState, old: Level, new: Level) -> ChainState:
    """Move a chain to another level: resize theta, carry the spectrum, map the states."""
    if new is old:
        return state
    same_states = new.molecule.state_space == old.molecule.state_space
    theta = new.molecule.resize(state.theta, old.molecule)
    latents = state.latents
    if not same_states:
        latents = latents._replace(state=_new_states(key, state, old, new))
    noise = _shell_power(new)
    shared = min(len(noise), len(state.nuisance.noise_variance))
    noise[:shared] = np.asarray(state.nuisance.noise_variance)[:shared]
    terms = len(new.molecule.term_sizes)
    nuisance = state.nuisance._replace(
        noise_variance=jnp.asarray(noise),
        spectrum=_carried_spectrum(state, old, new),
        level=jnp.ones(terms),
        occupancy=state.nuisance.occupancy if same_states else _even_occupancy(new),
    )
    return ChainState(theta, nuisance, latents, state.size, new.molecule.prepare(theta))


def _new_states(key: Array, state: ChainState, old: Level, new: Level) -> Array:
    """States of the new space, as the new molecule starts them."""
    n = int(np.asarray(new.data.images.present).sum())
    known = from_blocks(state.latents.state, n)
    tau = new.molecule.first_states(key, state.theta, known, old.molecule)
    return to_blocks(np.asarray(tau, np.float32), state.latents.contrast.shape[1])


def _radii(level: Level) -> np.ndarray:
    """Distance of every voxel from the origin in Angstrom, [n, n, n]."""
    return voxel_radii(level.basis.n, level.basis.voxel_size_angstrom)


def check_contrast(level: Level, maps: np.ndarray) -> None:
    """Refuse images whose first map [n, n, n] is darker in the middle than at the rim.

    Raises:
        InputError: the images' contrast is inverted.
    """
    radius, edge = _radii(level), level.basis.radius_angstrom
    core = maps[radius < 0.4 * edge]
    rim = maps[(radius > 0.8 * edge) & (radius <= edge)]
    error = maps[radius <= edge].std() / np.sqrt(max(core.size, 1))
    if core.mean() < rim.mean() - 3.0 * error:
        raise InputError(
            "the first map is negative where the particle should be: the images' contrast is "
            "inverted (particles dark on bright ground, or phase-flipped CTF signs): run again "
            "with --invert-contrast"
        )


def support_radius_angstrom(level: Level, maps: np.ndarray) -> float:
    """Radius of the molecule from a first map [n, n, n]: where the density's excess power ends.

    The posterior's scatter fills the whole ball evenly; its power is read off the outer shells
    and taken away. A margin of 5 % of the box is added for what the blur of motion thins out.
    """
    basis, radius = level.basis, _radii(level)
    inside = np.asarray(basis.support) > 0
    bins = np.floor(radius[inside] / basis.voxel_size_angstrom).astype(int)
    count = np.bincount(bins)
    power = np.bincount(bins, maps[inside] ** 2) / np.maximum(count, 1)
    floor = np.median(power[int(0.8 * len(power)) :])
    excess = np.maximum(power - 1.5 * floor, 0.0) * count
    share = np.cumsum(excess) / max(excess.sum(), 1e-30)
    edge = (np.searchsorted(share, 0.995) + 1) * basis.voxel_size_angstrom
    return float(min(edge + _MARGIN * basis.box_angstrom, basis.radius_angstrom))


def half_set_maps(level: Level, state: ChainState, halves: np.ndarray) -> dict[str, np.ndarray]:
    """Posterior mean of theta from each half set, given the state's latents: half1, half2.

    Poses and states were drawn against all images, so an FSC between the halves is optimistic
    (not "gold standard").
    """
    images = level.data.images
    block = images.present.shape[1]

    @jax.jit
    def mean(present: Array) -> Any:
        target = molecule_quadratic(
            level.posterior,
            state.nuisance,
            state.latents,
            images._replace(present=present),
            state.theta,
        )
        return exact.mean(target, state.theta.maps, 0.03, 100)[0]

    molecule = level.molecule
    found = {}
    for half in (1, 2):
        maps = mean(to_blocks((halves == half).astype(np.float32), block) * images.present)
        found[f"half{half}"] = np.asarray(molecule.shown(state.theta._replace(maps=maps)))
    return found
