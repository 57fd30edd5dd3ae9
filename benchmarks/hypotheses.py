"""Which hypothesis about the pretzel do the data prefer? Held-out log-likelihood of four models.

Fits rigid, generic 1-D, generic 2-D and the composite with shared arms (examples/pretzel.toml) to
nine tenths of a pretzel data set, and tells how well the posterior mean of each predicts the last
tenth, per image. `--also` adds hypotheses of your own: recipes of any molecule, with trajectories
or of a class of one's own.

    hypermol simulate pretzel --out pretzel --n 3000 --box 64 --pixel-size 5 --snr 0.1 \
        --rotation-error 5 --shift-error 1
    python benchmarks/hypotheses.py pretzel --out benchmarks/results/hypotheses.md
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from hypermol.data.particles import ParticleSet
from hypermol.data.source import ParticleSource, load_particles
from hypermol.fitting import checkpoint
from hypermol.fitting.fit import Progress, fit
from hypermol.fitting.found import load_found
from hypermol.fitting.held_out import held_out_log_likelihood
from hypermol.fitting.level import Levels
from hypermol.fitting.march import first_state
from hypermol.fitting.schedules import make_schedule
from hypermol.io.star import write_particles_star
from hypermol.io.store import RunDirectory
from hypermol.recipe.options import FitOptions, make_design
from hypermol.recipe.toml import read_recipe

ROOT = Path(__file__).parents[1]
#: Where a run keeps the mean of theta.
MEAN = "mean_theta.npz"
WHOLE = {"name": "whole", "region": {"radius_angstrom": 155.0}}


def models(sweeps: int, samples: int, also: list[Path]) -> dict[str, FitOptions]:
    """The four hypotheses, from stiff to free, and the right one; then recipes by their names."""
    effort = {"chains": 1, "burn_in": sweeps, "samples": samples, "checkpoint_every": 1}
    common = FitOptions(resolution_angstrom=22.0, radius_angstrom=155.0, **effort)
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
    } | {path.stem: replace(read_recipe(path), **effort) for path in also}


def split(particles: ParticleSet, folder: Path) -> tuple[Path, ParticleSet]:
    """Nine tenths as a STAR file to fit, and the last tenth."""
    rows = np.arange(particles.n)
    path = folder / "training.star"
    write_particles_star(path, particles.select(rows[rows % 10 != 0]).metadata)
    return path, particles.select(rows[rows % 10 == 0])


class Watcher:
    """Prints the end of sweeps, and keeps the mean over kept sweeps of all that theta is.

    One draw of theta predicts worse than the posterior's mean, the more so the more coefficients
    a model has; the mean is what is compared.
    """

    def __init__(self, run: Path):
        self.directory, self.total, self.kept = RunDirectory(run), {}, 0

    def __call__(self, progress: Progress) -> None:
        record = progress.record
        print(record["stage"], record["sweep"], round(record["seconds"], 1), file=sys.stderr)
        if not record["kept"]:
            return
        saved = checkpoint.load(self.directory, checkpoint.chain_name(progress.chain))
        assert saved is not None
        theta = {k: v for k, v in saved.arrays.items() if k.startswith("state.theta.")}
        self.kept += 1
        self.total = {name: self.total.get(name, 0.0) + leaf for name, leaf in theta.items()}
        mean = {name: leaf / self.kept for name, leaf in self.total.items()}
        self.directory.write_arrays(MEAN, mean)


def held_out(run: Path, options: FitOptions, particles: ParticleSet) -> np.ndarray:
    """log-likelihood of each held-out image at the posterior mean of theta."""
    directory = RunDirectory(run)
    saved = checkpoint.load(directory, checkpoint.chain_name(0))
    if saved is None or not directory.has(MEAN):
        raise SystemExit(f"{run} has no finished chain: remove it")
    design = make_design(options, particles.box, particles.pixel_size_angstrom)
    last = make_schedule(options, particles, design)[-1]
    level = Levels(particles, options, design, last.kmax).level(last, load_found(directory))
    mean = saved._replace(arrays=saved.arrays | directory.read_arrays(MEAN))
    state = checkpoint.restored_state(mean, level.molecule, first_state(level))
    return held_out_log_likelihood(level, [state])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="particles.star")
    parser.add_argument("--work", type=Path, default=Path("hypotheses_runs"))
    parser.add_argument("--sweeps", type=int, default=20, help="burn-in sweeps a stage")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="recipes to add")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    particles = load_particles(options.folder / "particles.star")
    training, rest = split(particles, options.work)
    found: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}
    for name, model in models(options.sweeps, options.samples, options.also).items():
        began = time.process_time()
        run = options.work / name.replace(", ", "_").replace(" ", "_")
        if not (run / "run.json").exists():
            fit(ParticleSource(training, options.folder), run, model, Watcher(run))
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
