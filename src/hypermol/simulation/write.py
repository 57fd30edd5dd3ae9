"""Writing a simulated data set as ordinary files, and its truth beside them.

```
out/particles.star, particles.mrcs      what a fit reads: consensus poses, RELION 3.1
out/truth/truth.star                    the same particles with their true poses
out/truth/truth.npz                     t [N] (or [N, d]), frame [N] (index of the nearest truth
                                        map), contrast [N], scale [N], noise_sd_over_signal,
                                        noise_sd [N], noise_power [box // 2 + 1], snr, space;
                                        of each state variable state_names, state_kinds
                                        ("interval", "circle", "classes" or "line") and
                                        state_classes (how many; class c is (c + 1/2) / n)
out/truth/truth_maps.npz                maps float16 [F, n, n, n], tau [F, d], apix
```

A written image is `scale * (contrast * CTF * projection(map) + noise) - offset`; `noise_sd` and
`noise_power` (by shell round(|k|), mean over particles, orthonormal transform) are in the written
images' unit. `../shared/data/adk` holds the same keys `t`, `frame`, `contrast`,
`noise_sd_over_signal` and `scale` with all files in one folder and maps without `tau`; there the
map of a particle is `maps[frame]`. A reader that goes by `frame` and looks for each key reads
both.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from hypermol.analysis.knobs import space_knobs
from hypermol.io.atomic import make_folder
from hypermol.io.errors import InputError
from hypermol.io.metadata import ParticleMetadata
from hypermol.io.mrc import write_stack
from hypermol.io.star_write import relion_tables, write_particles_star
from hypermol.io.store import write_npz
from hypermol.simulation.images import Simulation
from hypermol.simulation.sources import nearest_state
from hypermol.space.state_space import Circle

STACK_NAME = "particles.mrcs"
STACK_TYPES = ("float16", "float32")
_TRUTH_MAPS = 50


def write_dataset(
    out: str | Path,
    simulation: Simulation,
    *,
    dtype: str = "float32",
    n_truth_maps: int = _TRUTH_MAPS,
    overwrite: bool = False,
) -> Path:
    """Write a simulation (see the module's text for the files).

    Args:
        out: folder; made if missing.
        simulation: what `simulate` gave.
        dtype: of the stack, "float32" or "float16".
        n_truth_maps: about how many maps of a molecule to keep as truth.
        overwrite: replace a data set that is there already.

    Returns:
        path of particles.star.

    Raises:
        InputError: the folder holds a data set, or the type is not one of `STACK_TYPES`.
    """
    out = Path(out)
    if dtype not in STACK_TYPES:
        raise InputError(f"stack type {dtype!r}: choose one of {', '.join(STACK_TYPES)}")
    particles = out / "particles.star"
    if particles.exists() and not overwrite:
        raise InputError(f"{particles} exists: choose another folder, or allow overwriting")
    truth = make_folder(out / "truth")
    scales: list[np.ndarray] = []
    images = _images(simulation, scales)
    write_stack(out / STACK_NAME, images, simulation.settings.pixel_size_angstrom, dtype)
    metadata = particle_metadata(simulation, out / STACK_NAME)
    latents = simulation.latents
    write_particles_star(
        truth / "truth.star",
        metadata,
        rotations=latents.rotations,
        shifts_angstrom=latents.shifts_angstrom,
    )
    _write_truth(truth, simulation, np.concatenate(scales), n_truth_maps)
    write_particles_star(particles, metadata)  # last: a data set that is named is whole
    return particles


def _images(simulation: Simulation, scales: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The images batch by batch; the scale of each is added to `scales`."""
    for batch in simulation.batches():
        scales.append(batch.scale)
        yield batch.images


def particle_metadata(simulation: Simulation, stack: Path) -> ParticleMetadata:
    """The particles with their consensus poses, images in `stack` in order."""
    n = len(simulation)
    latents = simulation.latents
    metadata = ParticleMetadata(
        stack_paths=np.full(n, str(stack.absolute())),
        stack_indices=np.arange(n),
        rotations=latents.consensus_rotations,
        shifts_angstrom=latents.consensus_shifts_angstrom,
        ctf=latents.ctf,
        pixel_size_angstrom=simulation.settings.pixel_size_angstrom,
        box=simulation.settings.box,
        half_set=latents.half_set,
        optics_group=np.ones(n, np.int64),
    )
    tables = relion_tables(metadata)
    # named relative to the data set's folder, so that the folder can be moved
    names = [f"{i + 1:06d}@{stack.name}" for i in range(n)]
    tables["particles"] = tables["particles"].assign(rlnImageName=names)
    return replace(metadata, table=tables)


def _write_truth(folder: Path, simulation: Simulation, scale: np.ndarray, n_maps: int) -> None:
    settings, latents = simulation.settings, simulation.latents
    space = simulation.source.state_space
    knobs = space_knobs(space)
    maps, tau = simulation.source.truth_maps(n_maps, simulation.grid)
    volumes = {"maps": maps, "tau": tau, "apix": np.asarray(settings.pixel_size_angstrom)}
    write_npz(folder / "truth_maps.npz", volumes, compressed=True)
    snr = settings.noise.snr
    variance = simulation.noise_sd**2 * np.mean(scale**2)
    known = {
        "t": latents.tau[:, 0] if space.dim == 1 else latents.tau,
        "frame": nearest_state(latents.tau, tau, space),
        "contrast": latents.contrast,
        "scale": scale,
        "noise_sd": simulation.noise_sd * scale,
        "noise_power": variance * simulation.noise.shell_power,
        "noise_sd_over_signal": 0.0 if snr is None else 1.0 / np.sqrt(snr),
        "snr": np.inf if snr is None else snr,
        "space": "circle" if isinstance(space, Circle) else "interval",
        "state_names": list(space.names),
        "state_kinds": [knob.kind for knob in knobs],
        "state_classes": np.array([len(knob.labels) for knob in knobs], int),
    }
    arrays = {name: np.asarray(value) for name, value in known.items()}
    write_npz(folder / "truth.npz", arrays, compressed=True)
