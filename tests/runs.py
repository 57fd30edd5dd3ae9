"""Small synthetic run directories with known content."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hypermol.data.source import load_particles
from hypermol.io.metadata import CtfParameters, ParticleMetadata
from hypermol.io.mrc import write_stack
from hypermol.io.run_input import keep_input
from hypermol.io.star import write_particles_star
from hypermol.io.store import RunDirectory
from hypermol.space.rotation import quaternion_from_matrix

PIXEL_SIZE = 2.0
BASES = {"discrete": "onehot", "interval": "cosine", "circle": "fourier", "point": "constant"}


@dataclass
class FakeRun:
    """Arrays [chains, draws, ...] of a run; what is not given is made up."""

    maps: np.ndarray
    rotations: np.ndarray
    shift_px: np.ndarray
    state: np.ndarray
    contrast: np.ndarray | None = None
    occupancy: np.ndarray | None = None
    state_space: str = "interval"
    box: int = 16
    poses: str = "refine"
    halves: tuple[np.ndarray, np.ndarray] | None = None
    info: dict = field(default_factory=dict)


def random_rotations(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    from_normal = rng.normal(size=(*shape, 3, 3))
    q, r = np.linalg.qr(from_normal)
    q = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    q[..., :, 2] *= np.linalg.det(q)[..., None]
    return q


def random_run(
    seed: int = 0,
    chains: int = 2,
    draws: int = 5,
    particles: int = 7,
    state_space: str = "interval",
    n: int = 12,
) -> FakeRun:
    """A run of noise: every quantity is random."""
    rng = np.random.default_rng(seed)
    terms = {"interval": 3, "circle": 3, "discrete": 3, "point": 1}[state_space]
    shape = (chains, draws)
    base = random_rotations((particles,), rng)
    angle = rng.normal(0, 0.03, (*shape, particles))
    c, s, o = np.cos(angle), np.sin(angle), np.ones_like(angle)
    turn = np.stack([c, -s, 0 * o, s, c, 0 * o, 0 * o, 0 * o, o], -1).reshape(*angle.shape, 3, 3)
    dim = 0 if state_space == "point" else 1
    centre = rng.uniform(0.2, 0.8, (particles, dim))
    state = np.clip(centre + rng.normal(0, 0.03, (*shape, particles, dim)), 0, 1)
    if state_space == "discrete":
        state = (np.floor(3 * state) + 0.5) / 3
    occupancy = rng.uniform(0.5, 1.5, (*shape, 3 if state_space == "discrete" else 4))
    return FakeRun(
        maps=rng.normal(size=(*shape, terms, n, n, n)).astype(np.float32),
        rotations=turn @ base,
        shift_px=rng.normal(size=(*shape, particles, 2)),
        state=state,
        contrast=rng.normal(1, 0.1, (*shape, particles)),
        occupancy=occupancy / occupancy.sum(-1, keepdims=True),
        state_space=state_space,
        halves=tuple(rng.normal(size=(2, terms, n, n, n)).astype(np.float32)),
    )


def particle_metadata(folder: Path, rotations: np.ndarray, shifts: np.ndarray, box: int):
    """Particles [N] with images in particles.mrcs, which is not written."""
    n = len(rotations)
    return ParticleMetadata(
        stack_paths=np.full(n, str(folder / "particles.mrcs")),
        stack_indices=np.arange(n),
        rotations=rotations,
        shifts_angstrom=shifts,
        ctf=CtfParameters.none(n),
        pixel_size_angstrom=PIXEL_SIZE,
        box=box,
        half_set=1 + np.arange(n) % 2,
        optics_group=np.ones(n, np.int64),
    )


def apart_run(chains: int, draws: int, own: float, poses: str = "refine") -> FakeRun:
    """A run of 60 particles whose chains stand `own` pixels apart in shift (sd), with sd 1 each."""
    made = random_run(chains=chains, draws=draws, particles=60)
    rng = np.random.default_rng(0)
    shape = made.shift_px.shape
    apart = own * rng.standard_normal((chains, 1, *shape[2:]))
    return replace(made, shift_px=apart + rng.standard_normal(shape), poses=poses)


def write_run(path: Path, run: FakeRun, particles: Path | None = None) -> Path:
    """Write the run directory; without `particles` a particles.star of its first sample."""
    directory = RunDirectory.create(path)
    chains, draws, n_particles = run.shift_px.shape[:3]
    if particles is None:
        particles = path.parent / "input" / "particles.star"
        particles.parent.mkdir(exist_ok=True)
        shifts = run.shift_px[0, 0] * PIXEL_SIZE
        metadata = particle_metadata(particles.parent, run.rotations[0, 0], shifts, run.box)
        write_stack(particles.parent / "particles.mrcs", np.zeros((n_particles, 2, 2)), PIXEL_SIZE)
        write_particles_star(particles, metadata)
    keep_input(directory, load_particles(particles, allow_missing=("ctf",)).metadata)
    directory.write_json("run.json", _info(run, str(particles), chains, n_particles) | run.info)
    rng = np.random.default_rng(99)
    for chain in range(chains):
        for draw in range(draws):
            sweep = 10 + 2 * draw
            entry = {"chain": chain, "sweep": sweep, "stage": "sampling", "kept": True}
            entry |= {"seconds": 1.0, "log_likelihood": -100.0 + draw, "cg_iterations": 4}
            directory.append_trace(entry)
            directory.write_arrays(
                directory.sample_name(chain, sweep), _sample(run, chain, draw, rng)
            )
    if run.halves is not None:
        names = ("half1", "half2")
        directory.write_arrays("halves.npz", dict(zip(names, run.halves, strict=True)))
    return path


def _info(run: FakeRun, particles: str, chains: int, n_particles: int) -> dict:
    return {
        "particles": particles,
        "n_particles": n_particles,
        "box": run.box,
        "pixel_size_angstrom": PIXEL_SIZE,
        "kmax": run.maps.shape[-1] // 2 - 1,
        "grid": run.maps.shape[-1],
        "radius_angstrom": 0.4 * run.box * PIXEL_SIZE,
        "state_space": run.state_space,
        "state_name": "" if run.state_space == "point" else "arm",
        "basis": BASES[run.state_space],
        "n_terms": run.maps.shape[2],
        "chains": chains,
        "poses": run.poses,
        "seed": 0,
        "versions": {"hypermol": "0"},
        "data_hash": "0",
        "cpu_seconds": 1.0,
        "wall_seconds": 1.0,
        "finished": True,
    }


def _sample(run: FakeRun, chain: int, draw: int, rng: np.random.Generator) -> dict:
    here = (chain, draw)
    n_particles, n_terms = run.shift_px.shape[2], run.maps.shape[2]
    occupancy = np.full(4, 0.25) if run.occupancy is None else run.occupancy[here]
    contrast = np.ones(n_particles) if run.contrast is None else run.contrast[here]
    return {
        "maps": run.maps[here].astype(np.float32),
        "quaternion": quaternion_from_matrix(run.rotations[here]).astype(np.float32),
        "shift_px": run.shift_px[here].astype(np.float32),
        "contrast": contrast.astype(np.float32),
        "state": run.state[here].astype(np.float32),
        "noise_variance": rng.uniform(0.9, 1.1, 8).astype(np.float32),
        "spectrum": np.ones((n_terms, 9), np.float32),
        "level": rng.uniform(0.9, 1.1, n_terms).astype(np.float32),
        "pose_sd_rad": np.float32(rng.uniform(0.02, 0.03)),
        "shift_sd_px": np.float32(rng.uniform(0.5, 0.6)),
        "contrast_sd": np.float32(rng.uniform(0.09, 0.11)),
        "occupancy": occupancy.astype(np.float32),
    }
