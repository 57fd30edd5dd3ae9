import numpy as np
import pytest

from hypermol.io.errors import InputError
from hypermol.io.structures import Structure, read_structure
from hypermol.simulation import Noise, Settings, simulate, structure_source
from hypermol.simulation.structures import (
    DensityGrid,
    density_of_atoms,
    even_states,
    interpolate_frames,
)
from hypermol.space.state_space import Circle, Point

GRID = DensityGrid(box=24, voxel_size_angstrom=2.0, resolution_angstrom=8.0)


def hinge(n_frames: int) -> Structure:
    """Six atoms; the last three swing by 40 degrees."""
    rng = np.random.default_rng(0)
    atoms = rng.uniform(-8, 8, (6, 3))
    frames = []
    for angle in np.deg2rad(np.linspace(0, 40, n_frames)):
        turn = np.array(
            [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
        )
        frames.append(np.concatenate([atoms[:3], atoms[3:] @ turn.T]) + 100.0)
    numbers = np.array([6, 7, 8, 6, 16, 30])
    return Structure(
        np.stack(frames), np.array(["C", "N", "O", "C", "S", "Zn"]), numbers, 2.0 * numbers
    )


def test_density_of_atoms_against_the_formula():
    atoms = np.random.default_rng(1).uniform(-8, 8, (7, 3))
    weights = np.arange(1.0, 8.0)
    density = density_of_atoms(atoms, weights, GRID)
    axis = (np.arange(24) - 12) * 2.0
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    s = GRID.sd_angstrom
    expected = sum(
        w * np.exp(-((x - a[0]) ** 2 + (y - a[1]) ** 2 + (z - a[2]) ** 2) / (2 * s**2))
        for a, w in zip(atoms, weights, strict=True)
    )
    expected = expected * (2.0**2 / (2 * np.pi * s**2)) ** 1.5
    assert np.allclose(density, expected, atol=1e-5 * expected.max())
    assert density.sum() == pytest.approx(weights.sum(), rel=1e-3)


def test_resolution_is_where_an_atom_falls_to_1_over_e():
    density = density_of_atoms(np.zeros((1, 3)), np.ones(1), DensityGrid(48, 1.0, 6.0))
    transform = np.abs(np.fft.fftn(density))
    assert transform[0, 0, 8] / transform[0, 0, 0] == pytest.approx(np.exp(-1), rel=1e-3)


def test_states_and_centring():
    source = structure_source(hinge(5), GRID)
    assert np.allclose(source.tau[:, 0], [0, 0.25, 0.5, 0.75, 1.0])
    axis = (np.arange(24) - 12) * 2.0
    maps = source.maps.astype(float)
    centre = [np.sum(maps[i].sum(axis=(0, 1)) * axis) / maps[i].sum() for i in (0, 4)]
    assert abs(np.mean(centre)) < 3.0 and abs(centre[0] - centre[1]) > 0.3
    simulation = simulate(source, Settings(n=8, box=24, pixel_size_angstrom=2.0))
    assert set(simulation.latents.tau[:, 0]) <= set(source.tau[:, 0])


def test_circle_and_point():
    assert np.allclose(even_states(4, True), [0, 0.25, 0.5, 0.75])
    circle = structure_source(hinge(4), GRID, circle=True)
    assert isinstance(circle.space, Circle)
    assert circle.frames(np.array([[0.97]])).tolist() == [0]
    point = structure_source(hinge(1), GRID)
    assert isinstance(point.space, Point)
    simulate(point, Settings(n=2, box=24, pixel_size_angstrom=2.0, noise=Noise(None)))


def test_interpolation_between_frames():
    frames = np.arange(3.0)[:, None, None] * np.ones((3, 2, 3))
    assert np.allclose(interpolate_frames(frames, 0.25, circle=False), 0.5)
    assert np.allclose(interpolate_frames(frames, 1.0, circle=False), 2.0)
    assert np.allclose(interpolate_frames(frames, 5 / 6, circle=True), 1.0)
    assert structure_source(hinge(3), GRID, n_states=7).maps.shape == (7, 24, 24, 24)


def test_wrong_requests_are_refused():
    with pytest.raises(InputError, match="too fine"):
        structure_source(hinge(2), DensityGrid(24, 2.0, 2.0))
    with pytest.raises(InputError, match="box of"):
        structure_source(hinge(2), DensityGrid(8, 2.0, 8.0))
    with pytest.raises(InputError, match="2 GB"):
        structure_source(hinge(2), DensityGrid(256, 2.0, 8.0), n_states=100)
    with pytest.raises(InputError, match="one frame"):
        structure_source(hinge(1), GRID, n_states=3)
    with pytest.raises(InputError, match="at least 1"):
        structure_source(hinge(2), GRID, n_states=0)


def test_trajectory_gives_the_maps_of_the_shared_data(shared_data):
    folder = shared_data / "structures"
    structure = read_structure(folder / "adk_dims.dcd", folder / "adk.psf")
    stored = np.load(shared_data / "adk" / "truth_maps.npz")
    source = structure_source(structure, DensityGrid(64, 1.5, 4.0), n_states=2)
    # the same molecule, made by another program with other atomic profiles and another centring
    for ours, frame in zip(source.maps, (0, 97), strict=True):
        low = np.s_[:8, :8, :8]
        first, second = (
            np.abs(np.fft.fftn(m.astype(float)))[low].ravel()[1:]
            for m in (ours, stored["maps"][frame])
        )
        assert np.corrcoef(first, second)[0, 1] > 0.95
