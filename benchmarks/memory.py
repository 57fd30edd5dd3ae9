"""Resident memory of a fit, its results and its report, stage by stage, in a process of its own.

    python benchmarks/memory.py                              # 4,000 simulated images of 64 pixels
    python benchmarks/memory.py --particles particles.star --recipe recipe.toml

Each row is a part of the work: the most that was resident during it (the kernel's high-water mark,
set back before each part) and what is left after it. The first rows are Python with the package,
and JAX with one trivial function compiled: what any run costs. Runs are short (`--burn-in`,
`--samples`): memory does not depend on the number of sweeps, but for samples that results read.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from hypermol.analysis.run import load_run
from hypermol.analysis.summary import write_results
from hypermol.data.particles import ParticleSet
from hypermol.data.source import ParticleSource
from hypermol.fitting.fit import Progress, fit
from hypermol.molecule.gallery import pretzel
from hypermol.recipe.options import FitOptions
from hypermol.recipe.toml import read_recipe
from hypermol.report.write import write_report
from hypermol.runtime import configure
from hypermol.simulation import MoleculeSource, Noise, Poses, Settings, simulate, write_dataset

#: What /proc/self/clear_refs takes to set the high-water mark back to what is resident.
_RESET = "5"


def resident_mb() -> tuple[float, float]:
    """(resident now, the most since it was last set back) in MB; see proc(5)."""
    status = Path("/proc/self/status").read_text().splitlines()
    found = {line.split(":")[0]: line.split()[1] for line in status if line.startswith("Vm")}
    return float(found["VmRSS"]) / 1e3, float(found["VmHWM"]) / 1e3


def arrays_mb() -> float:
    """Bytes of all live JAX arrays, in MB."""
    return sum(array.nbytes for array in jax.live_arrays()) / 1e6


class Log:
    """Rows of the table, printed as JSON lines for the parent."""

    def __init__(self) -> None:
        self.part, self.began, self.most = "", time.time(), 0.0

    def close(self) -> None:
        """End the part that runs."""
        now, peak = resident_mb()
        self.most = max(self.most, peak)
        row = {"part": self.part, "peak": peak, "after": now, "arrays": arrays_mb()}
        print(json.dumps(row | {"seconds": time.time() - self.began}), flush=True)

    def start(self, part: str) -> None:
        """End the part that runs, if any, and begin another."""
        if part == self.part:
            return
        if self.part:
            self.close()
        self.part, self.began = part, time.time()
        Path("/proc/self/clear_refs").write_text(_RESET)


@dataclass(frozen=True)
class Watched:
    """A source of particles that tells when it has been read."""

    source: ParticleSource
    log: Log

    @property
    def path(self) -> Path:
        """The particle file."""
        return self.source.path

    def load(self, **how: Any) -> ParticleSet:
        """The particles."""
        found = self.source.load(**how)
        self.log.start("checking the images; first sweep")
        return found

    def as_json(self) -> dict[str, Any]:
        """What run.json keeps."""
        return self.source.as_json()


def measure(particles: Path, out: Path, options: FitOptions) -> None:
    """The whole of `hypermol fit` in this process."""
    log = Log()
    log.start("hypermol imported")
    log.start("JAX, one trivial function")
    jax.block_until_ready(jax.jit(lambda x: jnp.sin(x) + 1.0)(jnp.ones(8)))
    log.start("particle file")

    def listen(at: Progress) -> None:
        log.start(f"{at.stage.name}, chain {at.chain + 1}")

    source: Any = Watched(ParticleSource(particles), log)
    fit(source, out, options, listen)
    log.start("results")
    write_results(load_run(out))
    log.start("report")
    write_report(load_run(out))
    log.close()
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"part": "the most of all", "peak": max(whole, log.most)}), flush=True)


def simulated(folder: Path, n: int, box: int) -> Path:
    """A data set of a pretzel that curls one arm, at 5 A a pixel for 64 pixels."""
    path = folder / "particles.star"
    if not path.exists():
        settings = Settings(
            n, box, 5.0 * 64 / box, poses=Poses(rotation_error_deg=3.0), noise=Noise(0.1)
        )
        write_dataset(folder, simulate(MoleculeSource(pretzel(110.0, arms=1)), settings))
    return path


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| part | most resident, MB | after it, MB | of that JAX arrays, MB | seconds |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [
            f"{row[name]:.0f}" if name in row else ""
            for name in ("peak", "after", "arrays", "seconds")
        ]
        lines.append(f"| {row['part']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def in_process(arguments: list[str]) -> list[dict[str, Any]]:
    """Rows of this program run with other arguments."""
    command = [sys.executable, __file__, *arguments]
    rows = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        for line in running.stdout or ():
            print(line, end="", file=sys.stderr, flush=True)
            if line.startswith("{"):
                rows.append(json.loads(line))
    if running.returncode:
        raise SystemExit(running.returncode)
    return rows


def main() -> None:
    """Simulate and measure, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--particles", type=Path, help="a particle file instead of simulated ones")
    parser.add_argument("--recipe", type=Path, help="of the model; a generic one without")
    parser.add_argument("--n", type=int, default=4000, help="simulated images")
    parser.add_argument("--box", type=int, default=64, help="of simulated images, in pixels")
    parser.add_argument("--burn-in", type=int, default=2)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--work", type=Path, help="folder to keep; none is kept without")
    parser.add_argument("--part", choices=("simulate", "measure"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part is None:
        with tempfile.TemporaryDirectory() as scratch:
            work = args.work or Path(scratch)
            rest = [*sys.argv[1:], "--work", str(work), "--part"]
            if args.particles is None:
                in_process([*rest, "simulate"])
            print(table(in_process([*rest, "measure"])))
        return
    particles = args.particles or args.work / "data" / "particles.star"
    if args.part == "simulate":
        simulated(particles.parent, args.n, args.box)
        return
    options = read_recipe(args.recipe) if args.recipe else FitOptions()
    options = replace(options, burn_in=args.burn_in, samples=args.samples)
    configure(args.work / "cache")
    measure(particles, args.work / f"run{int(time.time())}", options)


if __name__ == "__main__":
    main()
