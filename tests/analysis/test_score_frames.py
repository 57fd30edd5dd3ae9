"""A run that is the truth, but for a turn that depends on the state."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.analysis.gauge import Gauge, align_poses, apply_to_poses, apply_to_volume, pose_errors
from hypermol.analysis.score_frames import score_frames, state_frames
from hypermol.analysis.truth import Truth
from runs import particle_metadata, random_rotations

from .blobs import blob_points, blob_volume

BOX, N, FRAMES, PIXEL = 24, 600, 8, 2.0


def truth_of(folder: Path, rng: np.random.Generator) -> Truth:
    states = rng.random(N)
    frame = np.minimum((FRAMES * states).astype(int), FRAMES - 1)
    centres, masses = blob_points(n=10, radius_px=4.0)
    maps = []
    for place in range(FRAMES):
        bent = centres.copy()
        bent[:3, 0] += 0.4 * place
        maps.append(blob_volume(bent, masses, BOX))
    rotations, shifts = random_rotations((N,), rng), rng.normal(0.0, 2.0, (N, 2))
    metadata = particle_metadata(folder, rotations, shifts, BOX)
    middle = (np.arange(FRAMES) + 0.5)[:, None] / FRAMES
    maps = np.stack(maps).astype(np.float32)
    return Truth(
        folder, metadata, rotations, shifts, states[:, None], frame, np.ones(N), maps, middle,
        PIXEL, "interval", (),
    )  # fmt: skip


def gauge_at(state: float, flipped: bool) -> Gauge:
    """A frame that turns by up to 24 degrees along the state."""
    turn = Rotation.from_rotvec([0.5, 0.2 + 0.4 * state, -0.3]).as_matrix()
    return Gauge(turn, np.array([1.0, -0.5, 2.0 * state]), flipped)


@pytest.mark.parametrize("flipped", [False, True])
def test_frames_that_depend_on_the_state_are_taken_out(tmp_path: Path, flipped: bool):
    truth = truth_of(tmp_path, np.random.default_rng(0))
    own = [
        apply_to_poses(gauge_at(state, flipped).inverse(), rotation[None], shift[None])
        for state, rotation, shift in zip(
            truth.states[:, 0], truth.rotations, truth.shifts_angstrom, strict=True
        )
    ]
    estimated = tuple(np.concatenate([poses[i] for poses in own]) for i in (0, 1))
    frames = state_frames(estimated, truth)
    assert np.bincount(frames.which).tolist() == [N // 12] * 12
    assert all(gauge.flipped == flipped for gauge in frames.gauges)

    def volume(image: int) -> np.ndarray:
        back = gauge_at(truth.states[image, 0], flipped).inverse()
        return apply_to_volume(back, truth.maps[truth.frame[image]], PIXEL)

    images = np.arange(0, N, 60)
    found = score_frames(frames, estimated, truth, images, SimpleNamespace(volume=volume), PIXEL)
    perfect = (BOX // 2 - 1) / BOX
    assert found["rotation_error_deg_median"] < 1.0 and found["aligned_within_10_deg"] == 1.0
    assert found["area_unmasked"] > 0.85 * perfect
    assert 18.0 < found["span_deg"] < 26.0
    one = align_poses(estimated, (truth.rotations, truth.shifts_angstrom))
    plain, _ = pose_errors(one, estimated, (truth.rotations, truth.shifts_angstrom))
    assert np.median(plain) > 4.0
