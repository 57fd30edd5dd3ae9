"""One posterior, several kernels: does every choice of `sampling.theta` and `.particles` agree?

    python benchmarks/kernels.py voxels --out /tmp/kernels
    python benchmarks/kernels.py elastic --out /tmp/kernels

Fits one small data set with each pair of kernels, through the one `fit`. The first run's constants
(found.json: the support's radius, theta's spectrum, the gain) are given to the others, so that all
sample the same posterior. Compared are posterior means and standard deviations of linear
functionals of the density (voxels) or of the molecule's own coefficients (elastic), of states and
contrasts: differences in units of their Monte Carlo errors, from effective sample sizes.
"""

import argparse
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import norm

from hypermol.analysis.diagnostics import bulk_ess, split_rhat
from hypermol.data import ParticleSource
from hypermol.fitting.fit import fit
from hypermol.io.store import RunDirectory
from hypermol.molecule.elastic_network import ElasticNetwork, anisotropic_modes
from hypermol.molecule.gallery import pretzel
from hypermol.recipe.options import FitOptions
from hypermol.simulation import MoleculeSource, Noise, Poses, Settings, simulate, write_dataset
from hypermol.space.state_space import Interval

#: Pairs of (theta, particles); the first is what the others are compared with.
PAIRS = {
    "voxels": (
        ("exact", "candidates"),
        ("hmc", "gradient"),
        ("hmc", "candidates"),
        ("mala", "random-walk"),
    ),
    "elastic": (("hmc", "gradient"), ("hmc", "candidates"), ("mala", "random-walk")),
}
N, BOX, PIXEL, SNR = 300, 16, 15.0, 2.0
FUNCTIONALS, CHAINS = 12, 2


def elastic_network() -> ElasticNetwork:
    """Two lobes joined by a hinge."""
    rng = np.random.default_rng(1)
    lobe = 2.0 * rng.normal(size=(18, 3)) * np.array([7.0, 9.0, 7.0])
    other = lobe[::-1] * [1, 1, -1] + np.array([28, -32, 6])
    rest = np.concatenate([lobe + np.array([0, 32, 0]), other])
    rest = (rest - rest.mean(axis=0)).astype(np.float32)
    _, modes = anisotropic_modes(rest, 3, 44.0)
    weights = np.full(len(rest), 38.0, np.float32)
    return ElasticNetwork(Interval("mode_1"), rest, modes.astype(np.float32), weights, 12.0, 8.0)


def data(kind: str, out: Path, seed: int) -> ParticleSource:
    """Images of the molecule that is fitted, or of a pretzel."""
    molecule = pretzel(90.0, arms=1) if kind == "voxels" else elastic_network()
    settings = Settings(
        n=N,
        box=BOX,
        pixel_size_angstrom=PIXEL,
        seed=seed,
        poses=Poses(shift_sd_angstrom=10.0, rotation_error_deg=2.0, shift_error_px=0.3),
        noise=Noise(snr=SNR),
    )
    write_dataset(out, simulate(MoleculeSource(molecule), settings), overwrite=True)
    return ParticleSource(out / "particles.star")


def options(kind: str, samples: int) -> FitOptions:
    """Of a fit whose sweeps are cheap."""
    common = FitOptions(
        chains=CHAINS, burn_in=60, samples=samples, thin=5, checkpoint_every=10**6, seed=3
    )
    if kind == "voxels":
        # an estimated spectrum spans many decades, which a ball lets leak from shell to shell: HMC
        # is preconditioned shell by shell, and its steps then are too short to compare anything
        return replace(
            common, n_terms=2, radius_angstrom=100.0, resolution_angstrom=60.0, spectrum="flat"
        )
    return replace(
        common,
        type="kernels:elastic_network",
        folder=str(Path(__file__).parent),
        radius_angstrom=100.0,
        resolution_angstrom=60.0,
        start_steps=400,
    )


def draws(kind: str, run: RunDirectory) -> np.ndarray:
    """What is compared, one column each, [chains, samples, quantities]."""
    return np.stack([_chain(kind, list(run.samples(chain))) for chain in range(CHAINS)])


def _chain(kind: str, samples: list[dict[str, np.ndarray]]) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = []
    probes = rng.normal(size=(FUNCTIONALS, samples[0]["maps"][0].size))
    for sample in samples:
        maps = sample["maps"].reshape(len(sample["maps"]), -1)
        row = [*(probes @ maps[0]), *(probes @ maps[1])]
        if kind == "elastic":
            row = [v for k in sorted(sample) if k.startswith("motion.") for v in sample[k].ravel()]
        state, contrast = sample["state"][:, 0], sample["contrast"]
        row += [state.mean(), np.var(state), contrast.mean(), contrast.std(), *state[:8]]
        row += [*sample["level"], *contrast[:4]]
        row += [sample["noise_variance"][2:].mean(), *sample["quaternion"][:2].ravel()]
        rows.append(row)
    return np.asarray(rows, np.float64)


def compare(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Differences of means in Monte Carlo errors, and ratios of standard deviations.

    `bound` is what the largest |z| of so many independent ones exceeds once in a hundred runs.
    """
    moves = first.std(axis=(0, 1)) > 0.0  # held poses do not
    first, second = first[..., moves], second[..., moves]
    ess = [np.array([bulk_ess(x[..., k]) for k in range(x.shape[-1])]) for x in (first, second)]
    sd = [x.std(axis=(0, 1)) for x in (first, second)]
    error = [s / np.sqrt(e) for s, e in zip(sd, ess, strict=True)]
    z = (first.mean(axis=(0, 1)) - second.mean(axis=(0, 1))) / np.hypot(*error)
    return {
        "largest |z|": float(np.abs(z).max()),
        "bound": float(norm.isf(0.005 / len(z))),
        "rms z": float(np.sqrt(np.mean(z**2))),
        "median sd ratio": float(np.median(sd[1] / sd[0])),
    }


def health(found: np.ndarray) -> str:
    """How well a run mixed."""
    found = found[..., found.std(axis=(0, 1)) > 0.0]
    columns = [found[..., k] for k in range(found.shape[-1])]
    ess, rhat = [bulk_ess(c) for c in columns], [split_rhat(c) for c in columns]
    return (
        f"ESS least {min(ess):.0f}, median {np.median(ess):.0f} of {found[..., 0].size}"
        f", largest R-hat {max(rhat):.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(PAIRS))
    parser.add_argument("--out", type=Path, default=Path("/tmp/kernels"))
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--poses", choices=("refine", "fixed"), default="fixed")
    arguments = parser.parse_args()
    out = arguments.out / arguments.kind
    shutil.rmtree(out, ignore_errors=True)
    source = data(arguments.kind, out / "data", arguments.seed)
    first: np.ndarray | None = None
    for theta, particles in PAIRS[arguments.kind]:
        began = time.process_time()
        run = out / f"{theta}-{particles}"
        if first is not None:
            run.mkdir(parents=True)
            shutil.copy(out / "-".join(PAIRS[arguments.kind][0]) / "found.json", run)
        chosen = replace(
            options(arguments.kind, arguments.samples),
            theta=theta,
            particles=particles,
            poses=arguments.poses,
        )
        found = draws(arguments.kind, fit(source, run, chosen))
        line = f"{theta:>6} {particles:<12} {time.process_time() - began:6.0f} CPU s, "
        line += health(found)
        if first is not None:
            line += "".join(f", {k} {v:.2f}" for k, v in compare(first, found).items())
        print(line, flush=True)
        first = found if first is None else first


if __name__ == "__main__":
    main()
