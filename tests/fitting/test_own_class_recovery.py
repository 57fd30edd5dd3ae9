"""Black boxes from their own images: states recovered by gradients alone."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypermol.fitting.blackbox_sampler import Schedule, fit_black_box
from hypermol.fitting.blackbox_start import Start
from hypermol.posterior.black_box import Parameters, Problem
from scipy import stats

from hypermol.data.latents import Consensus, Latents
from hypermol.imaging.blocks import from_blocks, image_blocks, to_blocks
from hypermol.molecule.coordinate_network import CoordinateNetwork
from hypermol.molecule.elastic_network import ElasticNetwork, anisotropic_modes
from hypermol.molecule.gallery import pretzel
from hypermol.molecule.moving_gaussians import random_gaussians
from hypermol.molecule.state_basis import Cosine
from hypermol.space.fourier import half_plane
from hypermol.space.rotation import (
    angle_between,
    matrix_from_quaternion,
    quaternion_from_vector,
    quaternion_multiply,
    random_quaternions,
)
from hypermol.space.state_space import Interval

BOX, KMAX, SNR = 24, 8, 0.3


def simulated(molecule, theta, n: int, pixel: float, pose_error_deg: float, seed: int = 0):
    """Images of n particles, white noise over the whole box, poses off by `pose_error_deg`."""
    keys = jax.random.split(jax.random.key(seed), 6)
    plane = half_plane(BOX, KMAX)
    problem = Problem(molecule, plane, pixel)
    state = molecule.state_space.sample_base(keys[0], (n,))
    truth = Latents(
        random_quaternions(keys[1], n),
        jax.random.normal(keys[2], (n, 2)),
        1.0 + 0.1 * jax.random.normal(keys[3], (n,)),
        state,
    )
    radius2 = np.sum(plane.frequencies**2, axis=-1) / KMAX**2
    defocus = np.random.default_rng(seed).uniform(1.0, 3.0, (n, 1))
    ctf = np.sin(0.15 + defocus * radius2).astype(np.float32)
    image = jax.jit(
        lambda lat, c: jax.lax.map(
            lambda item: problem.image(Parameters(theta, jnp.zeros(())), *item), (lat, c)
        )
    )
    clean = np.asarray(image(truth, jnp.asarray(ctf)))
    # full-plane signal over the box's pixels, as SNR is defined
    signal = 2.0 * np.mean(np.sum(np.abs(clean) ** 2, axis=1)) / BOX**2
    noise = np.sqrt(0.5 * signal / SNR) * np.asarray(jax.random.normal(keys[4], (2, *clean.shape)))
    scale = 1.0 / np.sqrt(signal / SNR)
    pixels = ((clean + noise[0] + 1j * noise[1]) * scale).astype(np.complex64)
    off = np.deg2rad(pose_error_deg) / np.sqrt(3) * jax.random.normal(keys[5], (n, 3))
    turned = quaternion_multiply(quaternion_from_vector(off), truth.quaternion)
    shift = truth.shift_px + 0.3 * (pose_error_deg > 0) * jax.random.normal(keys[5], (n, 2))
    block = 100
    images = image_blocks(pixels, ctf, block)
    consensus = Consensus(to_blocks(np.asarray(turned), block), to_blocks(np.asarray(shift), block))
    return problem, images, consensus, truth


def elastic() -> ElasticNetwork:
    """Two lobes joined by a hinge."""
    rng = np.random.default_rng(1)
    lobe = rng.normal(size=(18, 3)) * np.array([7.0, 9.0, 7.0])
    rest = np.concatenate(
        [lobe + np.array([0, 16, 0]), lobe[::-1] * [1, 1, -1] + np.array([14, -16, 3])]
    )
    rest = rest - rest.mean(axis=0)
    _, modes = anisotropic_modes(rest, 3, 22.0)
    weights = np.full(len(rest), 38.0, np.float32)
    return ElasticNetwork(
        Interval("mode_1"), rest.astype(np.float32), modes.astype(np.float32), weights, 6.0, 4.0
    )


def correlation(chain, truth, n: int) -> float:
    """|rank correlation| of the posterior mean state with the truth."""
    states = np.stack([from_blocks(s, n)[:, 0] for s in np.asarray(chain.latents.state)])
    return abs(float(stats.spearmanr(states.mean(0), np.asarray(truth.state)[:, 0]).statistic))


def pose_errors(chain, consensus, truth, n: int) -> list[float]:
    """Rms angles in degrees of the input's and of the posterior mean's rotations to the truth."""
    samples = np.stack([from_blocks(q, n) for q in np.asarray(chain.latents.quaternion)])
    signs = np.sign(np.sum(samples * samples[:1], axis=-1, keepdims=True))
    mean = np.mean(signs * samples, axis=0)
    wanted = np.asarray(matrix_from_quaternion(truth.quaternion))
    return [
        float(np.sqrt(np.mean(angle_between(np.asarray(matrix_from_quaternion(q)), wanted) ** 2)))
        for q in (from_blocks(consensus.quaternion, n), jnp.asarray(mean))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["hmc", "mala"])
def test_elastic_network_recovers_states_poses_and_amplitude(kernel):
    n = 200
    molecule = elastic()
    theta = molecule.init(None) | {"log_amplitude": jnp.array([0.25])}
    problem, images, consensus, truth = simulated(molecule, theta, n, 4.0, 2.0)
    schedule = Schedule(Start(32, 0.07), burn_in=8, samples=8, latent_steps=6, theta_kernel=kernel)
    chain = fit_black_box(jax.random.key(1), problem, images, consensus, schedule)
    found = correlation(chain, truth, n)
    amplitude = np.asarray(chain.parameters.theta["log_amplitude"])
    errors = pose_errors(chain, consensus, truth, n)
    print(found, amplitude.mean(), errors, chain.acceptance.mean(0))
    assert found >= 0.9
    assert abs(amplitude.mean() - 0.25) < 0.1
    assert 0.3 < chain.acceptance[:, 0].mean() < 0.9
    assert chain.acceptance[:, 1].mean() > 0.2
    assert errors[1] < 1.1 * errors[0]


@pytest.mark.slow
def test_coordinate_network_recovers_states_from_nothing():
    n = 400
    molecule = CoordinateNetwork(
        radius_angstrom=36.0, spacing_angstrom=18.0, travel_angstrom=20.0, hidden=(16,), n_waves=4
    )
    # a truth of the prior's full spread: 10 Angstrom rms from end to end
    theta = replace(molecule, init_spread=1.0).init(jax.random.key(7))
    problem, images, consensus, truth = simulated(molecule, theta, n, 6.0, 0.0)
    schedule = Schedule(burn_in=8, samples=8, move_poses=False)
    chain = fit_black_box(jax.random.key(2), problem, images, consensus, schedule)
    found = correlation(chain, truth, n)
    print(found, chain.acceptance.mean(0))
    assert found >= 0.9


@pytest.mark.slow
def test_moving_gaussians_recover_the_pretzels_arm():
    """Sixteen blobs that know nothing of the 27 they are fitted to, nor of curling links."""
    n = 300
    source = pretzel(40.0, arms=1)
    theta = source.init(jax.random.key(0))
    problem, images, consensus, truth = simulated(source, theta, n, 4.0, 0.0)
    blobs = random_gaussians(Interval("arm"), Cosine(3), 16, 36.0, 5.0)
    schedule = Schedule(Start(1200, 0.06), burn_in=8, samples=8, move_poses=False)
    problem = replace(problem, molecule=blobs)
    chain = fit_black_box(jax.random.key(2), problem, images, consensus, schedule)
    found = correlation(chain, truth, n)
    print(found, chain.acceptance.mean(0))
    assert found >= 0.9
