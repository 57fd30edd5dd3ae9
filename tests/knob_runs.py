"""Made-up runs of several knobs, from the tables that a recipe would hold."""

import numpy as np

from runs import FakeRun, random_rotations

REGION = {"centre_angstrom": [0.0, 0.0, 0.0], "radius_angstrom": 10.0}
TWO_KNOBS = [
    {
        "name": "body",
        "region": REGION,
        "state_basis": ["cosine", "cosine"],
        "n_terms": [3, 3],
        "state_name": ["bend", "twist"],
    }
]
ARMS = [
    {"name": "base", "region": REGION},
    {
        "name": "arm",
        "region": REGION,
        "state_basis": "cosine",
        "n_terms": 3,
        "symmetry": "C2",
        "places": [{"knobs": ["arm_1"]}, {"knobs": ["arm_2"]}],
    },
]
MIXED = [
    {"name": "body", "region": REGION, "state_basis": "cosine", "n_terms": 3, "state_name": "bend"},
    {"name": "ring", "region": REGION, "state_basis": "fourier", "n_terms": 3},
    {"name": "ligand", "region": REGION, "state_basis": "onehot", "n_terms": 3},
]


def product_run(
    parts: list[dict], state: np.ndarray, maps: np.ndarray, occupancy: np.ndarray
) -> FakeRun:
    """A run of the parts' knobs with sampled states [chains, draws, N, dim].

    Args:
        parts: tables of the model.
        state: sampled.
        maps: [chains, draws, F, n, n, n].
        occupancy: [chains, draws, B] of joint bins.
    """
    rng = np.random.default_rng(7)
    chains, draws, n = state.shape[:3]
    return FakeRun(
        maps=maps,
        rotations=np.broadcast_to(random_rotations((n,), rng), (chains, draws, n, 3, 3)),
        shift_px=rng.normal(size=(chains, draws, n, 2)),
        state=state,
        contrast=rng.normal(1, 0.1, (chains, draws, n)),
        occupancy=occupancy,
        info={
            "options": {"part": parts},
            "state_space": "product",
            "state_name": "bend",
            "basis": "composite",
        },
    )
