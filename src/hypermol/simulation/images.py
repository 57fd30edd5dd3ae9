"""Images of a density by eq. 5-6 and 9: slice, shift, CTF, contrast, noise, normalisation."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.imaging.ctf import ctf_values
from hypermol.io.metadata import CtfParameters
from hypermol.simulation.latents import Latents, draw_latents
from hypermol.simulation.noise import NoiseModel, noise_image, noise_model
from hypermol.simulation.settings import Settings
from hypermol.simulation.sources import Grid, Source, in_blocks
from hypermol.space.fourier import HalfPlane, half_plane, half_plane_to_image, shift_phases

_PILOT_IMAGES = 1000
_CHUNK_BYTES = 96_000_000
_NOISE_KEY = 7


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Images of some particles.

    Attributes:
        images: float32 [n, box, box], normalised.
        scale: float64 [n]: the image is scale * (contrast * CTF * projection + noise) - offset.
    """

    images: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True, eq=False)
class Simulation:
    """A data set whose truth is drawn and whose images are made when asked for.

    The image of particle i depends on the settings and on i only.

    Attributes:
        source: the densities.
        settings: what was asked for.
        latents: truth of the N particles; `tau` are states that the source can show.
        noise: the noise's spectrum at unit variance.
        noise_sd: standard deviation of the noise before normalisation; 0 without noise.
    """

    source: Source
    settings: Settings
    latents: Latents
    noise: NoiseModel
    noise_sd: float

    def __len__(self) -> int:
        return self.settings.n

    @property
    def grid(self) -> Grid:
        """The images' grid."""
        return Grid(self.settings.box, self.settings.pixel_size_angstrom)

    def clean(self, indices: np.ndarray) -> np.ndarray:
        """Images float32 [n, box, box] before noise and normalisation (CTF, contrast applied)."""
        return clean_images(self.source, self.latents.take(indices), self.grid)

    def images(self, indices: np.ndarray | None = None) -> ImageBatch:
        """Images of the particles `indices` (all by default)."""
        chosen = np.arange(len(self)) if indices is None else np.asarray(indices)
        clean = self.clean(chosen)
        if self.noise_sd == 0.0:
            return ImageBatch(clean, np.ones(len(clean)))
        settings = self.settings
        power = None if self.noise.power is None else jnp.asarray(self.noise.power)
        key = jax.random.key(np.uint32(settings.seed % 2**32) + _NOISE_KEY)
        background = background_mask(settings.box, settings.background_radius)
        finish = partial(_add_noise, key, power, jnp.asarray(background), self.noise_sd)
        packed = in_blocks(finish, (clean, chosen.astype(np.uint32)))
        images = packed[:, :-1].reshape(clean.shape)
        return ImageBatch(images, packed[:, -1].astype(np.float64))

    def batches(self) -> Iterator[ImageBatch]:
        """All images in order, a bounded number at a time (about 0.5 GB in all)."""
        step = chunk_length(self.settings.box)
        for start in range(0, len(self), step):
            yield self.images(np.arange(start, min(start + step, len(self))))


def simulate(source: Source, settings: Settings) -> Simulation:
    """Draw the truth and fix the noise level; images are made later, piece by piece.

    The noise's variance is the clean images' mean variance (over the whole box, over up to 1000
    evenly spaced particles) divided by the SNR: the same noise for all particles.

    Raises:
        InputError: the source cannot show what the settings ask for.
    """
    source.check(settings.box, settings.pixel_size_angstrom)
    drawn = draw_latents(settings, source.state_space)
    values = {f.name: getattr(drawn, f.name) for f in fields(drawn)}
    latents = Latents(**(values | {"tau": source.available(drawn.tau)}))
    pilot = np.unique(np.linspace(0, settings.n - 1, min(settings.n, _PILOT_IMAGES)).astype(int))
    grid = Grid(settings.box, settings.pixel_size_angstrom)
    variances = [
        clean_images(source, latents.take(part), grid).var(axis=(1, 2), dtype=np.float64)
        for part in np.array_split(pilot, -(-len(pilot) // chunk_length(settings.box)))
    ]
    signal = float(np.concatenate(variances).mean())
    snr = settings.noise.snr
    noise_sd = 0.0 if snr is None else float(np.sqrt(signal / snr))
    return Simulation(source, settings, latents, noise_model(settings), noise_sd)


def simulate_images(source: Source, settings: Settings) -> tuple[np.ndarray, Simulation]:
    """All images float32 [n, box, box] and the simulation with their truth (small data sets)."""
    simulation = simulate(source, settings)
    return np.concatenate([batch.images for batch in simulation.batches()]), simulation


def clean_images(source: Source, latents: Latents, grid: Grid) -> np.ndarray:
    """Noiseless images float32 [N, box, box] of eq. 5-6 with contrast.

    Only frequencies inside the Nyquist circle are formed (k = 0 included), as RELION's projector
    does. Images are periodic: what the CTF spreads beyond an edge comes back at the other.
    """
    frequencies = _with_zero(nyquist_plane(grid.box))
    slices = source.slices(latents.tau, latents.rotations, frequencies, grid)
    ctf = [getattr(latents.ctf, f.name).astype(np.float32) for f in fields(CtfParameters)]
    form = partial(_form_images, grid.box, grid.pixel_size_angstrom)
    shifts = (latents.shifts_angstrom / grid.pixel_size_angstrom).astype(np.float32)
    contrast = latents.contrast.astype(np.float32)
    return in_blocks(form, (slices, shifts, contrast, *ctf))


def nyquist_plane(box: int) -> HalfPlane:
    """The half plane inside the Nyquist circle."""
    return half_plane(box, (box - 1) // 2)


def _with_zero(plane: HalfPlane) -> np.ndarray:
    """Frequencies int32 [1 + K, 2]: zero, then the plane's."""
    return np.concatenate([np.zeros((1, 2), np.int32), plane.frequencies])


def background_mask(box: int, radius_px: float) -> np.ndarray:
    """Pixels bool [box, box] farther than `radius_px` from the centre."""
    axis = np.arange(box) - box // 2
    return np.hypot(axis[:, None], axis[None, :]) > radius_px


def chunk_length(box: int) -> int:
    """Number of images formed at a time, so that memory stays bounded."""
    return max(_CHUNK_BYTES // (4 * box**2), 64)


@partial(jax.jit, static_argnums=0)
def _form_images(
    box: int, pixel: Array | float, slices: Array, shifts_px: Array, contrast: Array, *ctf: Array
) -> Array:
    """Images [B, box, box] of slices [B, 1 + K], frequency 0 first."""
    plane = nyquist_plane(box)
    parameters = CtfParameters(*ctf)  # type: ignore[arg-type]
    transfer = ctf_values(parameters, jnp.asarray(_with_zero(plane) / (box * pixel)))
    values = slices * transfer
    values = values * (contrast[:, None] / box)
    images = half_plane_to_image(values[:, 1:] * shift_phases(plane, shifts_px), plane)
    return images + (values[:, 0].real / box)[:, None, None]


@jax.jit
def _add_noise(
    key: Array, power: Array | None, background: Array, noise_sd: float, clean: Array, index: Array
) -> Array:
    """Noisy normalised images [B, box^2] with their scale in a last column."""
    box = clean.shape[-1]
    noise = jax.vmap(lambda i: noise_image(key, i, box, power))(index)
    images = clean + noise_sd * noise
    weights = background / background.sum()
    mean = jnp.sum(images * weights, axis=(1, 2), keepdims=True)
    variance = jnp.sum((images - mean) ** 2 * weights, axis=(1, 2), keepdims=True)
    scale = 1.0 / jnp.sqrt(variance)
    flat = ((images - mean) * scale).reshape(len(images), -1)
    return jnp.concatenate([flat, scale[:, 0]], axis=1)
