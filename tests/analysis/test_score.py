"""A run that IS the truth, in another gauge: rotated, shifted, of the other hand, tau warped."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.analysis.gauge import Gauge, apply_to_poses
from hypermol.analysis.run import load_run
from hypermol.analysis.score import score_run
from hypermol.analysis.truth import load_truth, match_particles
from hypermol.io.errors import InputError
from hypermol.io.star import write_particles_star
from runs import PIXEL_SIZE, FakeRun, particle_metadata, random_rotations, write_run

from .blobs import blob_points, blob_volume

BOX, N, FRAMES, DRAWS = 32, 300, 40, 40
STATE_SD, POSE_SD, SHIFT_SD = 0.03, 0.02, 0.4


def truth_states(rng: np.random.Generator, space: str) -> np.ndarray:
    if space == "circle":
        return rng.random(N)
    low, high = rng.normal(0.25, 0.07, 200), rng.normal(0.75, 0.07, 100)
    return np.clip(np.concatenate([low, high]), 0.01, 0.99)


def parts(gauge: Gauge, space: str) -> list[np.ndarray]:
    """Volumes A, B (, C) of the molecule A + g(t) B + h(t) C seen through the inverse gauge."""
    centres, masses = blob_points(n=14, radius_px=6.0)
    moved = (centres - gauge.shift_angstrom / PIXEL_SIZE) @ gauge.matrix
    groups = [np.arange(14), [0, 1, 2, 3], [4, 5, 6]][: 3 if space == "circle" else 2]
    return [blob_volume(moved[g], masses[g], BOX) for g in groups]


def write_truth(folder: Path, poses: tuple, states: np.ndarray, space: str) -> Path:
    """The flat layout: bins of the state, maps without tau."""
    folder.mkdir(parents=True)
    rotations, shifts = poses
    write_particles_star(folder / "truth.star", particle_metadata(folder, rotations, shifts, BOX))
    frame = np.minimum((states * FRAMES).astype(int), FRAMES - 1)
    np.savez(folder / "truth.npz", t=states, frame=frame, contrast=np.ones(N), scale=np.full(N, 2))
    middle = (np.arange(FRAMES) + 0.5) / FRAMES
    volumes = parts(Gauge(), space)
    if space == "circle":
        terms = [np.ones(FRAMES), 0.8 * np.cos(2 * np.pi * middle), np.sin(2 * np.pi * middle)]
    else:
        terms = [np.ones(FRAMES), 0.9 * (2 * middle - 1)]
    maps = np.einsum("qf,qzyx->fzyx", terms, volumes)
    np.savez(folder / "truth_maps.npz", maps=maps.astype(np.float16), apix=PIXEL_SIZE)
    return folder


def fake_run(gauge: Gauge, truth: tuple, space: str, rng: np.random.Generator) -> FakeRun:
    """Posterior draws about a centre that is itself one draw away from the truth."""
    rotations, shifts, states = truth
    own_rotations, own_shifts = apply_to_poses(gauge.inverse(), rotations, shifts)
    shape = (2, DRAWS)
    centre = Rotation.from_rotvec(rng.normal(0, POSE_SD, (N, 3))).as_matrix() @ own_rotations
    turns = Rotation.from_rotvec(rng.normal(0, POSE_SD, (2 * DRAWS * N, 3))).as_matrix()
    turns = turns.reshape(*shape, N, 3, 3)
    middle = own_shifts / PIXEL_SIZE + rng.normal(0, SHIFT_SD, (N, 2))
    maps = parts(gauge, space)
    if space == "circle":
        own = 0.35 - states + rng.normal(0, STATE_SD, N)
        drawn = np.mod(own + rng.normal(0, STATE_SD, (*shape, N)), 1.0)
        # in the own state u = 0.35 - t: cos and sin of t from cos and sin of u
        c, s = np.cos(2 * np.pi * 0.35), np.sin(2 * np.pi * 0.35)
        b, d = 0.8 * maps[1] / np.sqrt(2), maps[2] / np.sqrt(2)
        terms = [maps[0], c * b + s * d, s * b - c * d]
    else:
        noisy = np.clip(states + rng.normal(0, STATE_SD, N), 0, 1)
        drawn = np.clip(noisy + rng.normal(0, STATE_SD, (*shape, N)), 0, 1)
        drawn = np.arccos(0.999 * (2 * drawn - 1)) / np.pi  # warped and reversed
        terms = [maps[0], 0.9 * maps[1] / np.sqrt(2)]
    run = FakeRun(
        maps=np.broadcast_to(np.stack(terms), (*shape, len(terms), BOX, BOX, BOX)),
        rotations=turns @ centre,
        shift_px=middle + rng.normal(0, SHIFT_SD, (*shape, N, 2)),
        state=drawn[..., None],
        state_space=space,
        box=BOX,
    )
    if space == "interval":
        counts = np.stack([np.histogram(s, 20, (0, 1))[0] for s in drawn.reshape(-1, N)])
        draws = np.stack([rng.dirichlet(row + 1e-3) for row in counts])
        run.occupancy = draws.reshape(*shape, 20)
    return run


@pytest.fixture(scope="module", params=["interval", "circle"])
def scored(request, tmp_path_factory) -> dict:
    space = request.param
    rng = np.random.default_rng(4)
    folder = tmp_path_factory.mktemp(space)
    poses = random_rotations((N,), rng), rng.normal(0, 3, (N, 2))
    states = truth_states(rng, space)
    write_truth(folder / "input", poses, states, space)
    turn = Rotation.from_rotvec([0.3, -0.2, 0.4]).as_matrix()
    gauge = Gauge(turn, np.array([1.5, -2.0, 1.0]), flipped=True)
    fake = fake_run(gauge, (*poses, states), space, rng)
    path = write_run(folder / "run", fake)
    result = score_run(load_run(path), load_truth(folder / "input"), n_images=20)
    result["space"] = space
    return result


def test_gauge_is_found(scored):
    gauge = scored["gauge"]["volumes"]
    assert gauge["flipped"]
    turn = np.degrees(Rotation.from_rotvec([0.3, -0.2, 0.4]).magnitude())
    assert gauge["angle_deg"] == pytest.approx(turn, abs=0.1)
    assert np.allclose(gauge["shift_angstrom"], [1.5, -2.0, 1.0], atol=0.05)
    assert gauge["score"] > 0.999


def test_poses(scored):
    poses = scored["poses"]
    expected = np.degrees(POSE_SD) * 1.54  # median of a chi with 3 degrees of freedom
    assert poses["rotation_error_deg_median"] == pytest.approx(expected, rel=0.15)
    assert poses["shift_error_px_median"] == pytest.approx(SHIFT_SD * 1.18, rel=0.15)


def test_fsc_area_is_close_to_perfect(scored):
    fsc = scored["fsc"]
    assert fsc["perfect_area"] == 15 / 32
    # in the last shells blobs of 1.8 px have less signal than float16 maps have rounding
    assert min(fsc["curve_masked"][:10]) > 0.98 and fsc["n_images"] == 20
    assert fsc["area_masked"] > 0.85 * fsc["perfect_area"]


def test_states(scored):
    state = scored["state"]
    if scored["space"] == "circle":
        assert state["circular_rank_correlation"] > 0.95 and state["direction"] == -1
    else:
        assert state["rank_correlation"] > 0.96 and state["direction"] == -1
        assert state["linear_correlation_mapped"] > 0.98
    assert state["error_median_mapped"] < 1.3 * 0.675 * STATE_SD


def test_coverage_is_nominal(scored):
    coverage = scored["coverage"]
    for name in ("rotation", "shift", "state"):
        assert coverage[name]["50"] == pytest.approx(0.5, abs=0.09), name
        assert coverage[name]["90"] == pytest.approx(0.9, abs=0.06), name
    assert ("state_by_distribution" in coverage) == (scored["space"] == "interval")
    assert scored["coverage_aligned"] is None


def test_particles_that_a_search_lost_do_not_count_as_intervals(tmp_path):
    """Of those that it placed, intervals hold as they say; of all, as many fewer as are lost."""
    rng = np.random.default_rng(6)
    poses = random_rotations((N,), rng), rng.normal(0, 3, (N, 2))
    states = truth_states(rng, "interval")
    write_truth(tmp_path / "input", poses, states, "interval")
    fake = fake_run(Gauge(np.eye(3), np.zeros(3)), (*poses, states), "interval", rng)
    lost = np.arange(N) % 4 == 0
    fake.rotations[:, :, lost] = fake.rotations[:, :, lost] @ random_rotations((lost.sum(),), rng)
    fake.poses = "search"
    path = write_run(tmp_path / "run", fake)
    result = score_run(load_run(path), load_truth(tmp_path / "input"), n_images=4)
    aligned, everyone = result["coverage_aligned"], result["coverage"]
    assert aligned["share"] == pytest.approx(0.75, abs=0.02)
    for name in ("rotation", "shift", "state"):
        assert aligned[name]["90"] == pytest.approx(0.9, abs=0.06), name
    assert everyone["rotation"]["90"] < 0.75


def test_populations(scored):
    populations = scored["populations"]
    if scored["space"] == "circle":
        assert populations is None
        return
    assert populations["true_fraction"] == pytest.approx(2 / 3, abs=0.01)
    for way in ("particles", "own_valley", "model"):
        assert populations[way]["mean"] == pytest.approx(2 / 3, abs=0.04), way
    assert populations["model"]["truth_inside_90"]


def test_exact_run_is_perfect(tmp_path):
    """No posterior width at all: nothing but the gauge is left, and it goes."""
    rng = np.random.default_rng(8)
    poses = random_rotations((N,), rng), rng.normal(0, 3, (N, 2))
    states = truth_states(rng, "interval")
    write_truth(tmp_path / "input", poses, states, "interval")
    turn = Rotation.from_rotvec([-0.1, 0.3, 0.2]).as_matrix()
    gauge = Gauge(turn, np.array([0.5, 1.0, -1.0]), flipped=True)
    own = apply_to_poses(gauge.inverse(), *poses)
    maps = parts(gauge, "interval")
    run = FakeRun(
        maps=np.stack([maps[0], 0.9 * maps[1] / np.sqrt(2)])[None, None],
        rotations=own[0][None, None],
        shift_px=own[1][None, None] / PIXEL_SIZE,
        state=(np.arccos(2 * states - 1) / np.pi)[None, None, :, None],
        box=BOX,
    )
    opened = load_run(write_run(tmp_path / "run", run))
    result = score_run(opened, load_truth(tmp_path / "input"), n_images=20)
    assert result["poses"]["rotation_error_deg_median"] < 0.1
    assert result["poses"]["shift_error_px_median"] < 0.01
    assert result["state"]["rank_correlation"] == pytest.approx(1.0, abs=1e-9)
    assert result["state"]["error_median_mapped"] < 0.01
    assert min(result["fsc"]["curve_masked"][:10]) > 0.99


def test_particles_are_matched_by_name(tmp_path):
    rng = np.random.default_rng(1)
    poses = random_rotations((N,), rng), rng.normal(0, 3, (N, 2))
    truth = load_truth(
        write_truth(tmp_path / "a", poses, truth_states(rng, "interval"), "interval")
    )
    rows = np.array([7, 3, 200])
    matched = match_particles(truth, truth.metadata.take(rows))
    assert np.array_equal(matched.states, truth.states[rows])
    with pytest.raises(InputError, match=r"image 1@particles.mrcs of the run is not in"):
        match_particles(truth.take(rows), truth.metadata)


def test_stacks_of_one_name_are_told_by_their_folders(tmp_path):
    """Two micrographs' stacks share a name: the place of the row must not decide."""
    rng = np.random.default_rng(1)
    poses = random_rotations((N,), rng), rng.normal(0, 3, (N, 2))
    folder = write_truth(tmp_path / "a", poses, truth_states(rng, "interval"), "interval")
    truth = load_truth(folder)
    half = np.arange(N) < N // 2
    paths = np.where(half, "/data/J1/a.mrcs", "/data/J2/a.mrcs")
    metadata = replace(truth.metadata, stack_paths=paths, stack_indices=np.arange(N) % (N // 2))
    truth = replace(truth, metadata=metadata)
    rows = rng.permutation(N)
    matched = match_particles(truth, metadata.take(rows))
    assert np.array_equal(matched.states, truth.states[rows])
    moved = np.char.replace(paths, "/data", "/new")
    with pytest.raises(InputError, match=r"several stacks called a\.mrcs"):
        match_particles(truth, replace(metadata, stack_paths=moved))


def test_truth_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"has no truth\.star"):
        load_truth(tmp_path)
    rng = np.random.default_rng(1)
    poses = random_rotations((N,), rng), rng.normal(0, 3, (N, 2))
    folder = write_truth(tmp_path / "a", poses, truth_states(rng, "interval"), "interval")
    np.savez(folder / "truth.npz", t=np.zeros(5))
    with pytest.raises(InputError, match="t has 5 entries for the 300 particles"):
        load_truth(folder)
    (folder / "truth_maps.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"truth_maps\.npz cannot be read"):
        load_truth(folder)


def test_shared_truth_is_read(shared_data):
    truth = load_truth(shared_data / "adk")
    assert len(truth) == 4000 and truth.maps.shape == (98, 64, 64, 64)
    assert np.abs(truth.states[:, 0] - truth.map_states[truth.frame, 0]).max() <= 0.5 / 98 + 1e-6
