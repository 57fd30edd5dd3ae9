"""The CTF against an independent formula, textbook numbers and images that RELION made."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import starfile

from hypermol.imaging.ctf import ctf_values, electron_wavelength_angstrom
from hypermol.io.euler import rotation_from_euler
from hypermol.io.metadata import CtfParameters
from hypermol.io.mrc import open_stack
from hypermol.simulation.images import clean_images
from hypermol.simulation.latents import Latents
from hypermol.simulation.sources import Grid, MapSource
from hypermol.space.state_space import Interval


def parameters(**changes: float) -> CtfParameters:
    values = {
        "defocus_u_angstrom": 15000.0,
        "defocus_v_angstrom": 15000.0,
        "defocus_angle_deg": 0.0,
        "voltage_kv": 300.0,
        "spherical_aberration_mm": 2.7,
        "amplitude_contrast": 0.1,
        "phase_shift_deg": 0.0,
        "b_factor_angstrom2": 0.0,
    }
    return CtfParameters(**{n: np.array([v]) for n, v in (values | changes).items()})


def reference(p: CtfParameters, k: np.ndarray) -> np.ndarray:
    """Textbook phase: w1 sin(chi) + w2 cos(chi), the defocus a quadratic form of the vector k."""
    e, m, c, h = 1.602176634e-19, 9.1093837015e-31, 299792458.0, 6.62607015e-34
    energy = e * 1e3 * p.voltage_kv[0]
    wavelength = 1e10 * h * c / np.sqrt(energy * (energy + 2 * m * c**2))
    alpha = np.deg2rad(p.defocus_angle_deg[0])
    along = np.array([np.cos(alpha), np.sin(alpha)])
    across = np.array([-np.sin(alpha), np.cos(alpha)])
    form = p.defocus_u_angstrom[0] * (k @ along) ** 2 + p.defocus_v_angstrom[0] * (k @ across) ** 2
    cs = p.spherical_aberration_mm[0] * 1e7
    chi = np.pi * wavelength * form - np.pi / 2 * cs * wavelength**3 * np.sum(k**2, axis=1) ** 2
    chi = chi + np.deg2rad(p.phase_shift_deg[0])
    w2 = p.amplitude_contrast[0]
    envelope = np.exp(-p.b_factor_angstrom2[0] * np.sum(k**2, axis=1) / 4)
    return (np.sqrt(1 - w2**2) * np.sin(chi) + w2 * np.cos(chi)) * envelope


def test_the_scale_multiplies_the_ctf():
    k = np.random.default_rng(0).uniform(-0.2, 0.2, (20, 2))
    plain, scaled = ctf_values(parameters(), k), ctf_values(parameters(scale=0.37), k)
    np.testing.assert_allclose(scaled, 0.37 * np.asarray(plain), rtol=1e-6)
    assert parameters().scale == 1.0 and parameters(scale=0.37).take(np.array([0])).scale == 0.37


@pytest.mark.parametrize(
    ("kv", "angstrom"), [(80, 0.041757), (100, 0.037014), (200, 0.025079), (300, 0.019687)]
)
def test_wavelengths_of_the_textbooks(kv, angstrom):
    assert float(electron_wavelength_angstrom(np.array(kv))) == pytest.approx(angstrom, abs=1.5e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"defocus_v_angstrom": 13500.0, "defocus_angle_deg": 27.0},
        {"phase_shift_deg": 75.0, "b_factor_angstrom2": 80.0},
        {"voltage_kv": 200.0, "spherical_aberration_mm": 0.01, "amplitude_contrast": 0.07},
        {"defocus_u_angstrom": -5000.0, "defocus_v_angstrom": -5000.0},
    ],
)
def test_against_the_textbook_formula(changes):
    p = parameters(**changes)
    k = np.random.default_rng(0).uniform(-0.2, 0.2, (500, 2))
    # RELION's constants for the wavelength differ from the present ones by 5e-6: 4e-4 here
    assert np.abs(np.asarray(ctf_values(p, k))[0] - reference(p, k)).max() < 8e-4


def test_sign_and_value_at_zero_frequency():
    zero = np.zeros((1, 2))
    assert float(ctf_values(parameters(), zero)[0, 0]) == pytest.approx(0.1, abs=1e-6)
    shifted = ctf_values(parameters(phase_shift_deg=90.0), zero)[0, 0]
    assert float(shifted) == pytest.approx(np.sqrt(0.99), abs=1e-6)
    assert float(ctf_values(parameters(), np.array([[0.01, 0.0]]))[0, 0]) > 0.1
    assert np.allclose(ctf_values(CtfParameters.none(1), np.array([[0.1, 0.2]])), 1.0)


def test_astigmatism_turns_counter_clockwise_from_x():
    p = parameters(defocus_u_angstrom=20000.0, defocus_v_angstrom=10000.0, defocus_angle_deg=30.0)
    angle = np.deg2rad([30.0, 120.0])
    k = 0.05 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    along, across = np.asarray(ctf_values(p, k))[0]
    x = np.array([[0.05, 0.0]])
    round_u, round_v = (
        float(ctf_values(parameters(defocus_u_angstrom=d, defocus_v_angstrom=d), x)[0, 0])
        for d in (20000.0, 10000.0)
    )
    assert along == pytest.approx(round_u, abs=1e-4)
    assert across == pytest.approx(round_v, abs=1e-4)
    assert abs(round_u - round_v) > 0.1


def test_envelope_is_exp_of_minus_b_k2_over_4():
    k = np.array([[0.1, 0.05]])
    ratio = ctf_values(parameters(b_factor_angstrom2=100.0), k) / ctf_values(parameters(), k)
    assert float(ratio[0, 0]) == pytest.approx(np.exp(-100.0 * 0.0125 / 4), rel=1e-5)


@pytest.fixture(scope="module")
def relion_images(shared_data):
    """Images of some frames that RELION projected, with their truth: (data, latents, source)."""
    folder = shared_data / "adk"
    truth, stored = np.load(folder / "truth.npz"), np.load(folder / "truth_maps.npz")
    blocks = starfile.read(folder / "truth.star")
    optics, rows = blocks["optics"].iloc[0], blocks["particles"]
    chosen = np.flatnonzero(np.isin(truth["frame"], np.arange(24, 28)))[:300]
    frames, local = np.unique(truth["frame"][chosen], return_inverse=True)
    rows = rows.iloc[chosen]
    n = len(chosen)
    ctf = CtfParameters(
        rows["rlnDefocusU"].to_numpy(),
        rows["rlnDefocusV"].to_numpy(),
        rows["rlnDefocusAngle"].to_numpy(),
        np.full(n, optics["rlnVoltage"]),
        np.full(n, optics["rlnSphericalAberration"]),
        np.full(n, optics["rlnAmplitudeContrast"]),
        rows["rlnPhaseShift"].to_numpy(),
        np.zeros(n),
    )
    angles = (rows[f"rlnAngle{a}"].to_numpy() for a in ("Rot", "Tilt", "Psi"))
    rotations = rotation_from_euler(*angles)
    shifts = -rows[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy()
    tau = local[:, None] / len(frames)
    states = np.arange(len(frames))[:, None] / len(frames)
    source = MapSource(stored["maps"][frames], states, 1.5, Interval())
    contrast = truth["contrast"][chosen] * truth["scale"][chosen]
    latents = Latents(
        tau, rotations, shifts, contrast, ctf, rotations, shifts, np.ones(n, dtype=int)
    )
    images = np.asarray(open_stack(folder / "particles.mrcs")[chosen], dtype=np.float64)
    return images, latents, source


def scores(images: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, float]:
    """Slope of the images on the clean ones in bands of |k|, and their summed product."""
    data, model = (np.fft.fft2(x) for x in (images, clean))
    axis = np.fft.fftfreq(images.shape[-1], 1.0 / images.shape[-1])
    radius = np.hypot(axis[:, None], axis)
    edges = [1, 6, 11, 16, 24]
    product = (data * model.conj()).real.sum(axis=0)
    power = (np.abs(model) ** 2).sum(axis=0)
    bands = [(radius >= a) & (radius < b) for a, b in pairwise(edges)]
    residual = np.sum(np.abs(data - model)[:, radius > 0.5] ** 2)
    return np.array([product[b].sum() / power[b].sum() for b in bands]), float(residual)


def test_reproduces_images_that_relion_made(relion_images):
    images, latents, source = relion_images
    grid = Grid(64, 1.5)
    slopes, best = scores(images, clean_images(source, latents, grid))
    # the true image regressed on ours has slope 1 in every band of frequency
    assert np.abs(slopes[:3] - 1.0).max() < 0.03, slopes
    assert abs(slopes[3] - 1.0) < 0.15, slopes
    wrong = {
        "angle": replace(latents.ctf, defocus_angle_deg=latents.ctf.defocus_angle_deg + 90.0),
        "mirror": replace(latents.ctf, defocus_angle_deg=-latents.ctf.defocus_angle_deg),
        "defocus": replace(latents.ctf, defocus_u_angstrom=latents.ctf.defocus_u_angstrom + 300),
        "contrast": replace(latents.ctf, amplitude_contrast=np.full(len(latents), 0.05)),
    }
    for name, ctf in wrong.items():
        _, worse = scores(images, clean_images(source, replace(latents, ctf=ctf), grid))
        assert worse > best, name
