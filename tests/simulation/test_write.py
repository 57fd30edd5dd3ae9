from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import starfile
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from hypermol.data.source import load_particles
from hypermol.io.errors import InputError
from hypermol.io.metadata import CtfParameters
from hypermol.io.mrc import open_stack
from hypermol.molecule.gallery import cat, pretzel
from hypermol.simulation import MoleculeSource, Noise, Poses, Settings, simulate, write_dataset

POSES = Poses(shift_sd_angstrom=8.0, rotation_error_deg=2.0, shift_error_px=0.7)
SETTINGS = Settings(n=30, box=48, pixel_size_angstrom=6.0, seed=5, poses=POSES)


@pytest.fixture(scope="module")
def clean_set(tmp_path_factory) -> Path:
    """A data set without noise; 41 truth maps, states at the maps' own."""
    states = (np.arange(30)[:, None] + 0.5) / 41
    settings = replace(SETTINGS, noise=Noise(snr=None), states=states)
    out = tmp_path_factory.mktemp("clean")
    write_dataset(out, simulate(MoleculeSource(cat(100.0)), settings), n_truth_maps=41)
    return out


def image_from_files(out: Path, i: int) -> np.ndarray:
    """Image i from truth.star and truth_maps.npz: rotate the map, sum over z, shift, CTF."""
    blocks = starfile.read(out / "truth" / "truth.star")
    optics, row = blocks["optics"].iloc[0], blocks["particles"].iloc[i]
    stored, truth = np.load(out / "truth" / "truth_maps.npz"), np.load(out / "truth" / "truth.npz")
    volume = stored["maps"][truth["frame"][i]].astype(float)
    n, pixel = volume.shape[0], float(stored["apix"])
    angles = [-row["rlnAnglePsi"], -row["rlnAngleTilt"], -row["rlnAngleRot"]]
    rotation = Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix()
    axis = np.arange(n) - n // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    shift = -np.array([row["rlnOriginXAngst"], row["rlnOriginYAngst"]]) / pixel
    points = np.stack([x - shift[0], y - shift[1], z], axis=-1) @ rotation + n // 2
    turned = map_coordinates(volume, points[..., ::-1].transpose(3, 0, 1, 2), order=3)
    k = np.fft.fftfreq(n, pixel)
    kx, ky = np.meshgrid(k, k)
    k2 = kx**2 + ky**2
    angle = np.arctan2(ky, kx) - np.deg2rad(row["rlnDefocusAngle"])
    u, v = row["rlnDefocusU"], row["rlnDefocusV"]
    defocus = (u + v) / 2 + (u - v) / 2 * np.cos(2 * angle)
    wavelength = 0.0196875
    chi = np.pi * wavelength * defocus * k2
    chi -= np.pi / 2 * optics["rlnSphericalAberration"] * 1e7 * wavelength**3 * k2**2
    ctf = np.sin(chi + np.arcsin(optics["rlnAmplitudeContrast"]))
    image = np.fft.ifft2(np.fft.fft2(turned.sum(axis=0)) * ctf).real
    return image * truth["contrast"][i] * truth["scale"][i]


def test_images_follow_from_the_files(clean_set):
    images = open_stack(clean_set / "particles.mrcs")
    for i in (0, 7, 29):
        again = image_from_files(clean_set, i)
        assert np.corrcoef(again.ravel(), images[i].ravel())[0, 1] > 0.999
        slope = np.vdot(again, images[i]) / np.vdot(again, again)
        assert slope == pytest.approx(1.0, abs=0.01)


def test_particles_star_has_the_consensus_poses(clean_set):
    consensus = load_particles(clean_set / "particles.star")
    truth = load_particles(clean_set / "truth" / "truth.star")
    for particles in (consensus, truth):
        assert set(particles.metadata.stack_paths) == {str(clean_set / "particles.mrcs")}
    gap = Rotation.from_matrix(
        consensus.metadata.rotations @ np.swapaxes(truth.metadata.rotations, 1, 2)
    ).magnitude()
    assert np.rad2deg(gap).mean() == pytest.approx(3.2, abs=0.7)
    slip = (consensus.metadata.shifts_angstrom - truth.metadata.shifts_angstrom) / 6.0
    assert slip.std() == pytest.approx(0.7, abs=0.2)
    rows = starfile.read(clean_set / "particles.star")["particles"]
    assert sorted(rows["rlnRandomSubset"].value_counts()) == [15, 15]


def test_truth_file(clean_set):
    truth = np.load(clean_set / "truth" / "truth.npz")
    assert truth["t"].shape == (30,) and str(truth["space"]) == "interval"
    assert np.array_equal(truth["frame"], np.arange(30))
    assert np.all(truth["noise_sd"] == 0.0) and truth["noise_power"].shape == (25,)
    maps = np.load(clean_set / "truth" / "truth_maps.npz")
    assert maps["maps"].shape == (41, 48, 48, 48) and maps["tau"].shape == (41, 1)


def test_noise_power_is_in_the_units_of_the_images(tmp_path):
    settings = replace(SETTINGS, n=300, noise=Noise(0.001, "coloured"))
    write_dataset(tmp_path, simulate(MoleculeSource(pretzel(100.0)), settings), n_truth_maps=4)
    truth = np.load(tmp_path / "truth" / "truth.npz")
    assert truth["t"].shape == (300, 2) and truth["state_names"].tolist() == ["arm_1", "arm_2"]
    images = np.asarray(open_stack(tmp_path / "particles.mrcs"))
    power = (np.abs(np.fft.fft2(images, norm="ortho")) ** 2).mean(axis=0)
    axis = np.fft.fftfreq(48, 1 / 48)
    shells = np.rint(np.hypot(axis[:, None], axis)).astype(int)
    for shell in (5, 12, 20):
        assert power[shells == shell].mean() == pytest.approx(truth["noise_power"][shell], rel=0.04)


def test_float16_optics_groups_and_overwriting(tmp_path):
    rows = CtfParameters(
        np.array([15000.0, 21000.0]),
        np.array([14800.0, 20500.0]),
        np.array([10.0, 70.0]),
        np.array([300.0, 200.0]),
        np.array([2.7, 2.0]),
        np.array([0.1, 0.07]),
        np.array([0.0, 90.0]),
        np.array([0.0, 50.0]),
    )
    source = MoleculeSource(cat(100.0))
    simulation = simulate(source, replace(SETTINGS, ctf=rows))
    path = write_dataset(tmp_path, simulation, dtype="float16", n_truth_maps=2)
    images = open_stack(tmp_path / "particles.mrcs")
    assert images.dtype == np.float16
    assert np.abs(images - simulation.images().images).max() < 5e-3
    read = load_particles(path).metadata.ctf
    drawn = simulation.latents.ctf
    assert set(drawn.voltage_kv) == {200.0, 300.0}
    for name in ("voltage_kv", "spherical_aberration_mm", "phase_shift_deg", "b_factor_angstrom2"):
        assert np.allclose(getattr(read, name), getattr(drawn, name)), name
    with pytest.raises(InputError, match="exists"):
        write_dataset(tmp_path, simulation)
    with pytest.raises(InputError, match="float16, float32"):
        write_dataset(tmp_path, simulation, dtype="int8")
    write_dataset(tmp_path, simulation, n_truth_maps=2, overwrite=True)


def test_a_data_set_can_be_moved(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    simulation = simulate(MoleculeSource(cat(100.0)), replace(SETTINGS, n=3))
    write_dataset(old, simulation, n_truth_maps=1)
    old.rename(new)
    for name in ("particles.star", "truth/truth.star"):
        assert set(load_particles(new / name).metadata.stack_paths) == {str(new / "particles.mrcs")}
