"""`hypermol simulate`: data sets with known truth, to test a fit on."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hypermol.cli.sentences import Sentences
from hypermol.io.errors import InputError
from hypermol.io.metadata import CtfParameters
from hypermol.io.star import read_particles_star
from hypermol.io.structures import read_structure
from hypermol.molecule.gallery import cat as cat_molecule
from hypermol.molecule.gallery import pretzel as pretzel_molecule
from hypermol.simulation import (
    MoleculeSource,
    Noise,
    Poses,
    RandomCtf,
    Settings,
    Source,
    simulate,
    structure_source,
    write_dataset,
)
from hypermol.simulation.settings import STATE_NAMES
from hypermol.simulation.structures import DensityGrid

app = typer.Typer(
    cls=Sentences, help="Simulate a particle set with known truth.", no_args_is_help=True
)

_Radius = Annotated[float, typer.Option(help="Radius of the molecule in Angstrom.")]


@dataclass(frozen=True)
class Common:
    """Options of every simulation; the help of each is its typer text."""

    out: Annotated[Path, typer.Option(help="Folder to write to.")]
    n: Annotated[int, typer.Option(help="Number of images.")] = 5000
    box: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 64
    pixel_size: Annotated[float, typer.Option(help="Angstrom a pixel.")] = 6.0
    snr: Annotated[
        float,
        typer.Option(
            help="Variance of the clean images over variance of the noise, over the whole box; "
            "0 for no noise."
        ),
    ] = 0.1
    noise: Annotated[str, typer.Option(help="white or coloured.")] = "white"
    states: Annotated[
        str,
        typer.Option(help="uniform, two-peaks, or a .npy or text file with a state a line."),
    ] = "uniform"
    ctf: Annotated[
        str,
        typer.Option(
            help="random (300 kV, 1-3 um), none, or a STAR file whose CTFs are drawn from."
        ),
    ] = "random"
    directions: Annotated[str, typer.Option(help="uniform or preferred.")] = "uniform"
    shift_sd: Annotated[float, typer.Option(help="Sd of the shifts in Angstrom.")] = 6.0
    contrast_sd: Annotated[float, typer.Option(help="Sd of the contrast, whose mean is 1.")] = 0.1
    rotation_error: Annotated[
        float,
        typer.Option(
            help="Error of the poses written: sd in degrees of each component of a rotation vector."
        ),
    ] = 2.0
    shift_error: Annotated[
        float, typer.Option(help="Error of the shifts written: sd in pixels of each component.")
    ] = 0.7
    dtype: Annotated[str, typer.Option(help="float32 or float16 images.")] = "float32"
    seed: Annotated[int, typer.Option(help="Everything drawn follows from it.")] = 0
    overwrite: Annotated[bool, typer.Option(help="Replace a data set in the folder.")] = False


def _with_common(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Common`; it takes them as its argument `common`."""
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "common"]
    names = [f.name for f in fields(Common)]
    shared = [
        inspect.Parameter(
            f.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if f.default is MISSING else f.default,
            annotation=f.type,
        )
        for f in fields(Common)
    ]

    def run(**options: Any) -> None:
        chosen = {name: options.pop(name) for name in names}
        command(common=Common(**chosen), **options)

    run.__name__ = command.__name__
    run.__doc__ = command.__doc__
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + shared
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


@app.command()
@_with_common
def cat(
    common: Common,
    radius: _Radius = 140.0,
    circle: Annotated[bool, typer.Option(help="Let the head turn all the way round.")] = False,
) -> None:
    """The cat: one state, the direction of its head."""
    write_simulation(MoleculeSource(cat_molecule(radius, circle=circle)), common)


@app.command()
@_with_common
def pretzel(
    common: Common,
    radius: _Radius = 140.0,
    arms: Annotated[int, typer.Option(help="Number of arms that move: 1 or 2.")] = 2,
) -> None:
    """The pretzel: a rigid base and two equal arms that curl independently."""
    write_simulation(MoleculeSource(pretzel_molecule(radius, arms=arms)), common)


@app.command()
@_with_common
def structures(
    common: Common,
    file: Annotated[Path, typer.Argument(help="PDB or mmCIF with several models, or a DCD.")],
    topology: Annotated[
        Path | None, typer.Option(help="For a DCD: the PSF or PDB that names its atoms.")
    ] = None,
    resolution: Annotated[
        float | None, typer.Option(help="Resolution in Angstrom; 3 pixels by default.")
    ] = None,
    n_states: Annotated[
        int | None,
        typer.Option(help="Number of states, interpolated between frames; all frames by default."),
    ] = None,
    circle: Annotated[bool, typer.Option(help="The last frame leads back to the first.")] = False,
) -> None:
    """The motion of an atomic structure: the models of a file, or a trajectory."""
    grid = DensityGrid(common.box, common.pixel_size, resolution or 3.0 * common.pixel_size)
    structure = read_structure(file, topology)
    write_simulation(structure_source(structure, grid, n_states=n_states, circle=circle), common)


def write_simulation(source: Source, common: Common) -> None:
    """Simulate, write, and say where."""
    simulation = simulate(source, settings_of(common))
    path = write_dataset(common.out, simulation, dtype=common.dtype, overwrite=common.overwrite)
    typer.echo(
        f"{len(simulation)} images of {common.box} px in {path}, truth in {path.parent}/truth"
    )


def settings_of(common: Common) -> Settings:
    """The simulation's settings from the options."""
    return Settings(
        n=common.n,
        box=common.box,
        pixel_size_angstrom=common.pixel_size,
        seed=common.seed,
        poses=Poses(
            directions=common.directions,
            shift_sd_angstrom=common.shift_sd,
            rotation_error_deg=common.rotation_error,
            shift_error_px=common.shift_error,
        ),
        noise=Noise(None if common.snr == 0.0 else common.snr, common.noise),
        contrast_sd=common.contrast_sd,
        states=_states(common.states),
        ctf=_ctf(common.ctf),
    )


def _states(text: str) -> str | np.ndarray:
    if text in STATE_NAMES or not Path(text).is_file():
        return text
    try:
        if Path(text).suffix == ".npy":
            return np.load(text)
        return np.loadtxt(text, ndmin=2)
    except (ValueError, EOFError) as error:
        raise InputError(f"{text} is not a table of numbers: give a state a line") from error


def _ctf(text: str) -> RandomCtf | CtfParameters | None:
    if text == "random":
        return RandomCtf()
    if text == "none":
        return None
    return read_particles_star(text).ctf
