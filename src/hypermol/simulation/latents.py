"""What differs from particle to particle: states, poses, shifts, contrasts and CTFs.

Everything is drawn at once, in float64 NumPy, each kind from its own stream of random numbers:
changing one setting leaves the other draws as they were.
"""

from dataclasses import dataclass, fields

import jax.numpy as jnp
import numpy as np

from hypermol.io.errors import InputError
from hypermol.io.euler import rotation_from_euler, rotation_from_vector
from hypermol.io.metadata import CtfParameters
from hypermol.simulation.settings import Poses, RandomCtf, Settings, TwoPeaks
from hypermol.space.state_space import StateSpace

_STREAMS = ("states", "rotations", "shifts", "contrast", "ctf", "errors", "half_sets")
_SMALLEST_CONTRAST = 0.1


@dataclass(frozen=True, eq=False)
class Latents:
    """Truth about N particles.

    Attributes:
        tau: float64 [N, dim], states.
        rotations: float64 [N, 3, 3], R from molecule to microscope.
        shifts_angstrom: float64 [N, 2], (x, y): the particle lies at +s.
        contrast: float64 [N].
        ctf: CTF parameters of N particles.
        consensus_rotations: float64 [N, 3, 3], as a consensus refinement leaves them.
        consensus_shifts_angstrom: float64 [N, 2].
        half_set: int64 [N], 1 or 2.
    """

    tau: np.ndarray
    rotations: np.ndarray
    shifts_angstrom: np.ndarray
    contrast: np.ndarray
    ctf: CtfParameters
    consensus_rotations: np.ndarray
    consensus_shifts_angstrom: np.ndarray
    half_set: np.ndarray

    def __len__(self) -> int:
        return len(self.tau)

    def take(self, indices: np.ndarray) -> "Latents":
        """The particles `indices`."""
        chosen = {f.name: getattr(self, f.name)[indices] for f in fields(self) if f.name != "ctf"}
        return Latents(ctf=self.ctf.take(indices), **chosen)


def draw_latents(settings: Settings, space: StateSpace) -> Latents:
    """Draw all that differs between particles."""
    n = settings.n
    rotations = draw_rotations(stream(settings.seed, "rotations"), n, settings.poses)
    shifts = settings.poses.shift_sd_angstrom * stream(settings.seed, "shifts").normal(size=(n, 2))
    contrast = 1.0 + settings.contrast_sd * stream(settings.seed, "contrast").normal(size=n)
    errors = stream(settings.seed, "errors")
    turn = np.deg2rad(settings.poses.rotation_error_deg) * errors.normal(size=(n, 3))
    slip = settings.poses.shift_error_px * settings.pixel_size_angstrom
    return Latents(
        tau=draw_states(stream(settings.seed, "states"), settings, space),
        rotations=rotations,
        shifts_angstrom=shifts,
        contrast=np.maximum(contrast, _SMALLEST_CONTRAST),
        ctf=draw_ctf(stream(settings.seed, "ctf"), n, settings.ctf),
        consensus_rotations=rotation_from_vector(turn) @ rotations,
        consensus_shifts_angstrom=shifts + slip * errors.normal(size=(n, 2)),
        half_set=1 + stream(settings.seed, "half_sets").permutation(n) % 2,
    )


def stream(seed: int, name: str) -> np.random.Generator:
    """The random numbers of one kind of draw."""
    return np.random.default_rng([seed, _STREAMS.index(name)])


def draw_states(
    generator: np.random.Generator, settings: Settings, space: StateSpace
) -> np.ndarray:
    """States float64 [n, dim]."""
    shape = (settings.n, space.dim)
    states = settings.states
    if isinstance(states, np.ndarray):
        return _given_states(states, shape)
    if states == "uniform":
        tau = generator.uniform(size=shape)
        # the c-th part of [0, 1] is the c-th state of a finite set; others stay in float64
        taken = np.asarray(space.wrap(jnp.asarray(tau)), dtype=np.float64)
        return np.where(np.abs(taken - tau) > 1e-6, taken, tau)
    peaks = states if isinstance(states, TwoPeaks) else TwoPeaks()
    second = generator.uniform(size=shape) >= peaks.first_weight
    centre = np.where(second, peaks.centres[1], peaks.centres[0])
    tau = centre + peaks.sd * generator.normal(size=shape)
    return np.asarray(space.wrap(jnp.asarray(tau)), dtype=np.float64)


def _given_states(states: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    tau = np.asarray(states, dtype=np.float64)
    if tau.ndim == 1 and shape[1] == 1:
        tau = tau[:, None]
    if tau.shape != shape:
        raise InputError(
            f"the states given have shape {tau.shape}: give {shape[0]} rows of {shape[1]} numbers"
        )
    if not np.all(np.isfinite(tau)):
        raise InputError("some of the states given are not finite: remove them")
    return tau


def draw_rotations(generator: np.random.Generator, n: int, poses: Poses) -> np.ndarray:
    """Rotations float64 [n, 3, 3], uniform or with preferred viewing directions.

    The viewing direction is the molecule's axis that points at the observer, `R^T e_z`.
    """
    rot = generator.uniform(-180.0, 180.0, n)
    psi = generator.uniform(-180.0, 180.0, n)
    u = generator.uniform(size=n)
    if poses.directions == "uniform":
        cosine = 2.0 * u - 1.0
    else:
        # inverse distribution function of von Mises-Fisher on the sphere
        kappa = poses.concentration
        cosine = 1.0 + np.log(u + (1.0 - u) * np.exp(-2.0 * kappa)) / kappa
    tilt = np.rad2deg(np.arccos(np.clip(cosine, -1.0, 1.0)))
    return rotation_from_euler(rot, tilt, psi)


def draw_ctf(
    generator: np.random.Generator, n: int, ctf: RandomCtf | CtfParameters | None
) -> CtfParameters:
    """CTF parameters of n particles."""
    if ctf is None:
        return CtfParameters.none(n)
    if isinstance(ctf, CtfParameters):
        return ctf.take(generator.integers(len(ctf), size=n))
    defocus = 1e4 * generator.uniform(*ctf.defocus_um, size=n)
    half = 0.5 * np.abs(ctf.astigmatism_angstrom * generator.normal(size=n))
    return CtfParameters(
        defocus_u_angstrom=defocus + half,
        defocus_v_angstrom=defocus - half,
        defocus_angle_deg=generator.uniform(0.0, 180.0, n),
        voltage_kv=np.full(n, ctf.voltage_kv),
        spherical_aberration_mm=np.full(n, ctf.spherical_aberration_mm),
        amplitude_contrast=np.full(n, ctf.amplitude_contrast),
        phase_shift_deg=np.full(n, ctf.phase_shift_deg),
        b_factor_angstrom2=np.full(n, ctf.b_factor_angstrom2),
    )
