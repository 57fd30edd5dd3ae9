"""cryoDRGN on the same particles and the same scores: what `hypermol fit` is compared with.

cryoDRGN (GPL, in its own environment) trains on the poses that the particle file gives, 8 latents
and 10 epochs unless told otherwise, its networks' layers 256 wide: at its default of 1024 a quarter
of an epoch of 4,000 images of 64 pixels took eight minutes of CPU. Its volume for every scored
image goes through the package's own per-image FSC. Its latent space has no knob, so the truth's
state is compared with its first principal component, and, as the most that any reading of it could
tell, with the linear combination of all latents that fits the truth best.

    python -m venv drgn && drgn/bin/pip install cryodrgn
    python benchmarks/beside_cryodrgn.py ../shared/data/adk --cryodrgn drgn/bin/cryodrgn \
        --work drgn_run --out benchmarks/results/beside_cryodrgn.md
"""

import argparse
import pickle
import resource
import subprocess
from pathlib import Path

import mrcfile
import numpy as np

from hypermol.analysis.alignment import align_volumes
from hypermol.analysis.fsc import benchmark_images, per_image_fsc
from hypermol.analysis.gauge import apply_to_volume
from hypermol.analysis.masks import mask_from_map
from hypermol.analysis.states import rank_correlation
from hypermol.analysis.truth import Truth, load_truth


def children_seconds() -> float:
    """CPU seconds, user and system, of all programs run so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def train(program: str, data: Path, work: Path, network: tuple[int, int], epochs: int) -> float:
    """Train (latents, width of the networks' layers) from the data's poses; CPU seconds.

    A training that `work` holds already is not repeated.
    """
    work.mkdir(parents=True, exist_ok=True)
    spent = work / "cpu_seconds.txt"
    if spent.exists():
        return float(spent.read_text())
    star = str(data / "particles.star")
    poses, ctf = str(work / "poses.pkl"), str(work / "ctf.pkl")
    subprocess.run([program, "parse_pose_star", star, "-o", poses], check=True)
    subprocess.run([program, "parse_ctf_star", star, "-o", ctf], check=True)
    before = children_seconds()
    command = [program, "train_vae", str(data / "particles.mrcs"), "--poses", poses, "--ctf", ctf]
    latents, width = (str(number) for number in network)
    command += ["--zdim", latents, "--enc-dim", width, "--dec-dim", width]
    command += ["-n", str(epochs), "--uninvert-data", "--seed", "1", "--no-analysis"]
    with open(work / "train.log", "w") as log:
        subprocess.run([*command, "-o", str(work / "model")], check=True, stdout=log, stderr=log)
    seconds = children_seconds() - before
    spent.write_text(f"{seconds:.0f}\n")
    return seconds


def latents_of(work: Path, epochs: int) -> np.ndarray:
    """Posterior means of the latents, [N, d]."""
    with open(work / "model" / f"z.{epochs}.pkl", "rb") as handle:
        return np.asarray(pickle.load(handle), np.float64)


def decode(program: str, work: Path, epochs: int, latents: np.ndarray) -> list[np.ndarray]:
    """Its volumes at latents [M, d], in the convention of our maps (z, y, x)."""
    np.savetxt(work / "scored.txt", latents)
    model, folder = work / "model", work / "volumes"
    command = [program, "eval_vol", str(model / f"weights.{epochs}.pkl")]
    command += ["-c", str(model / "config.yaml"), "--zfile", str(work / "scored.txt")]
    with open(work / "decode.log", "w") as log:
        subprocess.run([*command, "-o", str(folder)], check=True, stdout=log, stderr=log)
    return [mrcfile.read(path).astype(np.float32) for path in sorted(folder.glob("*.mrc"))]


def score_volumes(truth: Truth, volumes: list[np.ndarray]) -> tuple[float, float]:
    """Per-image FSC area, unmasked and masked: the better of as they are and rigidly aligned.

    The sign of all volumes, which is a convention, is the truth's.
    """
    images = benchmark_images(len(truth))
    true = [truth.maps[truth.frame[i]].astype(np.float32) for i in images]
    mean, target = np.mean(volumes, axis=0), np.mean(true, axis=0)
    if np.sum((mean - mean.mean()) * (target - target.mean())) < 0.0:
        mean, volumes = -mean, [-volume for volume in volumes]
    gauge = align_volumes(mean, target, truth.pixel_size_angstrom, "local")
    moved = [apply_to_volume(gauge, v, truth.pixel_size_angstrom) for v in volumes]
    mask = mask_from_map(truth.mean_map())
    places = np.arange(len(images))

    def best(used: np.ndarray | None) -> float:
        found = [
            per_image_fsc(those.__getitem__, true.__getitem__, places, used).mean
            for those in (volumes, moved)
        ]
        return max(found)

    return best(None), best(mask)


def state_correlations(latents: np.ndarray, truth: Truth) -> tuple[float, float]:
    """|rank correlation| with the truth of the first principal component, and the best linear."""
    white = latents - latents.mean(axis=0)
    first = np.linalg.svd(white, full_matrices=False)[2][0]
    state = truth.states[:, 0]
    best = np.linalg.lstsq(white, state - state.mean(), rcond=None)[0]
    return abs(rank_correlation(white @ first, state)), rank_correlation(white @ best, state)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of particles.star, .mrcs and the truth")
    parser.add_argument("--cryodrgn", default="cryodrgn", help="its program")
    parser.add_argument("--work", type=Path, default=Path("drgn_run"))
    parser.add_argument("--latents", type=int, default=8)
    parser.add_argument("--width", type=int, default=256, help="of its layers (its default: 1024)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    network = (options.latents, options.width)
    seconds = train(options.cryodrgn, options.data, options.work, network, options.epochs)
    truth = load_truth(options.data)
    latents = latents_of(options.work, options.epochs)
    scored = latents[benchmark_images(len(truth))]
    volumes = decode(options.cryodrgn, options.work, options.epochs, scored)
    unmasked, masked = score_volumes(truth, volumes)
    first, best = state_correlations(latents, truth)
    version = subprocess.run(
        [options.cryodrgn, "--version"], check=True, capture_output=True, text=True
    ).stdout.strip()
    text = f"""# {version} on `{options.data}`

{options.latents} latents, layers {options.width} wide, {options.epochs} epochs.

| score | value |
|---|---|
| per-image FSC area, unmasked / masked | {unmasked:.3f} / {masked:.3f} |
| state rank correlation, first principal component of the latents | {first:.3f} |
| the same of the linear combination that fits the truth best | {best:.3f} |
| CPU seconds of its training, user + system | {seconds:.0f} |
"""
    print(text)
    if options.out is not None:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
