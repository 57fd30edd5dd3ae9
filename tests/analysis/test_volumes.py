import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.analysis.chains import aligned_occupancy, aligned_states, state_gauges
from hypermol.analysis.fsc import fsc
from hypermol.analysis.gauge import Gauge, apply_to_volume
from hypermol.analysis.knobs import KnobGauge
from hypermol.analysis.particle_summary import summarise_particles
from hypermol.analysis.run import load_run
from hypermol.analysis.volumes import (
    ImageVolumes,
    half_set_fsc,
    mean_state_volumes,
    per_image_mean,
    sample_volumes,
    state_volumes,
)
from hypermol.io.errors import InputError
from hypermol.space.fourier import crop_or_pad_volume
from runs import FakeRun, random_run, write_run

from .blobs import blob_points, blob_volume


def cosines(tau: np.ndarray, terms: int = 3) -> np.ndarray:
    """[..., terms]: 1, sqrt(2) cos(pi q tau), by hand."""
    q = np.arange(terms)
    return np.where(q == 0, 1.0, np.sqrt(2)) * np.cos(np.pi * q * np.asarray(tau)[..., None])


def turned_round(fake: FakeRun, chain: int) -> None:
    """Run a chain's motion backwards: the same molecule and particles in the other gauge."""
    fake.state[chain] = 1.0 - fake.state[chain]
    fake.maps[chain, :, 1::2] *= -1.0
    fake.occupancy[chain] = fake.occupancy[chain][..., ::-1]


def test_mean_and_sd_volumes_by_hand(tmp_path):
    fake = random_run()
    run = load_run(write_run(tmp_path / "run", fake))
    states = np.array([[0.1], [0.5], [0.85]])
    got = state_volumes(run, states)
    maps = fake.maps.reshape(10, *fake.maps.shape[2:])
    by_hand = crop_or_pad_volume(np.einsum("tq,sqzyx->stzyx", cosines(states[:, 0]), maps), 16)
    assert got.n_samples == 10 and got.mean.shape == (3, 16, 16, 16)
    assert np.allclose(got.mean, by_hand.mean(axis=0), atol=1e-5)
    assert np.allclose(got.sd, by_hand.std(axis=0, ddof=1), atol=1e-5)
    assert np.allclose(mean_state_volumes(run, states), by_hand.mean(axis=0), atol=1e-5)
    assert np.allclose(sample_volumes(run, states, 7), by_hand[7], atol=1e-5)
    with pytest.raises(InputError, match="10 samples, 0 to 9"):
        sample_volumes(run, states, 10)


def test_states_are_done_in_groups_alike(tmp_path, monkeypatch):
    run = load_run(write_run(tmp_path / "run", random_run()))
    states = np.linspace(0, 1, 5)[:, None]
    whole = state_volumes(run, states)
    monkeypatch.setattr("hypermol.analysis.volumes._MAX_VOXELS", 2 * 16**3)
    assert np.array_equal(state_volumes(run, states).mean, whole.mean)


def test_per_image_mean_by_hand(tmp_path):
    fake = random_run()
    run = load_run(write_run(tmp_path / "run", fake))
    images = np.array([5, 2])
    got = per_image_mean(run, images)
    weights = cosines(fake.state[..., images, 0])
    by_hand = np.einsum("csmq,csqzyx->mzyx", weights, fake.maps) / 10
    assert np.allclose(got.grid, by_hand, atol=1e-5)
    assert np.allclose(got.volume(2), crop_or_pad_volume(by_hand[1], 16), atol=1e-5)


def test_volumes_are_moved_on_the_grid_of_the_model_as_on_the_images(tmp_path):
    """A smooth molecule on 12 voxels, whose images have 16."""
    run = load_run(write_run(tmp_path / "run", random_run()))
    centres, masses = blob_points(n=6, radius_px=0.6)
    grid = blob_volume(centres, masses, 12)[None].astype(np.float32)
    gauge = Gauge(Rotation.from_rotvec([0.4, -0.2, 0.9]).as_matrix(), np.array([0.4, -0.3, 0.5]))
    found = ImageVolumes(np.array([3]), grid, run).moved(3, gauge)
    expected = apply_to_volume(gauge, run.to_box(grid[0]), run.info["pixel_size_angstrom"])
    assert np.abs(found - expected).max() < 0.02 * expected.max()


@pytest.mark.parametrize("state_space", ["circle", "point"])
def test_other_state_spaces(tmp_path, state_space):
    fake = random_run(state_space=state_space)
    run = load_run(write_run(tmp_path / "run", fake))
    volumes = state_volumes(run, run.nodes(4))
    assert len(volumes.mean) == (4 if state_space == "circle" else 1)
    if state_space == "point":
        mean = crop_or_pad_volume(fake.maps[:, :, 0].mean(axis=(0, 1)), 16)
        assert np.allclose(volumes.mean[0], mean, atol=1e-5)
    assert per_image_mean(run, np.array([0, 3])).grid.shape == (2, 12, 12, 12)


def test_a_chain_that_runs_backwards_gives_the_same_volumes(tmp_path):
    plain = load_run(write_run(tmp_path / "a", random_run()))
    fake = random_run()
    turned_round(fake, 1)
    turned = load_run(write_run(tmp_path / "b", fake))
    assert state_gauges(turned)[1].knobs[0].direction == -1
    states = np.array([[0.1], [0.7]])
    first, second = state_volumes(plain, states), state_volumes(turned, states)
    assert np.allclose(first.mean, second.mean, atol=1e-5)
    assert np.allclose(first.sd, second.sd, atol=1e-5)
    assert np.allclose(aligned_states(plain), aligned_states(turned), atol=1e-6)
    images = np.arange(4)
    assert np.allclose(
        per_image_mean(plain, images).grid, per_image_mean(turned, images).grid, atol=1e-5
    )


def test_a_circle_that_begins_elsewhere(tmp_path):
    fake = random_run(state_space="circle", particles=400)
    fake.state[1] = np.mod(0.3 - fake.state[0], 1.0)
    run = load_run(write_run(tmp_path / "run", fake))
    gauge = state_gauges(run)[1].knobs[0]
    assert gauge.direction == -1 and gauge.offset % 1 == pytest.approx(0.3, abs=1e-3)
    assert np.allclose(aligned_states(run)[1], fake.state[0], atol=1e-3)


def test_gauges_invert_and_move_bins():
    gauge = KnobGauge(-1, 0.25, True)
    states = np.array([0.0, 0.2, 0.9])
    assert np.allclose(gauge.inverse(gauge.apply(states)), states)
    bins = np.arange(4.0)
    assert np.array_equal(KnobGauge(-1, 1.0).apply_bins(bins), bins[::-1])
    assert np.array_equal(KnobGauge(1, 0.25, True).apply_bins(bins), [3, 0, 1, 2])


def test_classes_numbered_in_another_order():
    gauge = KnobGauge(classes=(2, 0, 1))
    states = np.array([1 / 6, 0.5, 5 / 6])
    assert np.allclose(gauge.apply(states), [5 / 6, 1 / 6, 0.5])
    assert np.allclose(gauge.inverse(gauge.apply(states)), states)
    assert np.array_equal(gauge.apply_bins(np.array([10.0, 20.0, 30.0])), [20.0, 30.0, 10.0])


def test_a_chain_of_renumbered_classes_is_read_as_the_first(tmp_path):
    fake = random_run(state_space="discrete", particles=60)
    fake.state[1], fake.maps[1], fake.occupancy[1] = fake.state[0], fake.maps[0], fake.occupancy[0]
    plain = load_run(write_run(tmp_path / "a", fake))
    to = np.array([2, 0, 1])
    fake.state[1] = (to[np.floor(3 * fake.state[0]).astype(int)] + 0.5) / 3
    fake.maps[1][:, to], fake.occupancy[1][:, to] = fake.maps[0], fake.occupancy[0]
    turned = load_run(write_run(tmp_path / "b", fake))
    assert state_gauges(turned)[1].knobs[0].classes == (1, 2, 0)
    assert np.allclose(aligned_states(turned), aligned_states(plain))
    assert np.allclose(aligned_occupancy(turned), aligned_occupancy(plain))
    states = plain.nodes(3)
    first, second = state_volumes(plain, states), state_volumes(turned, states)
    assert np.allclose(first.mean, second.mean, atol=1e-5)
    summary = summarise_particles(turned)
    assert set(np.round(summary.state[:, 0], 4)) <= {0.1667, 0.5, 0.8333}
    assert summary.state_sd.min() >= 0.0 and summary.state_sd.max() < 0.7


def test_half_set_fsc(tmp_path):
    fake = random_run()
    run = load_run(write_run(tmp_path / "run", fake))
    got = half_set_fsc(run, np.array([[0.2], [0.6]]))
    weights = cosines(np.array([0.6]))[0]
    pair = [crop_or_pad_volume(np.tensordot(weights, half, axes=1), 16) for half in fake.halves]
    assert np.allclose(got.curves[1], fsc(*pair), atol=1e-5)
    fake.halves = None
    assert half_set_fsc(load_run(write_run(tmp_path / "none", fake)), np.array([[0.2]])) is None
