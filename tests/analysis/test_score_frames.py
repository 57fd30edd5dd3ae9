"""A run that is the truth, but for a turn that depends on the state."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.analysis.gauge import Gauge, align_poses, apply_to_poses, pose_errors
from hypermol.analysis.knobs import Knob
from hypermol.analysis.score_frames import Poses, score_frames, state_frames
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


def seen_in(truth: Truth, gauge_of: Callable[[np.ndarray], Gauge]) -> Poses:
    """The true poses, each in its state's own frame."""
    own = [
        apply_to_poses(gauge_of(states).inverse(), rotation[None], shift[None])
        for states, rotation, shift in zip(
            truth.states, truth.rotations, truth.shifts_angstrom, strict=True
        )
    ]
    return tuple(np.concatenate([poses[i] for poses in own]) for i in (0, 1))


@pytest.mark.parametrize("flipped", [False, True])
def test_frames_that_depend_on_the_state_are_taken_out(tmp_path: Path, flipped: bool):
    truth = truth_of(tmp_path, np.random.default_rng(0))
    estimated = seen_in(truth, lambda states: gauge_at(states[0], flipped))
    frames = state_frames(estimated, truth)
    assert frames.flipped == flipped and frames.degree > 0
    for image in range(0, N, 60):
        wanted, found = gauge_at(truth.states[image, 0], flipped), frames.gauge(image)
        np.testing.assert_allclose(found.rotation, wanted.rotation, atol=2e-3)
        np.testing.assert_allclose(found.shift_angstrom, wanted.shift_angstrom, atol=0.02)
    found = score_frames(frames, estimated, truth, PIXEL)
    assert found["rotation_error_deg_median"] < 0.05 and found["aligned_within_10_deg"] == 1.0
    assert found["shift_error_px_median"] < 0.01
    assert 18.0 < found["span_deg"] < 26.0
    one = align_poses(estimated, (truth.rotations, truth.shifts_angstrom))
    plain, _ = pose_errors(one, estimated, (truth.rotations, truth.shifts_angstrom))
    assert np.median(plain) > 4.0


def test_frames_of_several_knobs_and_of_misplaced_particles(tmp_path: Path):
    """An interval, a circle and two classes; a tenth of the particles lies anywhere."""
    rng = np.random.default_rng(1)
    plain = truth_of(tmp_path, rng)
    states = np.stack([plain.states[:, 0], rng.random(N), rng.integers(0, 2, N)], axis=1)
    knobs = tuple(
        Knob(kind, column, kind) for column, kind in enumerate(("interval", "circle", "classes"))
    )
    truth = replace(plain, states=states, knobs=knobs)

    def gauge_of(tau: np.ndarray) -> Gauge:
        wave = 0.2 * np.cos(2.0 * np.pi * tau[1])
        turn = Rotation.from_rotvec([0.3 * tau[0], wave, 0.25 * tau[2]]).as_matrix()
        return Gauge(turn, np.array([tau[0], 4.0 * wave, -tau[2]]))

    rotations, shifts = seen_in(truth, gauge_of)
    lost = np.arange(N) % 10 == 0
    rotations = np.where(lost[:, None, None], random_rotations((N,), rng), rotations)
    frames = state_frames((rotations, shifts), truth)
    angles, distances = frames.errors((rotations, shifts), (truth.rotations, truth.shifts_angstrom))
    assert np.degrees(angles[~lost]).max() < 40.0 and np.median(angles[~lost]) < 0.3
    assert np.median(distances[~lost]) < 0.05


def test_one_frame_for_all_is_found_where_states_have_none_of_their_own(tmp_path: Path):
    rng = np.random.default_rng(2)
    truth = truth_of(tmp_path, rng)
    noise = Rotation.from_rotvec(rng.normal(0.0, 0.05, (N, 3))).as_matrix()
    frames = state_frames((truth.rotations @ noise, truth.shifts_angstrom), truth)
    assert frames.degree <= 1 and frames.span_deg < 1.5
