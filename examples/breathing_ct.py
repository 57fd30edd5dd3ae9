"""Breathing from CT projections whose breathing phases nobody recorded.

A thorax of ellipsoids breathes irregularly while a parallel-beam gantry makes half a turn about
it. Every projection's direction is known; its phase, a point on a circle, is not. The molecule,
posterior and inference are those of cryo-EM; only the imaging operator is another
(`hypermol.imaging.tomography`). Read `reconstruct` first.

    python examples/breathing_ct.py --out folder
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from hypermol import runtime
from hypermol.analysis.states import (
    StateMap,
    circular_correlation,
    circular_errors,
    distance_matrix,
    match_states,
)
from hypermol.fitting.blocks.hyperparameters import hyperparameters
from hypermol.fitting.blocks.particles_by_candidates import particles_by_candidates
from hypermol.fitting.blocks.spectrum import spectrum
from hypermol.fitting.blocks.theta_exact import theta_exact
from hypermol.fitting.level import BLOCK, Form, Level, fill_blocks
from hypermol.fitting.march import carry, first_state
from hypermol.fitting.sweep import ChainState, Data, adapt_tunings, init_tunings, run_sweep
from hypermol.imaging.blocks import from_blocks, to_blocks
from hypermol.imaging.tomography import ParallelBeam, line_integrals, view_blocks, views_about_z
from hypermol.inference.ensemble import CandidateCounts
from hypermol.molecule.composite import expansion
from hypermol.molecule.spatial_basis.prolates import Prolates
from hypermol.molecule.spatial_basis.voxels import Voxels
from hypermol.molecule.state_basis import Constant, Fourier, Linear, StateBasis
from hypermol.posterior.posterior import Posterior
from hypermol.posterior.priors import HyperPrior, InverseGamma
from hypermol.space.fourier import crop_or_pad_volume, half_plane
from hypermol.space.normal import Gaussian
from hypermol.space.state_space import Circle

#: Attenuation of water at about 70 keV, in 1/mm.
WATER = 0.0193
#: Frames of the movie, and of them in the montage.
FRAMES, SHOWN = 24, 6
#: Gaussian that pictures are smoothed with: 1/7 is left at the highest frequency.
SMOOTH_VOXELS = 0.7


@dataclass(frozen=True)
class Scan:
    """How the phantom is scanned, and how it is reconstructed.

    Attributes:
        views: projections over half a turn.
        box: detector pixels along each side.
        pixel_mm: side of a detector pixel.
        open_beam: photons a pixel expects with nothing in the beam.
        seconds: time of the half turn; breaths take 3 to 5 seconds.
        coarse, fine: largest frequency before and after the circle, in 1/box.
        sweeps: of the constant map, of the linear subspace, of the circle.
        kept: of the circle's sweeps the last, averaged.
        seed: of everything random.
    """

    views: int = 600
    box: int = 32
    pixel_mm: float = 7.5
    open_beam: float = 1000.0
    seconds: float = 75.0
    coarse: int = 6
    fine: int = 9
    sweeps: tuple[int, int, int] = (2, 4, 9)
    kept: int = 5
    seed: int = 0


class Anatomy(NamedTuple):
    """Ellipsoids with axes along x (to the side), y (to the back), z (to the head), in mm.

    Attributes:
        centres: [T, E, 3].
        semi_axes: [T, E, 3].
        density: [E] in units of water, added where ellipsoids overlap.
    """

    centres: np.ndarray
    semi_axes: np.ndarray
    density: np.ndarray


def thorax(phase: np.ndarray) -> Anatomy:
    """A child's thorax at breathing phases [T] in turns.

    The diaphragm lags the chest by a quarter turn and the lesion goes round an ellipse of 34 by
    18 mm, so that breathing in and out are different: with one motion back and forth a phase and
    its mirror image would be the same state.
    """
    turn = 2.0 * np.pi * np.asarray(phase, np.float64)
    chest, diaphragm = np.cos(turn), np.sin(turn)

    def part(*values: float | np.ndarray) -> np.ndarray:
        return np.stack([value + np.zeros_like(turn) for value in values], axis=-1)

    top, bottom = 60.0 + 5.0 * chest, 54.0 + 7.0 * diaphragm
    middle, half = 0.5 * (top - bottom), 0.5 * (top + bottom)
    lung = part(25.0 + 2.0 * chest, 35.0 + 3.0 * chest, half)
    places = [
        (part(0.0, 0.0, 0.0), part(95.0, 66.0 + 2.0 * chest, 92.0), 1.0),
        (part(-47.0, 0.0, middle), lung, -0.75),
        (part(50.0, 0.0, middle), lung, -0.75),
        (part(3.0, -12.0, -15.0 - 3.0 * diaphragm), part(21.0, 23.0, 27.0), 0.25),
        (part(0.0, 46.0, 0.0), part(11.0, 11.0, 75.0), 0.7),
        (part(-47.0, 9.0 * chest, -2.0 - 17.0 * diaphragm), part(13.0, 13.0, 13.0), 0.75),
    ]
    centres, semi_axes, density = zip(*places, strict=True)
    return Anatomy(np.stack(centres, 1), np.stack(semi_axes, 1), np.array(density))


def attenuation(anatomy: Anatomy, n: int, voxel_mm: float, fine: int = 3) -> np.ndarray:
    """Attenuation in 1/mm averaged over voxels, [T, n, n, n]; the origin is voxel n // 2."""
    axis = (np.arange(n * fine) - (n // 2) * fine + 0.5 - 0.5 * fine) * (voxel_mm / fine)
    out = np.zeros((len(anatomy.centres), n, n, n), np.float32)
    for volume, centres, semi_axes in zip(out, anatomy.centres, anatomy.semi_axes, strict=True):
        for c, s, density in zip(centres, semi_axes, anatomy.density, strict=True):
            x, y, z = (((axis - c[i]) / s[i]) ** 2 for i in range(3))
            inside = z[:, None, None] + y[:, None] + x <= 1.0
            share = inside.reshape(n, fine, n, fine, n, fine).mean(axis=(1, 3, 5))
            volume += (WATER * density * share).astype(np.float32)
    return out


def ray_integrals(anatomy: Anatomy, rotations: np.ndarray, scan: Scan, rays: int) -> np.ndarray:
    """Exact line integrals along rays x rays rays a pixel, [T, box, rays, box, rays].

    In coordinates divided by its semi-axes an ellipsoid is a ball, whose chord is known.
    """
    axis = (np.arange(scan.box * rays) - (scan.box // 2) * rays + 0.5 - 0.5 * rays) / rays
    y, x = np.meshgrid(axis * scan.pixel_mm, axis * scan.pixel_mm, indexing="ij")
    out = np.zeros((len(rotations), *x.shape), np.float32)
    for t, rotation in enumerate(rotations):
        for c, s, density in zip(
            anatomy.centres[t], anatomy.semi_axes[t], anatomy.density, strict=True
        ):
            across, up, along = rotation / s
            length2 = along @ along
            point = x[..., None] * across + y[..., None] * up - c / s
            inner = point @ along
            inside = inner**2 - length2 * (np.sum(point**2, axis=-1) - 1.0)
            out[t] += WATER * density * 2.0 * np.sqrt(np.maximum(inside, 0.0)) / length2
    return out.reshape(len(rotations), scan.box, rays, scan.box, rays)


class Projections(NamedTuple):
    """A scan: photons [N, box, box], gantry angles [N] in radians; the phases [N] are the truth."""

    counts: np.ndarray
    angles: np.ndarray
    phases: np.ndarray


def simulate(scan: Scan) -> Projections:
    """Photons of every view, while the gantry turns and breaths of 3 to 5 seconds pass."""
    rng = np.random.default_rng(scan.seed)
    ends = np.cumsum(rng.uniform(3.0, 5.0, int(scan.seconds)))
    times = scan.seconds * (np.arange(scan.views) + 0.5) / scan.views
    phases = np.mod(np.interp(times, np.append(0.0, ends), np.arange(len(ends) + 1.0)), 1.0)
    angles = np.pi * times / scan.seconds
    integrals = ray_integrals(thorax(phases), views_about_z(angles), scan, rays=2)
    expected = scan.open_beam * np.exp(-integrals).mean(axis=(2, 4))
    return Projections(rng.poisson(expected), angles, phases)


def make_level(given: Projections, scan: Scan, basis: StateBasis, kmax: int) -> Level:
    """The posterior at one resolution: the cryo-EM one but for its imaging operator."""
    integrals, weights = line_integrals(given.counts, scan.open_beam)
    plane = half_plane(scan.box, kmax)
    images, consensus = view_blocks(integrals, weights, views_about_z(given.angles), plane, BLOCK)
    region = (scan.box, scan.pixel_mm, kmax, 0.44 * scan.box * scan.pixel_mm)
    # contrasts within 1 % of 1: nothing in a transmission image makes them vary
    prior = HyperPrior(contrast=InverseGamma(1e6, 1e6 * 0.01**2), n_bins=1)
    molecule = expansion(Prolates(*region), basis)
    posterior = Posterior(molecule, plane, prior, ParallelBeam(scan.pixel_mm))
    data = fill_blocks(Data(images, consensus))
    return Level(Form(molecule, kmax, ()), posterior, data, Voxels(*region))


def profile_states(given: Projections, scan: Scan) -> jax.Array:
    """Subspace states to start from, [n_blocks, block, 2]: each view summed across the axis.

    What a view sums to along z does not depend on its direction, so that its two leading principal
    components follow the breathing from the first view to the last. From random states every
    stretch of the half turn finds the motion in a gauge of its own, for views far apart share only
    this profile, and the chain takes long to agree.
    """
    profiles = line_integrals(given.counts, scan.open_beam)[0].sum(axis=2)
    scores = np.linalg.svd(profiles - profiles.mean(axis=0), full_matrices=False)[0][:, :2]
    return to_blocks((scores / scores.std(axis=0)).astype(np.float32), BLOCK)


class Result(NamedTuple):
    """What is recovered.

    Attributes:
        phases: [N] circular mean over the kept sweeps, in turns; origin and direction are free.
        level: of the circle.
        state: the last sweep's, its maps averaged over the kept sweeps.
        blurred: [n, n, n] the constant map, which ignores the motion.
        noise: variance of the noise relative to counting statistics, mean over shells.
    """

    phases: np.ndarray
    level: Level
    state: ChainState
    blurred: np.ndarray
    noise: float


def reconstruct(given: Projections, scan: Scan) -> Result:
    """Constant map, linear subspace, circle: the march of a fit, directions held."""
    stages = (
        (Constant(), scan.coarse),
        (Linear(Gaussian(2)), scan.coarse),
        (Fourier(5, Circle("phase")), scan.fine),
    )
    level, state, phasors, maps = None, None, [], []
    blurred = np.zeros(())
    for stage, ((basis, kmax), sweeps) in enumerate(zip(stages, scan.sweeps, strict=True)):
        key = jax.random.fold_in(jax.random.key(scan.seed), stage)
        new = make_level(given, scan, basis, kmax)
        state = first_state(new) if state is None else carry(key, state, level.form, new)
        level = new
        if stage == 1:
            start = profile_states(given, scan)
            state = state._replace(latents=state.latents._replace(state=start))
        posterior = level.posterior
        # as in a fit: maps first, given what is known of the views
        draws = (theta_exact(posterior), hyperparameters(posterior, learns_widths=False))
        # the constant map has no phases
        phases = (particles_by_candidates(posterior, CandidateCounts(1, 1, 32)),) if stage else ()
        sampling, burn_in = draws + phases, (*draws, spectrum(posterior), *phases)
        tunings = init_tunings(burn_in, state, level.data)
        for sweep, sweep_key in enumerate(jax.random.split(key, sweeps)):
            keeps = stage == 2 and sweep >= sweeps - scan.kept
            blocks = sampling if keeps else burn_in
            state, infos = run_sweep(sweep_key, blocks, state, tunings, level.data)
            if keeps:
                phasors.append(np.exp(2j * np.pi * np.asarray(state.latents.state)))
                maps.append(state.theta.maps)
            else:
                tunings = adapt_tunings(blocks, tunings, infos)
        if stage == 0:
            blurred = level.molecule.mean(state.theta)
    turns = np.angle(np.mean(phasors, axis=0)) / (2.0 * np.pi)
    phases = np.mod(from_blocks(turns, len(given.angles))[:, 0], 1.0)
    mean = jax.tree.map(lambda *draws: sum(draws) / len(draws), *maps)
    state = state._replace(theta=state.theta._replace(maps=mean))
    noise = float(np.mean(np.asarray(state.mu.noise_variance)[1:]))
    return Result(phases, level, state, blurred, noise)


class Film(NamedTuple):
    """Volumes [FRAMES, n, n, n] along the recovered phase, and the true ones they stand for."""

    recovered: np.ndarray
    truth: np.ndarray
    match: StateMap


def develop(result: Result) -> Film:
    """The recovered volumes; the true phase of each is found by comparing volumes alone."""
    molecule, grid = result.level.molecule, result.level.grid
    nodes = np.arange(FRAMES) / FRAMES
    density = jax.jit(lambda tau: molecule.density(result.state.theta, tau))
    recovered = np.stack([np.asarray(density(np.float32([tau]))) for tau in nodes])
    truth = attenuation(thorax(nodes), grid.n, grid.voxel_size_angstrom)
    match = match_states(distance_matrix(recovered, truth), nodes, nodes, "circle")
    shown = attenuation(thorax(match(nodes)), grid.n, grid.voxel_size_angstrom)
    return Film(recovered, shown, match)


def picture(volume: np.ndarray, voxel_mm: float) -> np.ndarray:
    """The coronal slice through the middle, head up; black is 0, white 1.4 times water.

    Smoothed, the truth like the rest: edges that end at the highest frequency ring.
    """
    volume = gaussian_filter(volume, SMOOTH_VOXELS)
    middle, half = volume.shape[0] // 2, round(105.0 / voxel_mm)
    window = slice(middle - half, middle + half + 1)
    return np.clip(volume[window, middle, window][::-1] / (1.4 * WATER), 0.0, 1.0)


def write_movie(path: Path, film: Film, result: Result) -> None:
    """A GIF of the truth, the recovered volumes, and the map that ignores the motion."""
    voxel, side, caption = result.level.grid.voxel_size_angstrom, 240, 18
    blurred = crop_or_pad_volume(result.blurred, result.level.grid.n)
    frames = []
    for index in range(FRAMES):
        frame = Image.new("L", (3 * side, side + caption))
        draw = ImageDraw.Draw(frame)
        panels = {
            "truth": film.truth[index],
            f"recovered, phase {index / FRAMES:.2f}": film.recovered[index],
            "motion ignored (coarse map)": blurred,
        }
        for column, (name, volume) in enumerate(panels.items()):
            grey = Image.fromarray((255 * picture(volume, voxel)).astype(np.uint8))
            frame.paste(grey.resize((side, side), Image.Resampling.BICUBIC), (column * side, 0))
            draw.text((column * side + 4, side + 3), name, fill=255)
        frames.append(frame)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, loop=0)


def write_montage(path: Path, film: Film, result: Result, truth: np.ndarray) -> None:
    """A PNG: SHOWN phases above each other, and recovered against true phases of the views."""
    voxel = result.level.grid.voxel_size_angstrom
    figure = Figure(figsize=(13, 4), layout="constrained")
    grid = figure.add_gridspec(2, SHOWN + 2)
    for column, index in enumerate(range(0, FRAMES, FRAMES // SHOWN)):
        rows = {"truth": film.truth, "recovered": film.recovered}
        for row, (name, volumes) in enumerate(rows.items()):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(picture(volumes[index], voxel), cmap="gray", vmin=0.0, vmax=1.0)
            axes.set(xticks=[], yticks=[], ylabel="" if column else name)
            if row == 0:
                axes.set_title(f"phase {index / FRAMES:.2f}")
    axes = figure.add_subplot(grid[:, SHOWN:])
    axes.plot(truth, film.match(result.phases), ".", markersize=3)
    axes.set(xlabel="true phase (turns)", ylabel="recovered phase (turns)", aspect="equal")
    figure.savefig(path, dpi=110)


class Scores(NamedTuple):
    """How well it went: circular correlation of the phases, and of those of the profiles alone
    that the march starts from; median error in turns after the best origin and direction."""

    correlation: float
    of_profiles: float
    median_error: float


def run(scan: Scan, out: Path) -> Scores:
    """Simulate, reconstruct, compare, and write breathing.gif and breathing.png into `out`."""
    began = time.process_time()
    given = simulate(scan)
    result = reconstruct(given, scan)
    start = from_blocks(profile_states(given, scan), scan.views)
    scores = Scores(
        circular_correlation(result.phases, given.phases),
        circular_correlation(np.arctan2(start[:, 1], start[:, 0]) / (2.0 * np.pi), given.phases),
        float(np.median(circular_errors(result.phases, given.phases))),
    )
    out.mkdir(parents=True, exist_ok=True)
    film = develop(result)
    write_movie(out / "breathing.gif", film, result)
    write_montage(out / "breathing.png", film, result, given.phases)
    print(
        f"{scan.views} views of {scan.box} x {scan.box} pixels, {given.counts.min()} photons or "
        f"more in a pixel\n"
        f"circular correlation of the phases: {scores.correlation:.3f} (start from profiles: "
        f"{scores.of_profiles:.3f}); median error {scores.median_error:.3f} turns\n"
        f"noise variance relative to counting statistics: {result.noise:.2f}\n"
        f"{out / 'breathing.gif'}, {out / 'breathing.png'}; "
        f"{time.process_time() - began:.0f} CPU seconds"
    )
    return scores


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    runtime.configure()
    run(Scan(), arguments.out)


if __name__ == "__main__":
    main()
