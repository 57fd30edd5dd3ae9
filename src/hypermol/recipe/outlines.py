"""Where the parts of a design may be: what a figure outlines."""

from typing import NamedTuple

from hypermol.molecule.parts import Place
from hypermol.molecule.region import Ball, Region
from hypermol.recipe.design import AnyDesign
from hypermol.recipe.options import FitOptions


class Outline(NamedTuple):
    """A part's region at the places where it stands."""

    name: str
    region: Region
    places: tuple[Place, ...]


def outlines(design: AnyDesign, options: FitOptions) -> list[Outline]:
    """What to draw: each part's region, or the ball of the whole molecule if it is given."""
    radius = options.radius_angstrom
    ball = None if radius is None else Ball((0.0, 0.0, 0.0), radius)
    whole = [] if design.parts or ball is None else [Outline("molecule", ball, (Place(),))]
    regions = [(part, part.region or ball) for part in design.parts]
    return whole + [
        Outline(part.name or "molecule", region, part.places)
        for part, region in regions
        if region is not None
    ]
