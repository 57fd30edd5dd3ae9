"""What samples are worth, against chains whose memory is known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hypermol.analysis.independence import worth
from hypermol.analysis.run import load_run
from runs import FakeRun, write_run

CHAINS, DRAWS, PARTICLES = 6, 5, 500


def drawn(shares: float, size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """[CHAINS, DRAWS, *size] of variance 1, of which each chain has a share to itself."""
    own = rng.standard_normal((CHAINS, 1, *size))
    return np.sqrt(shares) * own + np.sqrt(1 - shares) * rng.standard_normal((CHAINS, DRAWS, *size))


def run_of(folder, share: float, chains: int = CHAINS, **more):
    rng = np.random.default_rng(3)

    def some(*size: int) -> np.ndarray:
        return drawn(share, (PARTICLES, *size), rng)[:chains]

    middle = Rotation.random(PARTICLES, random_state=1).as_matrix()
    turns = Rotation.from_rotvec(0.02 * some(3).reshape(-1, 3)).as_matrix()
    made = FakeRun(
        maps=rng.standard_normal((chains, DRAWS, 3, 8, 8, 8)),
        rotations=turns.reshape(chains, DRAWS, PARTICLES, 3, 3) @ middle,
        shift_px=some(2),
        state=more.pop("states", rng.random((PARTICLES, 1)) + 0.05 * some(1)),
        contrast=1.0 + 0.1 * some(),
        **more,
    )
    return load_run(write_run(folder, made))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_means_of_chains_tell(tmp_path, share):
    """Var of a chain's mean: share + (1 - share) / S, of 1 in all."""
    expected = CHAINS / (share + (1 - share) / DRAWS)
    found = worth(run_of(tmp_path / "run", share))
    assert set(found) == {"rotation", "shift", "contrast", "arm"}
    # those that differ most are not asked: by chance, too, so that it is some 5 % too many
    np.testing.assert_allclose(list(found.values()), expected, rtol=0.12)


def test_one_chain_does_not_tell(tmp_path):
    assert worth(run_of(tmp_path / "run", 0.0, chains=1)) == {}


def test_a_rotation_has_two_quaternions_and_a_circle_no_ends(tmp_path):
    rng = np.random.default_rng(0)
    states = np.mod(0.02 * rng.standard_normal((CHAINS, DRAWS, PARTICLES, 1)), 1.0)
    run = run_of(tmp_path / "run", 0.0, states=states, state_space="circle")
    before = worth(run)
    assert before["arm"] == pytest.approx(CHAINS * DRAWS, rel=0.08)
    for name in run.directory.sample_names(0)[::2]:
        arrays = run.directory.read_arrays(name)
        run.directory.write_arrays(name, arrays | {"quaternion": -arrays["quaternion"]})
    assert worth(run)["rotation"] == pytest.approx(before["rotation"])


def test_particles_that_jump_do_not_hide_that_the_others_stand(tmp_path):
    run = run_of(tmp_path / "run", 0.8)
    before = worth(run)["rotation"]
    rng = np.random.default_rng(5)
    for chain in range(CHAINS):
        for name in run.directory.sample_names(chain):
            arrays = run.directory.read_arrays(name)
            some = arrays["quaternion"].copy()
            some[:25] = Rotation.random(25, random_state=rng).as_quat(scalar_first=True)
            run.directory.write_arrays(name, arrays | {"quaternion": some})
    assert worth(run)["rotation"] == pytest.approx(before, rel=0.1)
