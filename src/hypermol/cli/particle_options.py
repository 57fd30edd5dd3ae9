"""Options of the verbs that read particles."""

from pathlib import Path
from typing import Annotated

import typer

ImageDir = Annotated[
    Path | None, typer.Option(help="Folder of the stacks, if not beside the particle file.")
]
Passthrough = Annotated[
    list[Path] | None,
    typer.Option(help="Passthrough .cs file of the job; may be given more than once."),
]
PixelSize = Annotated[
    float | None,
    typer.Option(help="Pixel size of the images in Angstrom, in place of the particle file's."),
]
LeaveOutOutliers = Annotated[
    bool | None,
    typer.Option(help="Leave out images that differ from the others, instead of refusing them."),
]
Normalise = Annotated[
    bool | None,
    typer.Option(help="Bring the background of each image to mean 0 and sd 1."),
]
