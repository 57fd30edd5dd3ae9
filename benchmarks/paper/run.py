"""The paper's experiment (sec. 5): images of a toy with nothing known of them, found from nothing.

    python benchmarks/paper/run.py pretzel --n 2000 --snr 0.0333 --out /tmp/paper
    python benchmarks/paper/run.py pretzel --n 20000 --copies --out /tmp/paper20
    python benchmarks/paper/run.py cat --n 2000 --box 64 --snr 0.1 --out /tmp/cat
    python benchmarks/paper/run.py pretzel --copies --n 500 --box 48 --snr 0.2 --resolution 32 \
        --papers 200 --out /tmp/papers

Simulates the toy (shifts, CTF and contrasts unknown, directions uniform), fits it with
`--poses search`, and again from the true poses for comparison, scores both, and draws figures 1 and
3 to 7 of the paper. With `--copies` the model knows that there are two equal arms about an axis,
not where the axis is; without, it knows of two states alone. SNR is variance of the clean image
over variance of the noise over the whole box. A folder that holds a part of this goes on. With
`--papers` the same images are fitted from nothing by the paper's own recipe too, beside the others:
several starts at a low resolution, the second mode while burning in, then MALA and random walks.
"""

import argparse
import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from early_figures import draw_first_map, draw_hands, first_map
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from hypermol.analysis.alignment import align_volumes
from hypermol.analysis.equivalent_poses import Equivalent, choose, turned
from hypermol.analysis.fsc import fsc
from hypermol.analysis.gauge import apply_to_volume, pose_errors
from hypermol.analysis.particle_summary import summarise_particles
from hypermol.analysis.run import Run, load_run
from hypermol.analysis.truth import Truth, load_truth
from hypermol.analysis.volumes import mean_state_volumes
from hypermol.data import ParticleSource
from hypermol.fitting.fit import Progress, fit
from hypermol.molecule.gallery import toy
from hypermol.recipe.options import FitOptions
from hypermol.report.style import BLUE, GREY, ORANGE, RED, new_figure, no_ticks, tidy
from hypermol.runtime import configure
from hypermol.simulation import MoleculeSource, Noise, Poses, Settings, simulate, write_dataset
from hypermol.space.fourier import crop_or_pad_volume

#: Side of the box in Angstrom, and the toys' radius in it, whatever the pixels.
BOX_ANGSTROM, RADIUS_ANGSTROM = 377.5, 140.0
BALL = {"centre_angstrom": [0.0, 0.0, 0.0], "radius_angstrom": 155.0}
#: Side of the maps whose moving parts are compared: finer than any frequency that is modelled.
COARSE = 48
#: The paper's own recipe (sec. 5); its chain moves little in a sweep, and many are thrown away.
PAPERS: dict[str, Any] = {
    "schedule": "second-mode",
    "theta": "mala",
    "particles": "random-walk",
    "spectrum": "flat",
    "chains": 1,
    "thin": 5,
}
#: Frobenius distances whose shares are told; an image within the middle one is aligned.
DISTANCES = (0.5, 0.3, 0.1)
#: The pretzel's two arms change places under half a turn about z; the cat has no such thing.
SAME = Equivalent(np.eye(3), (0, 1))
HALF_TURN = Equivalent(np.diag([-1.0, -1.0, 1.0]), (1, 0))


def model(name: str, copies: bool) -> dict[str, Any]:
    """What is fitted: nothing in it says where parts are. The pretzel has two states that deform
    it independently, each anywhere, or two equal parts; the cat one state."""
    if name == "cat":
        return {"basis": "cosine"}
    if copies:
        arm = {"name": "arm", "region": BALL, "state_basis": "cosine"}
        return {"part": ({**arm, "symmetry": "C2"},)}
    first = {"name": "first", "region": BALL, "state_basis": "cosine"}
    return {"part": (first, {**first, "name": "second", "constant": False})}


def on_prolates(options: FitOptions) -> FitOptions:
    """The same molecule on the paper's spatial basis."""
    if not options.part:
        return replace(options, spatial_basis="prolates")
    return replace(options, part=tuple({**p, "spatial_basis": "prolates"} for p in options.part))


def data(name: str, out: Path, args: argparse.Namespace) -> Path:
    """The particle set, simulated if it is not there yet."""
    folder = out / "data"
    if not (folder / "particles.star").exists():
        settings = Settings(
            n=args.n,
            box=args.box,
            pixel_size_angstrom=BOX_ANGSTROM / args.box,
            seed=args.seed,
            poses=Poses(shift_sd_angstrom=12.0),
            noise=Noise(snr=args.snr),
            contrast_sd=0.15,
        )
        molecule = toy(name, RADIUS_ANGSTROM)
        write_dataset(folder, simulate(MoleculeSource(molecule), settings), overwrite=True)
    return folder


def fitted(particles: Path, folder: Path, out: Path, options: FitOptions) -> Run:
    """The run, begun, gone on with or as it is."""
    began, told = time.time(), [""]

    def tell(at: Progress) -> None:
        if at.stage.name != told[0]:
            told[0] = at.stage.name
            minutes = (time.time() - began) / 60.0
            print(f"  {out.name}: {at.stage.name} ({at.share:.0%}, {minutes:.0f} min)", flush=True)

    info = out / "run.json"
    if not (info.exists() and json.loads(info.read_text())["finished"]):
        fit(ParticleSource(particles, image_dir=folder), out, options, tell, resume=info.exists())
    return load_run(out)


def labelled(found: np.ndarray, true: np.ndarray) -> list[tuple[int, float]]:
    """The run's knob of every true one in the best labelling, and their |rank correlation|."""
    table = np.array([[abs(spearmanr(f, t)[0]) for f in found.T] for t in true.T])
    ways = itertools.permutations(range(found.shape[1]), len(table))
    best = max(ways, key=lambda way: sum(table[k, w] for k, w in enumerate(way)))
    return [(w, float(table[k, w])) for k, w in enumerate(best)]


def correlations(found: np.ndarray, true: np.ndarray) -> list[float]:
    """|rank correlation| of every true knob with the run's, in the best labelling, [d]."""
    return [value for _, value in labelled(found, true)]


def scored(run: Run, truth: Truth, name: str) -> dict[str, Any]:
    """Shares of aligned images, correlations of states, and the gauge that took truth to run."""
    summary = summarise_particles(run)
    pixel = run.info["pixel_size_angstrom"]
    own = (summary.rotations, summary.shift_px * pixel)
    choices = (SAME, HALF_TURN) if name == "pretzel" else (SAME,)
    choice = choose((truth.rotations, truth.shifts_angstrom), own, choices)
    nearest = turned((truth.rotations, truth.shifts_angstrom), choices, choice.which)
    degrees, angstrom = pose_errors(choice.gauge, nearest, own)
    distance = 2.0 * np.sqrt(2.0) * np.sin(np.radians(degrees) / 2.0)
    true = truth.states
    if name == "pretzel":
        true = np.where((choice.which == 1)[:, None], true[:, ::-1], true)
    aligned, found = distance < DISTANCES[1], summary.state  # of each particle's own pose
    return {
        "within": {str(d): float(np.mean(distance < d)) for d in DISTANCES},
        "median_distance": float(np.median(distance)),
        "shift_error_px_median": float(np.median(angstrom) / pixel),
        "states": correlations(found, true),
        "states_aligned": correlations(found[aligned], true[aligned]),
        "flipped": bool(choice.gauge.flipped),
        "trial_scores": json.loads((run.directory.path / "found.json").read_text()).get(
            "trial_scores"
        ),
        "wall_minutes": run.info.get("wall_seconds", np.nan) / 60.0,
        "cpu_minutes": run.info.get("cpu_seconds", np.nan) / 60.0,
    } | {"_": {"distance": distance, "true": true, "found": found, "gauge": choice.gauge}}


def on_own_scale(found: np.ndarray, true: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The run's state for each true one wanted [F]: medians of particles in bins of the true."""
    edges = np.quantile(true, np.linspace(0.0, 1.0, 21))
    middle = 0.5 * (edges[1:] + edges[:-1])
    place = np.clip(np.searchsorted(edges, true, side="right") - 1, 0, 19)
    medians = np.array([np.median(found[place == i]) for i in range(20)])
    return np.interp(wanted, middle, medians)


def moving_fsc(run: Run, truth: Truth, case: dict[str, Any]) -> dict[str, Any]:
    """FSC of what moves: maps in the states of the truth's, the mean over states taken out of
    both, where the true maps vary; mean over states, and the first shell below 0.5."""
    own = case["_"]
    matched = labelled(own["found"], own["true"])
    states = np.zeros((len(truth.maps), own["found"].shape[1]))
    for knob, (column, _) in enumerate(matched):
        states[:, column] = on_own_scale(
            own["found"][:, column], own["true"][:, knob], truth.map_states[:, knob]
        )
    pixel, back = BOX_ANGSTROM / COARSE, own["gauge"].inverse()
    found = crop_or_pad_volume(mean_state_volumes(run, states), COARSE)
    found = np.stack([apply_to_volume(back, volume, pixel) for volume in found])
    true = crop_or_pad_volume(truth.maps.astype(np.float32), COARSE)
    gauge = align_volumes(found.mean(axis=0), true.mean(axis=0), pixel)
    found = np.stack([apply_to_volume(gauge, volume, pixel) for volume in found])
    varies = true.std(axis=0)
    region = gaussian_filter((varies > 0.2 * varies.max()).astype(float), 2.0)
    curves = [
        fsc(one, other, region)
        for one, other in zip(found - found.mean(axis=0), true - true.mean(axis=0), strict=True)
    ]
    curve = np.mean(curves, axis=0)
    below = np.flatnonzero(curve[1:] < 0.5)
    return {
        "moving_fsc": [round(float(value), 3) for value in curve[:25]],
        "moving_fsc_below_half_at_shell": int(below[0]) + 1 if len(below) else len(curve),
    }


def draw_molecule(run: Run, truth: Truth, gauge: Any, path: Path) -> None:
    """Figures 1 and 3: true molecules, and the run's in the nearest states, as projections."""
    dim = run.state_space.dim
    nodes = run.nodes(7) if dim == 1 else np.stack([np.linspace(0.07, 0.93, 7)] * dim, axis=1)
    volumes = mean_state_volumes(run, nodes)
    back = [apply_to_volume(gauge.inverse(), v, run.info["pixel_size_angstrom"]) for v in volumes]
    maps = truth.maps.astype(np.float32)
    flat = maps.reshape(len(maps), -1)
    near = [int(np.argmax(flat @ v.ravel() / np.linalg.norm(flat, axis=1))) for v in back]
    figure = new_figure(9.0, 2.9, tight=True)
    axes = figure.subplots(2, len(nodes))
    for column, (volume, place) in enumerate(zip(back, near, strict=True)):
        for ax, shown in zip(axes[:, column], (maps[place], volume), strict=True):
            ax.imshow(shown.sum(axis=1), cmap="gray", origin="lower")
            no_ticks(ax)
    axes[0, 0].set_ylabel("truth")
    axes[1, 0].set_ylabel("run")
    figure.savefig(path, dpi=150)


def draw_scores(cases: dict[str, dict[str, Any]], path: Path) -> None:
    """Figures 6 and 7: errors of directions, and found states against true ones."""
    figure = new_figure(9.0, 3.2)
    axes = figure.subplots(1, 1 + len(cases))
    for (label, case), colour in zip(cases.items(), (BLUE, GREY, RED), strict=False):
        edges = np.linspace(0.0, 2.9, 60)
        axes[0].hist(case["_"]["distance"], edges, histtype="step", color=colour, label=label)
    axes[0].axvline(DISTANCES[1], color=ORANGE, lw=0.8)
    axes[0].legend(fontsize=8, frameon=False)
    tidy(axes[0], "Frobenius distance", "images", "Directions")
    for ax, (label, case) in zip(axes[1:], cases.items(), strict=True):
        found, true = case["_"]["found"], case["_"]["true"]
        for knob, (own, _) in enumerate(labelled(found, true)):
            ax.plot(true[:, knob], found[:, own], ".", ms=1.5, alpha=0.5)
        tidy(ax, "true state", "posterior mean state", f"States, {label}")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("molecule", choices=("pretzel", "cat"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--box", type=int, default=151)
    parser.add_argument("--snr", type=float, default=1.0 / 30.0)
    parser.add_argument("--seed", type=int, default=0, help="of the data and of the fit")
    parser.add_argument("--copies", action="store_true", help="the model has two equal arms")
    parser.add_argument("--chains", type=int, default=2, help="more of them for honest intervals")
    parser.add_argument("--samples", type=int, default=10, help="of each chain")
    parser.add_argument("--papers", type=int, help="sweeps a stage of the paper's own recipe")
    parser.add_argument("--resolution", type=float, default=20.0, help="finest detail, Angstrom")
    args = parser.parse_args()
    print(configure(), flush=True)
    folder = data(args.molecule, args.out, args)
    truth = load_truth(folder)
    common = FitOptions(
        resolution_angstrom=args.resolution,
        seed=args.seed,
        chains=args.chains,
        samples=args.samples,
        **model(args.molecule, args.copies),
    )
    true_poses = folder / "truth" / "truth.star"
    jobs = {
        "from nothing": (folder / "particles.star", replace(common, poses="search")),
        "true poses": (true_poses, replace(common, poses="fixed")),
    }
    if args.papers:
        papers = replace(common, poses="search", burn_in=args.papers, **PAPERS)
        jobs["paper recipe"] = (folder / "particles.star", on_prolates(papers))
    cases = {}
    for label, (particles, options) in jobs.items():
        run = fitted(particles, folder, args.out / label.replace(" ", "_"), options)
        cases[label] = scored(run, truth, args.molecule)
        cases[label] |= moving_fsc(run, truth, cases[label])
        picture = args.out / f"molecule_{label.replace(' ', '_')}.png"
        draw_molecule(run, truth, cases[label]["_"]["gauge"], picture)
        if label == "from nothing":
            source = ParticleSource(particles, image_dir=folder)
            draw_first_map(first_map(run, source, options), truth, args.out / "first_map.png")
            draw_hands(run, args.out / "hands.png")
        numbers = {key: value for key, value in cases[label].items() if key != "_"}
        print(label, json.dumps(numbers), flush=True)
        (args.out / f"{label.replace(' ', '_')}.json").write_text(json.dumps(numbers, indent=2))
    draw_scores(cases, args.out / "scores.png")


if __name__ == "__main__":
    main()
