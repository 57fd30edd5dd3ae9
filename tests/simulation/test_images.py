from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.io.errors import InputError
from hypermol.molecule.gallery import cat, pretzel
from hypermol.molecule.moving_gaussians import Powers, random_gaussians
from hypermol.simulation import (
    MapSource,
    MoleculeSource,
    Noise,
    Poses,
    RandomCtf,
    Settings,
    simulate,
    simulate_images,
)
from hypermol.simulation.images import background_mask
from hypermol.simulation.noise import falling_spectrum
from hypermol.simulation.sources import Grid
from hypermol.space.state_space import Interval, Point

SOURCE = MoleculeSource(pretzel(100.0))
SMALL = Settings(n=40, box=32, pixel_size_angstrom=9.0, seed=3)


def real_space_image(simulation, i: int) -> np.ndarray:
    """Image i by projecting Gaussians in real space and a CTF written here, all in NumPy."""
    grid, latents = simulation.grid, simulation.latents
    molecule = simulation.source.molecule
    theta = molecule.init(jax.random.key(0))
    blobs = np.asarray(molecule.centres(theta, jnp.asarray(latents.tau[i])), np.float64)
    turned = blobs @ latents.rotations[i].T
    amplitude, width = np.asarray(theta["amplitude"]), np.asarray(theta["width"])
    axis = (np.arange(grid.box) - grid.box // 2) * grid.pixel_size_angstrom
    x, y = np.meshgrid(axis, axis)
    image = np.zeros((grid.box, grid.box))
    for a, s, c in zip(amplitude, width, turned[:, :2] + latents.shifts_angstrom[i], strict=True):
        distance2 = (x - c[0]) ** 2 + (y - c[1]) ** 2
        image += a / (2 * np.pi * s**2) * np.exp(-0.5 * distance2 / s**2)
    image *= latents.contrast[i] / grid.pixel_size_angstrom
    p = latents.ctf.take(np.array([i]))
    k = np.fft.fftfreq(grid.box, grid.pixel_size_angstrom)
    kx, ky = np.meshgrid(k, k)
    alpha = np.deg2rad(p.defocus_angle_deg)
    u, v = kx * np.cos(alpha) + ky * np.sin(alpha), ky * np.cos(alpha) - kx * np.sin(alpha)
    wavelength = 0.0196875
    chi = np.pi * wavelength * (p.defocus_u_angstrom * u**2 + p.defocus_v_angstrom * v**2)
    chi -= np.pi / 2 * p.spherical_aberration_mm * 1e7 * wavelength**3 * (u**2 + v**2) ** 2
    ctf = np.sin(chi + np.arcsin(p.amplitude_contrast))
    inside = np.rint(np.hypot(kx, ky) * grid.box * grid.pixel_size_angstrom * 1e6) / 1e6
    ctf = ctf * (inside <= (grid.box - 1) // 2)
    return np.fft.ifft2(np.fft.fft2(image) * ctf).real


@pytest.mark.parametrize("box", [64, 65])
def test_clean_images_equal_projections_in_real_space(box):
    settings = replace(SMALL, box=box, pixel_size_angstrom=5.0, n=6, noise=Noise(snr=None))
    images, simulation = simulate_images(SOURCE, settings)
    for i in range(len(images)):
        expected = real_space_image(simulation, i)
        assert np.abs(images[i] - expected).max() < 2e-3 * np.abs(expected).max()


def test_snr_is_the_one_asked_for():
    settings = replace(SMALL, n=300, noise=Noise(0.2, "coloured"))
    images, simulation = simulate_images(SOURCE, settings)
    clean = simulation.clean(np.arange(300))
    batch = simulation.images()
    raw = images / batch.scale[:, None, None]
    noise = raw - clean
    noise -= noise.mean(axis=(1, 2), keepdims=True)
    measured = clean.var(axis=(1, 2)).mean() / noise.var(axis=(1, 2)).mean()
    assert measured == pytest.approx(0.2, rel=0.02)


def power_by_shell(images: np.ndarray) -> np.ndarray:
    box = images.shape[-1]
    power = (np.abs(np.fft.fft2(images, norm="ortho")) ** 2).mean(axis=0)
    axis = np.fft.fftfreq(box, 1 / box)
    shells = np.rint(np.hypot(axis[:, None], axis)).astype(int).ravel()
    return (np.bincount(shells, power.ravel()) / np.bincount(shells))[: box // 2 + 1]


@pytest.mark.parametrize(
    ("box", "spectrum"),
    [(32, "white"), (33, "coloured"), (32, lambda k: np.exp(-((k / 0.03) ** 2)))],
)
def test_noise_has_the_spectrum_asked_for(box, spectrum):
    settings = replace(SMALL, n=400, box=box, noise=Noise(0.1, spectrum))
    images, simulation = simulate_images(SOURCE, settings)
    batch = simulation.images()
    noise = images / batch.scale[:, None, None] - simulation.clean(np.arange(400))
    measured = power_by_shell(noise)[1:] / simulation.noise_sd**2
    expected = simulation.noise.shell_power[1:]
    assert np.allclose(measured, expected, rtol=0.08, atol=1e-6)
    if spectrum == "coloured":
        k = np.arange(1, box // 2) / (box * 9.0)
        named = falling_spectrum(k, 1 / 18)
        ratio = expected[: len(k)] / named
        # the innermost shells average a steep spectrum over few pixels
        assert np.allclose(ratio[2:] / ratio[2:].mean(), 1.0, atol=0.03)


def test_background_is_normalised():
    images, _ = simulate_images(SOURCE, replace(SMALL, background_radius_px=13.0))
    background = images[:, background_mask(32, 13.0)]
    assert np.allclose(background.mean(axis=1), 0.0, atol=1e-5)
    assert np.allclose(background.std(axis=1), 1.0, atol=1e-4)


def test_scale_takes_clean_images_to_the_written_ones():
    settings = replace(SMALL, n=300, noise=Noise(0.5))
    images, simulation = simulate_images(SOURCE, settings)
    scaled = simulation.clean(np.arange(300)) * simulation.images().scale[:, None, None]
    scaled -= scaled.mean(axis=(1, 2), keepdims=True)
    slope = np.sum(scaled * images) / np.sum(scaled**2)
    assert slope == pytest.approx(1.0, abs=0.02)


def test_same_seed_same_images_whatever_the_batch():
    simulation = simulate(SOURCE, SMALL)
    everything = simulation.images().images
    again = simulate(SOURCE, SMALL).images(np.array([37, 5])).images
    assert np.array_equal(again, everything[[37, 5]])
    other = simulate(SOURCE, replace(SMALL, seed=4)).images().images
    assert not np.allclose(everything, other)
    # another noise leaves the poses and states as they were
    noisier = simulate(SOURCE, replace(SMALL, noise=Noise(0.01, "coloured")))
    assert np.array_equal(noisier.latents.rotations, simulation.latents.rotations)
    assert np.array_equal(noisier.latents.tau, simulation.latents.tau)


def well_sampled_source(n: int, pixel: float) -> MoleculeSource:
    """Blobs 1.5 pixels wide, so that the grid holds all their frequencies."""
    molecule = random_gaussians(Interval(), Powers(1), 8, 0.3 * n * pixel, 1.5 * pixel)
    path = np.random.default_rng(0).uniform(-0.17, 0.17, (2, 8, 3)) * n * pixel
    return MoleculeSource(molecule, molecule.mean | {"path": jnp.asarray(path, jnp.float32)})


def sampled(source: MoleculeSource, tau: np.ndarray, grid: Grid) -> np.ndarray:
    """The density at the voxel centres for states [F, 1]."""
    axis = (np.arange(grid.box) - grid.box // 2) * grid.pixel_size_angstrom
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    points = jnp.asarray(np.stack([x, y, z], axis=-1), jnp.float32)
    density = source.molecule.density
    return np.stack([density(source.parameters, jnp.asarray(t), points) for t in tau])


@pytest.mark.parametrize(("n", "box"), [(48, 48), (47, 54)])
def test_slices_of_maps_agree_with_exact_slices(n, box):
    pixel = 8.0
    exact = well_sampled_source(n, pixel)
    tau = np.array([[0.1], [0.8]])
    from_maps = MapSource(sampled(exact, tau, Grid(n, pixel)), tau, pixel, Interval())
    settings = Settings(
        n=24, box=box, pixel_size_angstrom=pixel, noise=Noise(snr=None), ctf=None, contrast_sd=0.0
    )
    simulation = simulate(from_maps, settings)
    assert set(simulation.latents.tau[:, 0]) == {0.1, 0.8}
    interpolated = simulation.clean(np.arange(24))
    truth = replace(simulation, source=exact).clean(np.arange(24))
    error = np.linalg.norm(interpolated - truth, axis=(1, 2)) / np.linalg.norm(truth, axis=(1, 2))
    assert error.max() < 0.001


@pytest.mark.parametrize("box", [32, 33])
def test_truth_maps_are_the_density(box):
    grid = Grid(box, 9.0)
    source = well_sampled_source(box, 9.0)
    maps, tau = source.truth_maps(3, grid)
    density = sampled(source, tau, grid)
    assert maps.dtype == np.float16 and maps.shape == density.shape
    assert np.allclose(tau[:, 0], [1 / 6, 1 / 2, 5 / 6])
    assert np.linalg.norm(maps - density) < 2e-3 * np.linalg.norm(density)


def test_preferred_directions_and_consensus_errors():
    poses = Poses("preferred", 6.0, 4.0, rotation_error_deg=3.0, shift_error_px=0.7)
    settings = replace(SMALL, n=4000, poses=poses)
    latents = simulate(MoleculeSource(_Blob()), settings).latents
    assert latents.rotations[:, 2, 2].mean() == pytest.approx(1 / np.tanh(6) - 1 / 6, abs=0.01)
    turn = Rotation.from_matrix(
        latents.consensus_rotations @ np.swapaxes(latents.rotations, 1, 2)
    ).as_rotvec(degrees=True)
    assert np.allclose(turn.std(axis=0), 3.0, rtol=0.05)
    slip = (latents.consensus_shifts_angstrom - latents.shifts_angstrom) / 9.0
    assert np.allclose(slip.std(axis=0), 0.7, rtol=0.05)
    assert np.allclose(latents.shifts_angstrom.std(axis=0), 4.0, rtol=0.05)
    assert np.bincount(latents.half_set).tolist() == [0, 2000, 2000]


def test_uniform_rotations_are_uniform():
    latents = simulate(MoleculeSource(_Blob()), replace(SMALL, n=4000)).latents
    assert np.abs(latents.rotations.mean(axis=0)).max() < 0.04
    assert np.allclose((latents.rotations**2).mean(axis=0), 1 / 3, atol=0.03)
    defocus = 0.5 * (latents.ctf.defocus_u_angstrom + latents.ctf.defocus_v_angstrom)
    assert defocus.min() >= 1e4 and defocus.max() <= 3e4
    assert np.all(latents.ctf.defocus_u_angstrom >= latents.ctf.defocus_v_angstrom)


def test_states():
    latents = simulate(SOURCE, replace(SMALL, states="two-peaks")).latents
    assert latents.tau.shape == (40, 2) and 0 <= latents.tau.min() <= latents.tau.max() <= 1
    given = np.random.default_rng(0).uniform(size=(40, 2))
    assert np.array_equal(simulate(SOURCE, replace(SMALL, states=given)).latents.tau, given)
    with pytest.raises(InputError, match="40 rows of 2"):
        simulate(SOURCE, replace(SMALL, states=given[:, 0]))
    with pytest.raises(InputError, match="not finite"):
        simulate(SOURCE, replace(SMALL, states=np.full((40, 2), np.nan)))


def test_two_peaks_on_one_state():
    tau = simulate(
        MoleculeSource(cat(100.0)), replace(SMALL, n=2000, states="two-peaks")
    ).latents.tau
    assert np.mean(tau < 0.5) == pytest.approx(0.65, abs=0.03)


class _Blob:
    """The least that can be simulated: one Gaussian, one state, no density function."""

    state_space = Point()

    def init(self, key):
        return 30.0

    def fourier(self, theta, k, tau):
        return 1e6 * jnp.exp(-2 * jnp.pi**2 * theta**2 * jnp.sum(k**2, axis=-1)).astype(
            jnp.complex64
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(SMALL, n=0), "at least 1"),
        (lambda: replace(SMALL, box=4), "too small"),
        (lambda: replace(SMALL, pixel_size_angstrom=0.0), "above 0"),
        (lambda: replace(SMALL, contrast_sd=-1.0), "contrast_sd"),
        (lambda: replace(SMALL, states="three"), "two-peaks"),
        (lambda: replace(SMALL, background_radius_px=20.0), "no background"),
        (lambda: Noise(snr=-1.0), "snr"),
        (lambda: Noise(snr=float("nan")), "snr"),
        (lambda: Noise(spectrum="pink"), "white, coloured"),
        (lambda: Poses(directions="none"), "uniform, preferred"),
        (lambda: Poses(shift_sd_angstrom=-2.0), "shift_sd_angstrom"),
        (lambda: RandomCtf(defocus_um=(3.0, 1.0)), "empty"),
        (lambda: RandomCtf(amplitude_contrast=7.0), "fraction"),
        (lambda: simulate(SOURCE, replace(SMALL, noise=Noise(0.1, lambda k: -k))), "negative"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_maps_that_do_not_fit_are_refused():
    maps = np.zeros((2, 16, 16, 16), np.float32)
    with pytest.raises(InputError, match="one row"):
        MapSource(maps, np.zeros((3, 1)), 9.0, Interval())
    with pytest.raises(InputError, match=r"\[F, N, N, N\]"):
        MapSource(maps[:, :8], np.zeros((2, 1)), 9.0, Interval())
    source = MapSource(maps, np.zeros((2, 1)), 4.0, Interval())
    with pytest.raises(InputError, match="voxel size"):
        simulate(source, SMALL)
    with pytest.raises(InputError, match="smaller than the maps"):
        simulate(source, replace(SMALL, box=12, pixel_size_angstrom=4.0))
