"""What theta's exact draw costs with and without its normal operator as a convolution.

    python benchmarks/theta_convolution.py 512 2000 5000

Images of the pretzel (151 px, SNR 1/30) at their true poses and random states; two equal arms of
five cosines about an axis, to 18 waves. Both ways draw with the same keys, in one run, one after
the other; times are medians of three draws after one that compiles.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from hypermol.data.source import ParticleSource
from hypermol.fitting.blocks.theta_exact import theta_exact
from hypermol.fitting.found import Found
from hypermol.fitting.level import Level, Levels
from hypermol.fitting.march import first_state
from hypermol.fitting.schedules import make_schedule
from hypermol.fitting.sweep import ChainState
from hypermol.molecule.gallery import toy
from hypermol.posterior import theta_conditional
from hypermol.recipe.options import FitOptions, make_design
from hypermol.simulation import MoleculeSource, Noise, Poses, Settings, simulate, write_dataset

BOX, BOX_ANGSTROM, RADIUS_ANGSTROM = 151, 377.5, 140.0
ARM = {
    "name": "arm",
    "region": {"centre_angstrom": [0.0, 0.0, 0.0], "radius_angstrom": 155.0},
    "state_basis": "cosine",
    "n_terms": 5,
    "symmetry": "C2",
}
OPTIONS = FitOptions(part=(ARM,), resolution_angstrom=20.0, radius_angstrom=165.0)


def world(n: int, folder: Path) -> tuple[Level, ChainState]:
    """The last level of a fit, at true poses and random states."""
    settings = Settings(
        n=n,
        box=BOX,
        pixel_size_angstrom=BOX_ANGSTROM / BOX,
        poses=Poses(shift_sd_angstrom=12.0),
        noise=Noise(snr=1.0 / 30.0),
        contrast_sd=0.15,
    )
    write_dataset(folder, simulate(MoleculeSource(toy("pretzel", RADIUS_ANGSTROM)), settings))
    particles = ParticleSource(folder / "truth" / "truth.star", image_dir=folder).load()
    design = make_design(OPTIONS, particles.box, particles.pixel_size_angstrom)
    stage = make_schedule(OPTIONS, particles, design)[-1]
    level = Levels(particles, OPTIONS, design, stage.kmax).level(stage, Found(165.0))
    state = first_state(level)
    space, shape = level.molecule.state_space, state.latents.contrast.shape
    states = space.sample_base(jax.random.key(1), shape)
    return level, state._replace(latents=state.latents._replace(state=states))


def timed(level: Level, state: ChainState, convolves: bool) -> tuple[float, int]:
    """Median seconds of a draw, and passes over the images that its solve makes."""
    theta_conditional.is_worthwhile = lambda *_: convolves
    block = theta_exact(level.posterior)
    seconds, passes = [], 0
    for draw in range(4):
        began = time.perf_counter()
        drawn, info = block.step(jax.random.key(draw), state, (), level.data)
        jax.block_until_ready(drawn)
        seconds.append(time.perf_counter() - began)
        passes = int(info["iterations"])
    return float(np.median(seconds[1:])), passes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=int, nargs="+")
    args = parser.parse_args()
    print("| images | s, passes without | s, passes with | ratio |\n|---|---|---|---|")
    for n in args.images:
        with tempfile.TemporaryDirectory() as folder:
            level, state = world(n, Path(folder) / "set")
            plain, plain_passes = timed(level, state, convolves=False)
            fast, passes = timed(level, state, convolves=True)
        row = f"| {n} | {plain:.1f}, {plain_passes} | {fast:.1f}, {passes} | {plain / fast:.1f} |"
        print(row)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
