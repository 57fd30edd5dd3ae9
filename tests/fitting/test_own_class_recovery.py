"""Molecules known only through `fourier`, fitted to their own images: states by gradients alone.

Rank correlations of the states, measured: elastic network 0.930 (0.940 is what its true theta tells
at the input's poses, 0.963 at the true ones), coordinate network 0.991.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hypermol.analysis.truth import load_truth
from hypermol.data.source import ParticleSource
from hypermol.fitting.fit import fit
from hypermol.io.store import RunDirectory
from hypermol.molecule.gallery import pretzel
from hypermol.recipe.options import FitOptions
from hypermol.recipe.own_class import load_model
from hypermol.simulation import MoleculeSource, Noise, Poses, Settings, simulate, write_dataset
from hypermol.space.rotation import angle_between, matrix_from_quaternion

BOX, KMAX, SNR = 24, 8, 0.3

MODULE = '''
import numpy as np

from hypermol.molecule.coordinate_network import CoordinateNetwork
from hypermol.molecule.elastic_network import ElasticNetwork, anisotropic_modes
from hypermol.molecule.moving_gaussians import random_gaussians
from hypermol.molecule.state_basis import Cosine
from hypermol.space.state_space import Interval


def elastic():
    """Two lobes joined by a hinge."""
    lobe = np.random.default_rng(1).normal(size=(18, 3)) * [7.0, 9.0, 7.0]
    other = lobe[::-1] * [1, 1, -1] + np.array([14, -16, 3])
    rest = np.concatenate([lobe + np.array([0, 16, 0]), other])
    rest = rest - rest.mean(axis=0)
    modes = anisotropic_modes(rest, 3, 22.0)[1]
    weights = np.full(len(rest), 38.0, np.float32)
    return ElasticNetwork(
        Interval("mode_1"), rest.astype(np.float32), modes.astype(np.float32), weights, 6.0, 4.0
    )


def network():
    return CoordinateNetwork(
        radius_angstrom=36.0, spacing_angstrom=18.0, travel_angstrom=20.0, hidden=(16,), n_waves=4
    )


def blobs():
    """Sixteen that know nothing of the 27 they are fitted to, nor of curling links."""
    return random_gaussians(Interval("arm"), Cosine(3), 16, 36.0, 5.0)
'''


@dataclass(frozen=True)
class Case:
    """A molecule to fit, what its images are of, and how."""

    model: str
    n: int
    pixel_size_angstrom: float
    pose_error_deg: float
    options: dict[str, Any] = field(default_factory=dict)


# the widths of poses settle slowly, and eight sweeps in a row are too few to average poses over
ELASTIC = Case("elastic", 200, 4.0, 2.0, {"thin": 4})
NETWORK = Case("network", 400, 6.0, 0.0, {"poses": "fixed"})
BLOBS = Case("blobs", 300, 4.0, 0.0, {"poses": "fixed", "start_steps": 1200})


def load(folder: Path, name: str) -> Any:
    """A molecule of the module that a recipe would name."""
    (folder / "own_recovered.py").write_text(MODULE)
    return load_model(f"own_recovered:{name}", {}, folder)


def true_source(folder: Path, case: Case) -> MoleculeSource:
    """What the images are of."""
    if case.model == "blobs":
        return MoleculeSource(pretzel(40.0, arms=1))
    molecule = load(folder, case.model)
    if case.model == "elastic":
        return MoleculeSource(molecule, molecule.init(None) | {"log_amplitude": jnp.array([0.25])})
    # a truth of the prior's full spread: 10 Angstrom rms from end to end
    return MoleculeSource(molecule, replace(molecule, init_spread=1.0).init(jax.random.key(7)))


def recover(folder: Path, case: Case, seed: int = 0, **more: Any) -> RunDirectory:
    """Simulate, and fit through the one public door."""
    settings = Settings(
        n=case.n,
        box=BOX,
        pixel_size_angstrom=case.pixel_size_angstrom,
        seed=seed,
        poses=Poses(
            shift_sd_angstrom=case.pixel_size_angstrom,
            rotation_error_deg=case.pose_error_deg / np.sqrt(3.0),
            shift_error_px=0.3 * (case.pose_error_deg > 0.0),
        ),
        noise=Noise(SNR),
    )
    write_dataset(folder / "data", simulate(true_source(folder, case), settings))
    load(folder, case.model)
    options = FitOptions(
        type=f"own_recovered:{case.model}",
        folder=str(folder),
        resolution_angstrom=BOX * case.pixel_size_angstrom / KMAX,
        chains=1,
        burn_in=8,
        samples=8,
        seed=seed + 1,
        **(case.options | more),
    )
    return fit(ParticleSource(folder / "data" / "particles.star"), folder / "run", options)


def kept(run: RunDirectory, name: str) -> np.ndarray:
    """One array of all samples, [S, ...]."""
    return np.stack([sample[name] for sample in run.samples(0)])


def state_correlation(folder: Path, run: RunDirectory) -> float:
    """|rank correlation| of the posterior mean state with the truth."""
    truth = load_truth(folder / "data").states[:, 0]
    return abs(float(stats.spearmanr(kept(run, "state")[..., 0].mean(0), truth).statistic))


def accepted(run: RunDirectory) -> np.ndarray:
    """Mean acceptance of the sampling's particle steps and of theta's."""
    lines = [line for line in run.read_trace() if line["kept"]]
    return np.mean([[x["accepted_particles"], x["accepted_molecule"]] for x in lines], axis=0)


def pose_errors(folder: Path, run: RunDirectory) -> tuple[float, float]:
    """Rms angles in degrees of the input's and of the posterior mean's rotations to the truth."""
    samples = kept(run, "quaternion")
    signs = np.sign(np.sum(samples * samples[:1], axis=-1, keepdims=True))
    mean = np.asarray(matrix_from_quaternion(jnp.asarray(np.mean(signs * samples, axis=0))))
    given = ParticleSource(folder / "data" / "particles.star").load().rotations
    wanted = load_truth(folder / "data").rotations
    first, last = (np.sqrt(np.mean(angle_between(r, wanted) ** 2)) for r in (given, mean))
    return float(first), float(last)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["hmc", "mala"])
def test_elastic_network_recovers_states_poses_and_amplitude(tmp_path: Path, kernel: str) -> None:
    run = recover(tmp_path, ELASTIC, theta=kernel)
    found, errors, steps = (
        state_correlation(tmp_path, run),
        pose_errors(tmp_path, run),
        accepted(run),
    )
    amplitude = kept(run, "motion.own.log_amplitude")
    print(found, amplitude.mean(), errors, steps)
    assert found >= 0.9
    assert abs(amplitude.mean() - 0.25) < 0.1
    assert 0.3 < steps[0] < 0.9
    assert steps[1] > 0.2
    assert errors[1] < 1.1 * errors[0]


@pytest.mark.slow
def test_coordinate_network_recovers_states_from_nothing(tmp_path: Path) -> None:
    run = recover(tmp_path, NETWORK)
    found = state_correlation(tmp_path, run)
    print(found, accepted(run))
    assert found >= 0.9


@pytest.mark.slow
def test_moving_gaussians_recover_the_pretzels_arm(tmp_path: Path) -> None:
    run = recover(tmp_path, BLOBS)
    found = state_correlation(tmp_path, run)
    print(found, accepted(run))
    assert found >= 0.9
