"""Images per second of every block of a sweep, as ratios to NumPy measured in the same run.

    python benchmarks/speed.py                                   # built-in synthetic images
    python benchmarks/speed.py --particles particles.star --kmax 8 16
    python benchmarks/speed.py --out benchmarks/results          # also writes speed.json, speed.md

The unit is one NumPy evaluation of the likelihood of one image at one pose: a trilinear slice of
one volume by vectorised gathers, times CTF, and the misfit. See benchmarks/README.md.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import hypermol
from hypermol.data import load_particles
from hypermol.data.latents import Consensus
from hypermol.fitting.blocks.hyperparameters import hyperparameters
from hypermol.fitting.blocks.particles_by_candidates import particles_by_candidates
from hypermol.fitting.found import Found
from hypermol.fitting.level import BLOCK, Form, Level, Levels
from hypermol.fitting.march import first_state
from hypermol.fitting.stages import Stage
from hypermol.fitting.sweep import Block, ChainState, Data
from hypermol.imaging.blocks import image_blocks, to_blocks
from hypermol.imaging.ctf import ctf_values
from hypermol.inference import exact
from hypermol.inference.ensemble import CandidateCounts
from hypermol.io.metadata import CtfParameters
from hypermol.molecule.composite import expansion
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import Cosine
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import HyperPrior
from hypermol.posterior.theta_conditional import Given, full_block_count, theta_quadratic
from hypermol.recipe.options import FitOptions, make_design
from hypermol.runtime import configure
from hypermol.space.fourier import half_plane
from hypermol.space.rotation import matrix_from_quaternion, random_quaternions

#: Candidates of a move as `hypermol fit` weighs them: rotations, shifts an axis, states.
FIXED, REFINE = CandidateCounts(1, 1, 32), CandidateCounts(5, 3, 32)
#: Radius of the ball that holds everything, as a share of the box.
RADIUS = 0.3
ITERATIONS = (2, 10)
REPEATS = 3


class Row(NamedTuple):
    """One measured block: seconds for one pass over all images."""

    kmax: int
    block: str
    wall_s: float
    cpu_s: float


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    """Smallest wall and smallest CPU seconds of some calls, after one that compiles."""
    jax.block_until_ready(function())
    walls, cpus = [], []
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(function())
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return min(walls), min(cpus)


def synthetic_level(n: int, box: int, kmax: int, terms: int) -> Level:
    """Noise images with random poses and real-looking CTFs: speed does not depend on content."""
    plane, rng = half_plane(box, kmax), np.random.default_rng(0)
    basis = Voxels(box, 3.0, kmax, RADIUS * box * 3.0)
    posterior = Posterior(expansion(basis, Cosine(terms)), plane, HyperPrior())
    defocus = rng.uniform(1e4, 2.5e4, n)
    constant = [np.full(n, v) for v in (30.0, 300.0, 2.7, 0.1, 0.0, 0.0)]
    ctf = np.asarray(
        ctf_values(CtfParameters(defocus, defocus - 300.0, *constant), plane.frequencies / box / 3)
    )
    size = (n, len(plane.shells))
    pixels = (rng.normal(size=size) + 1j * rng.normal(size=size)).astype(np.complex64)
    blocks = BLOCK, full_block_count(-(-n // BLOCK))
    consensus = Consensus(
        to_blocks(np.asarray(random_quaternions(jax.random.key(0), n)), *blocks),
        to_blocks(rng.normal(size=(n, 2)).astype(np.float32), *blocks),
    )
    data = Data(image_blocks(pixels, ctf, *blocks), consensus)
    return Level(Form(posterior.molecule, kmax, ()), posterior, data, basis)


def level_of(path: Path, n: int, kmax: int, terms: int) -> Level:
    """The first n particles of a file, as the last stage of a fit has them."""
    particles = load_particles(path)
    particles = particles.select(np.arange(min(n, particles.n)))
    pixel = particles.pixel_size_angstrom
    options = FitOptions(
        basis="cosine", n_terms=terms, radius_angstrom=RADIUS * particles.box * pixel
    )
    design = make_design(options, particles.box, pixel)
    stage = Stage("speed", "whole", kmax, terms, 0)
    return Levels(particles, options, design, kmax).level(stage, Found())


class Reference:
    """The unit: slice, CTF and misfit of every image at its own pose, in NumPy on one core."""

    def __init__(self, level: Level, state: ChainState, prepared: Any) -> None:
        grid = np.asarray(prepared[0][""])
        half = grid.shape[-1] // 2
        self.shape = grid.shape[:3]
        volume = grid[..., 0] + 1j * grid[..., half]
        self.values = np.ascontiguousarray(volume, np.complex64).reshape(-1)
        basis, plane = level.grid, level.posterior.plane
        self.k = (plane.frequencies * basis.oversampling).astype(np.float32)
        self.turns = np.asarray(matrix_from_quaternion(state.latents.quaternion))
        self.pixels, self.ctf = (np.asarray(x) for x in level.data.images[:2])
        self.weight = 1.0 / np.asarray(state.mu.noise_variance)[plane.shells]

    def slices(self, turns: np.ndarray) -> np.ndarray:
        """Complex [B, K] at rotations [B, 3, 3]: all points of a block at once."""
        points = self.k @ turns[:, :2]
        folded = points[..., 0] < 0
        points = np.where(folded[..., None], -points, points)
        lower = np.floor(points)
        fraction = points - lower
        x, y, z = np.moveaxis(lower.astype(np.int64), -1, 0)
        depth, rows, columns = self.shape
        base = ((z + depth // 2) * rows + y + rows // 2) * columns + x
        sides = np.stack([1.0 - fraction, fraction])
        total = np.zeros(base.shape, np.complex64)
        for corner in range(8):
            dz, dy, dx = corner >> 2, corner >> 1 & 1, corner & 1
            weight = sides[dx, ..., 0] * sides[dy, ..., 1] * sides[dz, ..., 2]
            total += weight * self.values[base + (dz * rows + dy) * columns + dx]
        return np.where(folded, total.conj(), total)

    def __call__(self) -> np.ndarray:
        """Misfits [n_blocks, B]."""
        out = []
        for turns, pixels, ctf in zip(self.turns, self.pixels, self.ctf, strict=True):
            residual = pixels - ctf * self.slices(turns)
            out.append((residual.real**2 + residual.imag**2) @ self.weight)
        return np.stack(out)


def check_reference(reference: Reference, level: Level, state: ChainState, prepared: Any) -> None:
    """The reference computes what the package does: its slices of the first block agree."""
    k = jnp.asarray(level.posterior.plane.frequencies, jnp.float32)
    turns = jnp.asarray(reference.turns[0])
    states = state.latents.state[0]
    ours = level.molecule.features(prepared, turns, states, k)[:, 0]
    np.testing.assert_allclose(reference.slices(reference.turns[0]), ours, atol=1e-4)


def theta_draw(level: Level, state: ChainState, iterations: int) -> Callable[[], Any]:
    """theta's exact draw (`fitting.blocks.theta_exact`) with so many iterations of its solver."""

    @jax.jit
    def draw(key: jax.Array, state: ChainState, data: Data) -> Any:
        given = Given(state.mu, state.latents, data.images)
        target = theta_quadratic(level.posterior, given, state.theta)
        return exact.draw(key, target, state.theta.maps, 0.0, iterations)

    return lambda: draw(jax.random.key(1), state, level.data)


def step_of(block: Block, level: Level, state: ChainState) -> Callable[[], Any]:
    """A block's step."""
    tuning = block.init(state, level.data)
    return lambda: block.step(jax.random.key(1), state, tuning, level.data)[0]


def measure(level: Level) -> list[Row]:
    """All rows of one kmax; the first is the unit."""
    posterior, state = level.posterior, first_state(level)
    maps = jax.random.normal(jax.random.key(1), state.theta.maps[""].shape) * level.grid.support
    state = state._replace(theta=state.theta._replace(maps={"": maps}))
    prepared = jax.jit(level.molecule.prepare)(state.theta)
    reference = Reference(level, state, prepared)
    check_reference(reference, level, state, prepared)
    blocks = {
        "particles, poses fixed": particles_by_candidates(posterior, FIXED),
        "particles, poses refined": particles_by_candidates(posterior, REFINE),
        "hyperparameters and contrasts": hyperparameters(posterior, learns_widths=True),
    }
    rows = [Row(posterior.plane.kmax, "NumPy: one slice, CTF, misfit", *timed(reference))]
    for name, block in blocks.items():
        rows.append(Row(posterior.plane.kmax, name, *timed(step_of(block, level, state))))
    few, many = (timed(theta_draw(level, state, n)) for n in ITERATIONS)
    span = ITERATIONS[1] - ITERATIONS[0]
    per_iteration = [(m - f) / span for f, m in zip(few, many, strict=True)]
    rows.append(Row(posterior.plane.kmax, "theta, a CG iteration", *per_iteration))
    rest = [f - ITERATIONS[0] * p for f, p in zip(few, per_iteration, strict=True)]
    rows.append(Row(posterior.plane.kmax, "theta, right side and start", *rest))
    return rows


def table(rows: list[Row], n: int) -> str:
    """Markdown; the ratio is of CPU seconds, so that a busy machine matters less."""
    lines = [
        "| kmax | block | images per CPU second | CPU time in units |",
        "|---:|---|---:|---:|",
    ]
    unit = {row.kmax: row.cpu_s for row in rows if row.block.startswith("NumPy")}
    for row in rows:
        cpu = n / max(row.cpu_s, 1e-9)
        ratio = row.cpu_s / unit[row.kmax]
        lines.append(f"| {row.kmax} | {row.block} | {cpu:,.0f} | {ratio:.2f} |")
    return "\n".join(lines)


def machine() -> str:
    """The machine in a line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [x.split(":")[1] for x in cpuinfo.read_text().splitlines() if "model name" in x]
        model = names[0].strip() if names else model
    load = f", load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    return (
        f"{os.cpu_count()} cores, {model}, JAX {jax.__version__} on {jax.default_backend()}{load}"
    )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--particles", type=Path, help="a particle file instead of noise images")
    parser.add_argument("--kmax", type=int, nargs="+", default=[8, 16, 24])
    parser.add_argument("--n", type=int, default=1024, help="images")
    parser.add_argument("--box", type=int, default=64, help="of noise images, in pixels")
    parser.add_argument("--terms", type=int, default=5, help="terms of the state basis")
    parser.add_argument("--out", type=Path, help="folder for speed.json and speed.md")
    return parser.parse_args()


def main() -> None:
    """Measure, print and write."""
    args = arguments()
    configure()
    rows: list[Row] = []
    for kmax in args.kmax:
        if args.particles is None:
            level = synthetic_level(args.n, args.box, kmax, args.terms)
        else:
            level = level_of(args.particles, args.n, kmax, args.terms)
        rows += measure(level)
    n = int(np.asarray(level.data.images.present).sum())
    about = (
        f"hypermol {hypermol.__version__}, {n} images, box {level.posterior.plane.box}, "
        f"{args.terms} state terms; {machine()}; {time.process_time():.0f} CPU seconds in all."
    )
    text = f"{about}\n\n{table(rows, n)}\n"
    print(text)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "speed.md").write_text(text)
        found = {"about": about, "images": n, "rows": [row._asdict() for row in rows]}
        (args.out / "speed.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
