"""Elastic networks against finite differences of their energy, and structures on disk."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypermol.io.errors import InputError
from hypermol.io.structures import read_residues
from hypermol.molecule import elastic_network as module
from hypermol.molecule.elastic_network import anisotropic_modes, elastic_network
from hypermol.space.product import Product
from hypermol.space.state_space import Interval


def write_pdb(path: Path, positions: np.ndarray) -> Path:
    """C-alphas with their N and C, one residue each."""
    lines = []
    for i, place in enumerate(positions):
        for j, (name, element) in enumerate([("N", "N"), ("CA", "C"), ("C", "C")]):
            x, y, z = place + 0.9 * (j - 1)
            lines.append(
                f"ATOM  {3 * i + j + 1:5d}  {name:<3s} ALA A{i + 1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
                f"  1.00  0.00          {element:>2s}"
            )
    path.write_text("\n".join([*lines, "END", ""]))
    return path


def helix(n: int = 40) -> np.ndarray:
    t = np.arange(n)
    return np.stack([9 * np.cos(0.6 * t), 9 * np.sin(0.6 * t), 1.5 * t], axis=-1).round(3)


def energy(moved: np.ndarray, rest: np.ndarray, cutoff: float) -> float:
    i, j = np.triu_indices(len(rest), 1)
    length = np.linalg.norm(rest[i] - rest[j], axis=1)
    near = length < cutoff
    stretched = np.linalg.norm(moved[i] - moved[j], axis=1)
    return 0.5 * float(np.sum((stretched - length)[near] ** 2))


def test_modes_are_curvatures_of_the_energy():
    rest = helix()
    values, modes = anisotropic_modes(rest, 4, 18.0)
    np.testing.assert_allclose(np.mean(np.sum(modes**2, axis=-1), axis=-1), 1.0)
    for value, mode in zip(values, modes, strict=True):
        step = 1e-3
        curvature = (energy(rest + step * mode, rest, 18.0) * 2) / step**2 / len(rest)
        assert curvature == pytest.approx(value, rel=1e-2)
    flat = modes.reshape(4, -1)
    np.testing.assert_allclose(flat @ flat.T, len(rest) * np.eye(4), atol=1e-6)
    # no rigid motion is left in them
    away = rest - rest.mean(axis=0)
    np.testing.assert_allclose(modes.mean(axis=1), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.cross(away, modes).mean(axis=1), 0.0, atol=1e-4)


def test_sparse_and_dense_agree(monkeypatch):
    values, modes = anisotropic_modes(helix(), 3, 18.0)
    monkeypatch.setattr(module, "_DENSE_LIMIT", 0)
    sparse_values, sparse_modes = anisotropic_modes(helix(), 3, 18.0)
    np.testing.assert_allclose(sparse_values, values, rtol=1e-6)
    np.testing.assert_allclose(sparse_modes, modes, atol=1e-5)


def test_the_state_moves_by_the_stated_displacement(tmp_path):
    model = elastic_network(write_pdb(tmp_path / "a.pdb", helix()), 1, 18.0, 4.0)
    theta = model.init(jax.random.key(0))
    rest, end = (model.centres(theta, jnp.array([t])) for t in (0.5, 1.0))
    np.testing.assert_allclose(rest, helix() - helix().mean(axis=0), atol=1e-4)
    rms = float(jnp.sqrt(jnp.mean(jnp.sum((end - rest) ** 2, axis=-1))))
    assert rms == pytest.approx(4.0, rel=1e-5)
    total = model.fourier(theta, jnp.zeros((1, 3)), jnp.array([0.3]))
    np.testing.assert_allclose(total, 40 * (7 + 6 + 6), rtol=1e-5)


def test_two_modes_and_all_atoms(tmp_path):
    path = write_pdb(tmp_path / "a.pdb", helix(20))
    model = elastic_network(path, 2, 18.0, points="atoms")
    assert model.rest_angstrom.shape == (60, 3)
    assert model.state_space == Product((Interval("mode_1"), Interval("mode_2")))
    nodes = model.state_space.nodes(9)
    assert nodes.shape == (9, 2)
    values = jax.vmap(lambda tau: model.fourier(model.init(None), jnp.ones((4, 3)) / 50, tau))(
        nodes
    )
    assert values.shape == (9, 4)
    lattice = model.state_space.lattice(jnp.array([0.2, 0.9]), 16)
    np.testing.assert_allclose(lattice[0], [0.2, 0.9], atol=1e-6)


def test_real_structure(shared_data):
    path = next(shared_data.rglob("adk_open.pdb"))
    model = elastic_network(path, 1, 15.0, 5.0)
    assert len(model.weights) == 214
    # most of the opening lies along the softest modes (Tama et al. 2002)
    closed = read_residues(path.with_name("adk_closed.pdb")).positions_angstrom
    rest = read_residues(path).positions_angstrom
    a, b = rest - rest.mean(0), closed - closed.mean(0)
    u, _, vt = np.linalg.svd(b.T @ a)
    turn = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    change = (b @ turn - a).reshape(-1)
    _, modes = anisotropic_modes(rest, 4, 15.0)
    overlap = modes.reshape(4, -1) @ change / np.linalg.norm(change) / np.sqrt(len(rest))
    assert np.sum(overlap**2) > 0.6


@pytest.mark.parametrize(
    ("positions", "cutoff", "message"),
    [
        (np.zeros((0, 3)), 18.0, "coordinates"),
        (helix(2), 18.0, "no 4 modes"),
        (np.concatenate([helix(12), helix(12) + 500]), 18.0, "raise the cutoff"),
        (helix(12), 1.0, "raise the cutoff"),
    ],
)
def test_structures_without_modes_are_named(tmp_path, positions, cutoff, message):
    path = write_pdb(tmp_path / "bad.pdb", positions)
    with pytest.raises(InputError, match=r"bad\.pdb.*" + message):
        elastic_network(path, 1, cutoff)


def test_ions_are_no_residues(tmp_path):
    path = write_pdb(tmp_path / "a.pdb", helix(12))
    ion = "HETATM  900 CA    CA A 900       1.000   2.000   3.000  1.00  0.00          CA\n"
    path.write_text(path.read_text().replace("END", ion + "END"))
    assert len(read_residues(path).electrons) == 12


def test_single_precision_positions_have_the_same_modes():
    """Rounding of a Hessian in single precision would hide the six rigid motions."""
    rest = helix()
    wanted, modes = anisotropic_modes(rest, 3, 18.0)
    values, found = anisotropic_modes(rest.astype(np.float32), 3, 18.0)
    np.testing.assert_allclose(values, wanted, rtol=1e-4)
    np.testing.assert_allclose(np.abs(found), np.abs(modes), atol=1e-3)
