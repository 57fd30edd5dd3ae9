"""Multi-body refinement as a composite: RELION's bodies to the part tables of a recipe.

Nakane, Kimanius, Lindahl and Scheres, "Characterisation of molecular motions in cryo-EM
single-particle data by multi-body refinement in RELION", eLife 7:e36861 (2018). A body is a rigid
part in its soft mask; its six states are a rotation vector about the mask's centre of mass and a
translation, each normal with the width that the file gives. Differences from RELION:

- One body is held at the consensus, the largest unless another is asked for: the particle's own
  pose carries it. Were all bodies free, a motion of all together and of the particle would be the
  same, and only priors would tell them apart. The others' motions are relative to it.
- The prior of a rotation is the same about every axis, so that `rlnBodyRotateRelativeTo`, which
  orients RELION's tilt axis, changes nothing; offsets are in space, not in the image's plane.
- The centre of mass is not rounded to a voxel.
- Where masks overlap the density is shared out by the prior; nothing is subtracted from images.
- `rlnBodyReferenceName` is not read: the march starts from the consensus that it finds itself.
"""

import math
from collections.abc import Sequence
from typing import Any

from hypermol.io.bodies import Body
from hypermol.io.errors import InputError
from hypermol.molecule.region import read_mask
from hypermol.recipe.part_tables import read_parts

#: In place of a body's number: hold the largest, hold none.
LARGEST, NONE = -1, 0


def body_tables(
    bodies: Sequence[Body], box: int, pixel_size_angstrom: float, held: int = LARGEST
) -> tuple[dict[str, Any], ...]:
    """The bodies as `[[model.part]]` tables, checked by building them.

    Args:
        bodies: as `io.bodies.read_bodies` gives them; part i is named body_i, from 1.
        box: side of the images in pixels, which the masks must have.
        pixel_size_angstrom: of the images.
        held: number, from 1, of the body at the consensus; `LARGEST` the one of largest mask,
            `NONE` frees all that have a width.

    Raises:
        InputError: a mask that does not fit the images, or a body that does not exist.
    """
    masks = [read_mask(body.mask, box, pixel_size_angstrom) for body in bodies]
    if held == LARGEST:
        held = 1 + max(range(len(masks)), key=lambda i: float(masks[i].values.sum()))
    if not NONE <= held <= len(bodies):
        raise InputError(f"body {held} does not exist: hold one of 1 to {len(bodies)}, or 0 (none)")
    tables = []
    for number, (body, mask) in enumerate(zip(bodies, masks, strict=True), start=1):
        table: dict[str, Any] = {
            "name": f"body_{number}",
            "region": {"mask": str(body.mask)},
            "spatial_basis": "voxels",
        }
        if number != held and not body.held:
            table["trajectory"] = {
                "type": "rigid_body",
                "centre_angstrom": [round(value, 3) for value in mask.centre_of_mass()],
                "rotation_sd_rad": round(math.radians(body.rotation_sd_deg), 6),
                "shift_sd_angstrom": round(body.offset_sd_angstrom(pixel_size_angstrom), 6),
            }
        tables.append(table)
    if not any("trajectory" in table for table in tables):
        raise InputError(
            f"no body moves: body {held} is held and the others' widths are zero: give a width, "
            "or hold another body"
        )
    read_parts(tables, box, pixel_size_angstrom)
    return tuple(tables)
