"""Run directories made up without a fit: moving Gaussians, random latents, plausible noise."""

import json
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from hypermol.data.latents import Latents
from hypermol.io.metadata import CtfParameters, ParticleMetadata
from hypermol.io.run_input import keep_input
from hypermol.io.star import read_particles_star, write_particles_star
from hypermol.io.store import RunDirectory
from hypermol.molecule.state_basis import named_state_basis
from hypermol.space.fourier import fast_even_size
from hypermol.space.rotation import quaternion_from_matrix

_BASES = {"point": ("constant", 1), "interval": ("cosine", 4), "circle": ("fourier", 5)}
_STAGES = (("consensus 12", 6), ("subspace 16", 8), ("march 20", 10))


@dataclass(frozen=True)
class World:
    """What a made-up run looks like."""

    space: str = "interval"
    n: int = 200
    box: int = 24
    pixel: float = 6.0
    kmax: int = 9
    chains: int = 2
    draws: int = 8
    noise: float = 0.05
    leak: float = 0.0
    state_name: str = "arm"
    poses: str = "refine"
    seed: int = 0

    @property
    def grid(self) -> int:
        return fast_even_size(2 * self.kmax + 2)

    @property
    def radius(self) -> float:
        return 0.42 * self.box * self.pixel

    def distance(self) -> np.ndarray:
        axis = (np.arange(self.grid) - self.grid // 2) * self.box * self.pixel / self.grid
        return np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)


def volume(world: World, state: float) -> np.ndarray:
    """A bent body at rest and a small blob on an arm that swings with the state."""
    n, span = world.grid, world.radius
    axis = (np.arange(n) - n // 2) * world.box * world.pixel / n
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    turn = (2 * np.pi if world.space == "circle" else 0.8 * np.pi) * state
    blobs = [(-0.4, 0.0, 0.0, 0.16), (-0.1, 0.1, 0.05, 0.15), (0.15, -0.1, 0.0, 0.13)]
    for reach in (0.22, 0.36, 0.5):
        blobs.append((0.1 + reach * np.cos(turn), reach * np.sin(turn), 0.1, 0.09))
    total = np.zeros((n, n, n))
    for cx, cy, cz, width in blobs:
        d2 = (x - cx * span) ** 2 + (y - cy * span) ** 2 + (z - cz * span) ** 2
        total += np.exp(-0.5 * d2 / (width * span) ** 2)
    return total


def terms(world: World) -> np.ndarray:
    """Coefficients [F, n, n, n] of the moving density, by least squares over 40 states."""
    basis, n_terms = _BASES[world.space]
    if world.space == "point":
        return volume(world, 0.3)[None]
    states = (np.arange(40) + 0.5) / 40
    weights = np.asarray(named_state_basis(basis, n_terms, "s")(jnp.asarray(states)[:, None]))
    maps = np.stack([volume(world, t) for t in states]).reshape(40, -1)
    found = np.linalg.lstsq(weights, maps, rcond=None)[0]
    return found.reshape(n_terms, *(world.grid,) * 3)


def make_run(folder: Path, world: World, halves: bool = True) -> Path:
    """Write particles.star and a run directory `run` into a folder; returns the run."""
    rng = np.random.default_rng(world.seed)
    truth = Rotation.random(world.n, random_state=world.seed)
    states = rng.choice([0.3, 0.75], world.n, p=[0.6, 0.4]) + 0.06 * rng.standard_normal(world.n)
    direction = truth.as_matrix()[:, 2, 2]
    states = np.clip(states + world.leak * direction, 0.01, 0.99)
    shifts = rng.normal(size=(world.n, 2))
    given = Rotation.from_rotvec(np.radians(2.0) * rng.normal(size=(world.n, 3))) * truth
    star = folder / "particles.star"
    write_particles_star(star, _metadata(folder, world, given.as_matrix(), shifts, rng))
    run = RunDirectory.create(folder / "run")
    keep_input(run, read_particles_star(star))
    run.write_json("run.json", _info(world, star))
    clean = terms(world)
    for chain in range(world.chains):
        for draw in range(world.draws):
            turned = Rotation.from_rotvec(np.radians(0.8) * rng.normal(size=(world.n, 3))) * truth
            latents = Latents(
                quaternion_from_matrix(turned.as_matrix()).astype(np.float32),
                (shifts + 0.3 * rng.normal(size=shifts.shape)).astype(np.float32),
                (1.0 + 0.1 * rng.normal(size=world.n)).astype(np.float32),
                _states(world, states, rng),
            )
            arrays = _sample(world, clean, latents, rng)
            run.write_arrays(run.sample_name(chain, 24 + draw), arrays)
        _write_trace(run, world, chain, rng)
    if halves:
        noise = (_noise(world, len(clean), rng) * 2.0 for _ in range(2))
        first, second = (clean + part for part in noise)
        run.write_arrays("halves.npz", {"half1": first, "half2": second})
    return run.path


def _states(world: World, states: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if world.space == "point":
        return np.zeros((world.n, 0), np.float32)
    drawn = states + 0.05 * rng.standard_normal(world.n)
    wrapped = np.mod(drawn, 1.0) if world.space == "circle" else np.clip(drawn, 0.0, 1.0)
    return wrapped[:, None].astype(np.float32)


def _noise(world: World, n_terms: int, rng: np.random.Generator) -> np.ndarray:
    inside = world.distance() <= world.radius
    return world.noise * rng.standard_normal((n_terms, *(world.grid,) * 3)) * inside


def _sample(
    world: World, clean: np.ndarray, latents: Latents, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    shells = world.kmax + 2
    n_terms = len(clean)
    maps = (clean + _noise(world, n_terms, rng)) * (world.distance() <= world.radius)
    bins = 24
    counts = np.zeros(bins)
    if latents.state.shape[-1]:
        counts = np.bincount(
            (latents.state[:, 0] * bins).astype(int).clip(0, bins - 1), minlength=bins
        )
    falling = (1.0 + (np.arange(shells) / 3.0) ** 2) * np.ones((n_terms, 1))
    return {
        "maps": maps.astype(np.float32),
        **latents._asdict(),
        "noise_variance": (1.0 + 0.5 * np.exp(-np.arange(world.kmax + 1) / 4.0))
        * rng.normal(1.0, 0.01, world.kmax + 1),
        "spectrum": falling,
        "level": rng.gamma(200.0, 0.005, n_terms),
        "pose_sd_rad": np.radians(2.0) * rng.normal(1.0, 0.03),
        "shift_sd_px": rng.normal(0.7, 0.02),
        "contrast_sd": rng.normal(0.1, 0.004),
        "occupancy": rng.dirichlet(counts + 1.0),
    }


def _metadata(
    folder: Path, world: World, rotations: np.ndarray, shifts: np.ndarray, rng: np.random.Generator
) -> ParticleMetadata:
    n = world.n
    defocus = rng.uniform(10000.0, 25000.0, n)
    flat = {"voltage_kv": 300.0, "spherical_aberration_mm": 2.7, "amplitude_contrast": 0.1}
    zero = np.zeros(n)
    return ParticleMetadata(
        stack_paths=np.full(n, str(folder / "particles.mrcs")),
        stack_indices=np.arange(n),
        rotations=rotations,
        shifts_angstrom=shifts * world.pixel,
        ctf=CtfParameters(
            defocus_u_angstrom=defocus,
            defocus_v_angstrom=defocus,
            defocus_angle_deg=zero,
            phase_shift_deg=zero,
            b_factor_angstrom2=zero,
            **{key: np.full(n, value) for key, value in flat.items()},
        ),
        pixel_size_angstrom=world.pixel,
        box=world.box,
        half_set=zero.astype(int),
        optics_group=np.ones(n, int),
    )


def _info(world: World, star: Path) -> dict:
    basis, n_terms = _BASES[world.space]
    return {
        "particles": str(star),
        "n_particles": world.n,
        "box": world.box,
        "pixel_size_angstrom": world.pixel,
        "kmax": world.kmax,
        "grid": world.grid,
        "radius_angstrom": world.radius,
        "state_space": world.space,
        "state_name": world.state_name,
        "basis": basis,
        "n_terms": n_terms,
        "chains": world.chains,
        "poses": world.poses,
        "seed": world.seed,
        "versions": {"hypermol": "0.1.0"},
        "data_hash": "0" * 64,
        "cpu_seconds": 742.0,
        "wall_seconds": 401.0,
        "finished": True,
    }


def _write_trace(run: RunDirectory, world: World, chain: int, rng: np.random.Generator) -> None:
    stages = [(name, False) for name, count in _STAGES for _ in range(count)]
    stages += [("sample", True)] * world.draws
    lines = []
    for sweep, (name, kept) in enumerate(stages):
        record = {
            "chain": chain,
            "sweep": sweep,
            "stage": name,
            "kept": kept,
            "seconds": 3.0 + 0.1 * sweep + 0.2 * rng.random(),
            "moved_rotation": 0.3 + 0.3 * np.exp(-sweep / 9) + 0.02 * rng.random(),
            "moved_shift": 0.5 + 0.05 * rng.random(),
            "cg_iterations": int(8 + 4 * rng.random()),
            "log_likelihood": -1e6 - 4e4 * np.exp(-sweep / 6) + 200 * rng.normal(),
            "noise": 1.2 + 0.3 * np.exp(-sweep / 7),
            "pose_sd_deg": 2.0 + 0.4 * np.exp(-sweep / 8) + 0.02 * rng.normal(),
            "shift_sd_px": 0.7 + 0.01 * rng.normal(),
            "contrast_sd": 0.1 + 0.004 * rng.normal(),
        }
        lines.append(json.dumps(record))
    with open(run.path / "trace.jsonl", "a") as handle:
        handle.write("\n".join(lines) + "\n")
