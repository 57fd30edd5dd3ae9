"""Which hypothesis about the pretzel do the data prefer? Held-out log-likelihood of four models.

Fits rigid, generic 1-D, generic 2-D and the composite with shared arms (examples/pretzel.toml) to
nine tenths of a pretzel data set, and tells how well the posterior mean of each predicts the last
tenth, per image.

    hypermol simulate pretzel --out pretzel --n 3000 --box 64 --pixel-size 5 --snr 0.1 \
        --rotation-error 5 --shift-error 1
    python benchmarks/hypotheses.py pretzel --out benchmarks/results/hypotheses.md
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from hypermol.analysis.run import load_run
from hypermol.data.particles import ParticleSet, load_particles
from hypermol.fitting.checkpoint import load_checkpoint, with_theta
from hypermol.fitting.fit import Progress, fit
from hypermol.fitting.held_out import held_out_log_likelihood
from hypermol.fitting.march import make_level
from hypermol.io.star import write_particles_star
from hypermol.recipe.design import Grid
from hypermol.recipe.options import FitOptions, make_design
from hypermol.recipe.toml import read_recipe

ROOT = Path(__file__).parents[1]
WHOLE = {"name": "whole", "region": {"radius_angstrom": 155.0}}


def models(sweeps: int, samples: int) -> dict[str, FitOptions]:
    """The four hypotheses, from stiff to free, and the right one."""
    common = FitOptions(
        resolution_angstrom=22.0,
        radius_angstrom=155.0,
        chains=1,
        burn_in=sweeps,
        samples=samples,
        checkpoint_every=1,
    )
    composite = read_recipe(ROOT / "examples" / "pretzel.toml").part
    plane = {
        "state_basis": ["cosine", "cosine"],
        "n_terms": [5, 5],
        "state_name": ["first", "second"],
    }
    return {
        "rigid": replace(common, basis="constant", n_terms=1),
        "generic, one state": replace(common, basis="cosine", n_terms=6),
        "generic, two states": replace(common, part=({**WHOLE, **plane},)),
        "composite, shared arms": replace(common, part=composite),
    }


def split(particles: ParticleSet, folder: Path) -> tuple[Path, ParticleSet]:
    """Nine tenths as a STAR file to fit, and the last tenth."""
    rows = np.arange(particles.n)
    path = folder / "training.star"
    write_particles_star(path, particles.select(rows[rows % 10 != 0]).metadata)
    return path, particles.select(rows[rows % 10 == 0])


class Watcher:
    """Prints the end of sweeps, and adds up theta's maps over the kept ones.

    One draw of theta predicts worse than the posterior's mean, the more so the more coefficients
    a model has; the mean is what is compared.
    """

    def __init__(self, run: Path):
        self.run, self.total, self.kept = run, None, 0

    def __call__(self, progress: Progress) -> None:
        record = progress.record
        print(record["stage"], record["sweep"], round(record["seconds"], 1), file=sys.stderr)
        if not record["kept"]:
            return
        checkpoint = load_checkpoint(load_run(self.run).directory, progress.chain)
        assert checkpoint is not None
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(checkpoint.state.theta)]
        self.kept += 1
        self.total = leaves if self.total is None else list(map(np.add, self.total, leaves))
        mean = {f"{i:03d}": leaf / self.kept for i, leaf in enumerate(self.total)}
        np.savez(self.run / "mean_theta.npz", **mean)


def held_out(run: Path, options: FitOptions, particles: ParticleSet) -> np.ndarray:
    """log-likelihood of each held-out image at the posterior mean of theta."""
    directory = load_run(run).directory
    checkpoint = load_checkpoint(directory, 0)
    if checkpoint is None or checkpoint.radius is None:
        raise SystemExit(f"{run} has no finished chain")
    last = directory.read_json("run.json")["stages"][-1]
    grid = Grid(particles.box, particles.pixel_size_angstrom, last["kmax"], checkpoint.radius)
    design = make_design(options, particles.box, particles.pixel_size_angstrom)
    molecule = design.molecule(grid, last["n_terms"])
    level = make_level(particles, molecule, grid.voxels, options.prior)
    with np.load(run / "mean_theta.npz") as stored:
        mean = [jnp.asarray(stored[name]) for name in sorted(stored.files)]
    state = checkpoint.state._replace(theta=mean)
    return held_out_log_likelihood(level, [with_theta(state, molecule)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="particles.star")
    parser.add_argument("--work", type=Path, default=Path("hypotheses_runs"))
    parser.add_argument("--sweeps", type=int, default=20, help="burn-in sweeps a stage")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    particles = load_particles(options.folder / "particles.star")
    training, rest = split(particles, options.work)
    found: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}
    for name, model in models(options.sweeps, options.samples).items():
        began = time.process_time()
        run = options.work / name.replace(", ", "_").replace(" ", "_")
        if not (run / "run.json").exists():
            fit(training, run, model, Watcher(run), image_dir=options.folder)
        found[name] = held_out(run, model, rest)
        seconds[name] = time.process_time() - began
        print(name, found[name].mean(), seconds[name], file=sys.stderr, flush=True)
    base = found["rigid"]
    lines = [
        f"# Held-out log-likelihood, {rest.n} images of `{options.folder}`",
        "",
        "| hypothesis | nats an image above the rigid model | standard error | CPU seconds |",
        "|---|---|---|---|",
    ]
    for name, values in found.items():
        gain = values - base
        error = gain.std() / np.sqrt(len(gain))
        lines.append(f"| {name} | {gain.mean():.2f} | {error:.2f} | {seconds[name]:.0f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out is not None:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
