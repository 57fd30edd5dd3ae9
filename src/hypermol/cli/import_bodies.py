"""`hypermol import-bodies`: RELION's multi-body definition as a recipe."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hypermol.cli.particle_options import ImageDir, Passthrough, PixelSize
from hypermol.data.source import ParticleSource
from hypermol.io.atomic import make_folder
from hypermol.io.bodies import read_bodies
from hypermol.io.errors import InputError
from hypermol.recipe.bodies import LARGEST, body_tables
from hypermol.recipe.options import FitOptions
from hypermol.recipe.toml import write_recipe


def import_bodies(
    bodies: Annotated[Path, typer.Argument(help="RELION's body STAR file.")],
    particles: Annotated[Path, typer.Argument(help="RELION .star or cryoSPARC .cs file.")],
    out: Annotated[Path, typer.Option(help="Recipe to write, for `hypermol fit --recipe`.")],
    held: Annotated[
        int,
        typer.Option(help="Body held at the consensus, from 1; -1 the largest mask, 0 none."),
    ] = LARGEST,
    image_dir: ImageDir = None,
    passthrough: Passthrough = None,
    pixel_size: PixelSize = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a recipe that is there.")] = False,
) -> None:
    """Turn RELION's bodies into a recipe of rigid parts that move one against another."""
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists: add --overwrite, or choose another --out")
    loaded = ParticleSource(particles, image_dir, tuple(passthrough or ()), pixel_size).load()
    found = read_bodies(bodies)
    tables = body_tables(found, loaded.box, loaded.pixel_size_angstrom, held)
    make_folder(out.parent)
    write_recipe(out, FitOptions(part=tables))
    console = Console()
    for table in tables:
        motion = table.get("trajectory")
        moves = (
            "held"
            if motion is None
            else (
                f"turns by {motion['rotation_sd_rad']:.3g} rad and moves by "
                f"{motion['shift_sd_angstrom']:.3g} Angstrom (sd) about {motion['centre_angstrom']}"
            )
        )
        console.print(f"{table['name']}: {Path(table['region']['mask']).name}, {moves}")
    console.print(f"wrote {out}: next, hypermol check {out} {particles}", markup=False)
