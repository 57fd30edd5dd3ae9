"""What to simulate, as frozen settings that check themselves."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hypermol.io.errors import InputError
from hypermol.io.metadata import CtfParameters

#: Relative noise power [...] at spatial frequencies |k| [...] in 1/Angstrom.
NoiseSpectrum = Callable[[np.ndarray], np.ndarray]

NOISE_NAMES = ("white", "coloured")
DIRECTION_NAMES = ("uniform", "preferred")
STATE_NAMES = ("uniform", "two-peaks")

_SMALLEST_BOX = 8


@dataclass(frozen=True)
class Poses:
    """Where particles look and lie, and how far off a consensus refinement leaves them.

    Attributes:
        directions: "uniform" over all rotations, or "preferred": viewing directions crowd round
            the molecule's +z axis (von Mises-Fisher).
        concentration: the von Mises-Fisher concentration of preferred directions.
        shift_sd_angstrom: standard deviation of each of the two shifts.
        rotation_error_deg: sd of each component of the rotation vector by which the consensus
            pose is off; the mean angle is about 1.6 times this.
        shift_error_px: sd of each component of the consensus shift's error.
    """

    directions: str = "uniform"
    concentration: float = 3.0
    shift_sd_angstrom: float = 3.0
    rotation_error_deg: float = 0.0
    shift_error_px: float = 0.0

    def __post_init__(self) -> None:
        _require_name("directions", self.directions, DIRECTION_NAMES)
        _require_positive("concentration", self.concentration)
        for name in ("shift_sd_angstrom", "rotation_error_deg", "shift_error_px"):
            _require_not_negative(name, getattr(self, name))


@dataclass(frozen=True)
class Noise:
    """Additive Gaussian noise.

    Attributes:
        snr: mean variance of the clean images (CTF and contrast applied, whole box) over the
            variance of the noise, whatever its spectrum; None for no noise.
        spectrum: "white", "coloured" (the power falls to 1/5 towards Nyquist, see
            `noise.falling_spectrum`), or a function of |k| in 1/Angstrom (any scale).
    """

    snr: float | None = 0.05
    spectrum: str | NoiseSpectrum = "white"

    def __post_init__(self) -> None:
        if self.snr is not None:
            _require_positive("snr", self.snr)
        if isinstance(self.spectrum, str):
            _require_name("noise", self.spectrum, NOISE_NAMES)


@dataclass(frozen=True)
class RandomCtf:
    """CTFs of a good 300 kV session.

    Attributes:
        defocus_um: range of the mean defocus, uniform between its ends.
        astigmatism_angstrom: sd of defocus U - V (a folded normal), at a uniform angle.
        voltage_kv: acceleration voltage.
        spherical_aberration_mm: Cs.
        amplitude_contrast: fraction.
        phase_shift_deg: of a phase plate.
        b_factor_angstrom2: envelope exp(-B k^2 / 4).
    """

    defocus_um: tuple[float, float] = (1.0, 3.0)
    astigmatism_angstrom: float = 200.0
    voltage_kv: float = 300.0
    spherical_aberration_mm: float = 2.7
    amplitude_contrast: float = 0.1
    phase_shift_deg: float = 0.0
    b_factor_angstrom2: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.defocus_um
        if not low <= high:
            raise InputError(f"defocus range {low:g} to {high:g} um is empty: give low, then high")
        _require_positive("voltage_kv", self.voltage_kv)
        _require_not_negative("astigmatism_angstrom", self.astigmatism_angstrom)
        if not 0.0 <= self.amplitude_contrast <= 1.0:
            raise InputError(
                f"amplitude contrast {self.amplitude_contrast:g} is not a fraction: give 0 to 1"
            )


@dataclass(frozen=True)
class TwoPeaks:
    """Two unequal populations: a mixture of two normals in every state variable.

    Attributes:
        centres: of the peaks, in [0, 1].
        sd: of each peak.
        first_weight: fraction of particles in the first peak.
    """

    centres: tuple[float, float] = (0.25, 0.75)
    sd: float = 0.08
    first_weight: float = 0.65


@dataclass(frozen=True)
class Settings:
    """A data set to simulate.

    Attributes:
        n: number of images.
        box: side of the images in pixels, odd or even.
        pixel_size_angstrom: side of a pixel.
        seed: everything drawn follows from it.
        poses: see `Poses`.
        noise: see `Noise`.
        contrast_sd: the contrast a of eq. 5 is normal with mean 1 and this sd, at least 0.1.
        states: "uniform", "two-peaks", a `TwoPeaks`, or the states themselves [n, dim].
        ctf: a `RandomCtf`, rows to draw from (with replacement), or None for CTF = 1.
        background_radius_px: images are normalised as RELION does, to mean 0 and sd 1 outside
            this radius; by default 3/8 of the box. Without noise they are left as they are.
    """

    n: int
    box: int
    pixel_size_angstrom: float
    seed: int = 0
    poses: Poses = field(default_factory=Poses)
    noise: Noise = field(default_factory=Noise)
    contrast_sd: float = 0.1
    states: str | TwoPeaks | np.ndarray = "uniform"
    ctf: RandomCtf | CtfParameters | None = field(default_factory=RandomCtf)
    background_radius_px: float | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError(f"n = {self.n} images: ask for at least 1")
        if self.box < _SMALLEST_BOX:
            raise InputError(f"box {self.box} px is too small: ask for at least {_SMALLEST_BOX}")
        _require_positive("pixel_size_angstrom", self.pixel_size_angstrom)
        _require_not_negative("contrast_sd", self.contrast_sd)
        if isinstance(self.states, str):
            _require_name("states", self.states, STATE_NAMES)
        if isinstance(self.ctf, CtfParameters) and len(self.ctf) == 0:
            raise InputError("there are no CTF rows to draw from: give at least one")
        if not 0.0 < self.background_radius < self.box / 2:
            raise InputError(
                f"background radius {self.background_radius:g} px leaves no background in a box "
                f"of {self.box} px: choose less than {self.box / 2:g}"
            )

    @property
    def background_radius(self) -> float:
        """Radius in pixels outside which images are background."""
        if self.background_radius_px is None:
            return 0.375 * self.box
        return self.background_radius_px


def _require_name(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise InputError(f"{what} {name!r} is not known: choose one of {', '.join(known)}")


def _require_positive(what: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise InputError(f"{what} is {value:g}: give a number above 0")


def _require_not_negative(what: str, value: float) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise InputError(f"{what} is {value:g}: give 0 or a number above")
