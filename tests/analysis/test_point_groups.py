"""Axes of a map of known symmetry are found wherever it stands."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from analysis.blobs import blob_volume
from hypermol.analysis.gauge import Gauge, apply_to_volume
from hypermol.analysis.point_groups import find_point_groups, symmetrised
from hypermol.molecule.symmetry import symmetry_operators

BOX, VOXEL = 28, 3.0


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def symmetric_map(group: str, seed: int) -> np.ndarray:
    """Three balls and their copies, turned and moved by a voxel or so."""
    rng = np.random.default_rng(seed)
    centres, masses = rng.uniform(-6.5, 6.5, (3, 3)), rng.uniform(0.5, 1.5, 3)
    every = np.concatenate([centres @ np.asarray(s).T for s in symmetry_operators(group)])
    volume = blob_volume(every, np.tile(masses, len(every) // 3), BOX)
    turn = Rotation.from_rotvec(rng.normal(size=3)).as_matrix()
    return apply_to_volume(Gauge(turn, VOXEL * rng.uniform(-1.5, 1.5, 3)), volume, VOXEL)


SLOWER = [pytest.param(group, marks=pytest.mark.slow) for group in ("C5", "D2")]


@pytest.mark.parametrize("group", ["C2", "D3", *SLOWER])
def test_axes_are_found(group: str):
    volume = symmetric_map(group, 1)
    noisy = volume + 0.03 * volume.max() * np.random.default_rng(2).normal(size=volume.shape)
    found = find_point_groups(noisy, VOXEL, (int(group[1]),), group[0])
    assert [one.name for one in found] == [group]
    assert found[0].agreement > 0.7
    there = apply_to_volume(found[0].frame, volume, VOXEL)
    for operator in symmetry_operators(group):
        copy = apply_to_volume(Gauge(np.asarray(operator)), there, VOXEL)
        assert correlation(there, copy) > 0.97
    mean = symmetrised(found[0], noisy, VOXEL)
    assert correlation(mean, volume) > correlation(noisy, volume)
    assert correlation(mean, volume) > 0.95


def test_a_group_that_is_not_there_agrees_less():
    rival, found = find_point_groups(symmetric_map("C3", 5), VOXEL, (2, 3), "C")
    assert found.name == "C3" and found.agreement > max(0.85, rival.agreement + 0.05)
