"""Coverage of 50 % and 90 % credible intervals on data simulated from the model's own prior.

    python benchmarks/coverage.py                       # the whole table: about half an hour
    python benchmarks/coverage.py --repetitions 2       # a look

`tests/calibration.py` says what is simulated, how the chain starts and what is checked. Each
finished repetition is written to `--out`, and repetitions that are there already are kept.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from calibration import (
    LEVELS,
    Machine,
    Plan,
    coverage_rows,
    make_machine,
    run_repetition,
    smallest_ess,
)

Record = dict[str, dict[str, list[float]] | dict[str, float] | float]


def repeat(machine: Machine, plan: Plan, seed: int) -> Record:
    """One repetition's fractions, effective sample sizes, SNR and CPU seconds."""
    started = time.process_time()
    repetition = run_repetition(machine, plan, seed)
    return {
        "coverage": {name: row.tolist() for name, row in coverage_rows(repetition).items()},
        "ess": smallest_ess(repetition),
        "snr": repetition.snr,
        "cpu_seconds": time.process_time() - started,
    }


def table(records: list[Record], plan: Plan) -> str:
    """Markdown: pooled coverage with standard errors over repetitions, as independent data sets."""
    lines = [
        f"{len(records)} data sets of {plan.images} images; chains of {plan.burn_in} sweeps of "
        f"burn-in and {plan.samples} samples, {plan.thin} sweeps apart.",
        "",
        "| quantity | 50 % interval | 90 % interval |",
        "| --- | --- | --- |",
    ]
    for name in records[0]["coverage"]:
        rows = np.array([record["coverage"][name] for record in records])
        error = rows.std(axis=0, ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else 0 * rows[0]
        cells = [
            f"{100 * mean:.1f} ± {100 * sd:.1f} %"
            for mean, sd in zip(rows.mean(axis=0), error, strict=True)
        ]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    snr = [record["snr"] for record in records]
    seconds = sum(record["cpu_seconds"] for record in records)
    ess = {
        name: np.median([record["ess"][name] for record in records]) for name in records[0]["ess"]
    }
    lines += [
        "",
        f"SNR on the pixels used (kmax 5): {min(snr):.2f} to {max(snr):.2f}. "
        f"CPU seconds: {seconds:.0f}.",
        "Bulk ESS of a chain, fifth percentile over quantities, median over data sets: "
        + ", ".join(f"{name} {value:.0f}" for name, value in ess.items())
        + ".",
    ]
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    plan = Plan()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=plan.repetitions)
    parser.add_argument("--images", type=int, default=plan.images)
    parser.add_argument("--burn-in", type=int, default=plan.burn_in)
    parser.add_argument("--samples", type=int, default=plan.samples)
    parser.add_argument("--thin", type=int, default=plan.thin)
    parser.add_argument("--out", type=Path, help="JSON lines, one a repetition")
    args = parser.parse_args()
    plan = Plan(args.images, args.repetitions, args.burn_in, args.samples, args.thin)
    done: dict[int, Record] = {}
    if args.out and args.out.exists():
        lines = [json.loads(line) for line in args.out.read_text().splitlines()]
        done = {line["seed"]: line["record"] for line in lines}
    machine = make_machine(plan)
    for seed in range(plan.repetitions):
        if seed not in done:
            done[seed] = repeat(machine, plan, seed)
            if args.out:
                with args.out.open("a") as file:
                    print(json.dumps({"seed": seed, "record": done[seed]}), file=file)
        print(f"repetition {seed}: {done[seed]['coverage']}", file=sys.stderr, flush=True)
    print(f"levels {LEVELS}", file=sys.stderr)
    print(table([done[seed] for seed in range(plan.repetitions)], plan))


if __name__ == "__main__":
    main()
