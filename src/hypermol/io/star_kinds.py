"""What a RELION file holds besides plain 2-D particles: refused where the images are of another
kind, said where a column changes what an image means and the imaging model leaves it out.
"""

import numpy as np

from hypermol.io.errors import InputError
from hypermol.io.star_tables import ParticleColumns

_NEUTRAL_TOLERANCE = 1e-9
_DIFFERENT = 1e-3
_WIDE_SCALES = 2.0

#: Columns that only 3-D data have, whatever their values.
_TOMOGRAPHY = ("rlnCtfImage", "rlnCoordinateZ", "rlnCenteredCoordinateZAngst")
_TOMOGRAPHY_START = "rlnTomo"
#: Columns that are 0 in 2-D data, where they are written at all.
_DEPTHS = ("rlnOriginZ", "rlnOriginZAngst")

#: Images that were changed: the column that says so by a 1, what it says, and the remedy.
_CHANGED = (
    (
        "rlnCtfDataAreCtfPremultiplied",
        "images premultiplied by the CTF",
        "extract them again without premultiplication",
    ),
    (
        "rlnCtfDataArePhaseFlipped",
        "images whose phases were flipped",
        "extract them again without phase flipping",
    ),
    (
        "rlnIsFlip",
        "mirrored images",
        "mirror them back, or remove these rows",
    ),
)

#: Terms outside the imaging model: their columns, each with the value that means "none".
_UNMODELLED = {
    "beam tilt": {"rlnBeamTiltX": 0.0, "rlnBeamTiltY": 0.0},
    "odd aberrations": {"rlnOddZernike": 0.0},
    "even aberrations": {"rlnEvenZernike": 0.0},
    "anisotropic magnification": {
        "rlnMagMat00": 1.0,
        "rlnMagMat01": 0.0,
        "rlnMagMat10": 0.0,
        "rlnMagMat11": 1.0,
        "rlnMatrix_1_1": 1.0,
        "rlnMatrix_1_2": 0.0,
        "rlnMatrix_2_1": 0.0,
        "rlnMatrix_2_2": 1.0,
    },
}


def refuse_other_kinds(columns: ParticleColumns) -> None:
    """Refuse subtomograms, and images that the imaging model would misread.

    Raises:
        InputError: names the file and the column that tells.
    """
    tomography = [n for n in columns.names if n in _TOMOGRAPHY or n.startswith(_TOMOGRAPHY_START)]
    if np.any(columns.numbers_or("rlnImageDimensionality", 2.0) == 3.0):
        tomography.insert(0, "rlnImageDimensionality 3")
    tomography += [n for n in _DEPTHS if np.any(columns.numbers_or(n, 0.0) != 0.0)]
    if tomography:
        raise InputError(
            f"{columns.path} lists particles of a tomogram ({', '.join(tomography[:3])}), as "
            "subtomograms or tilt series, which hypermol does not read: give single particles, "
            "2-D images with one pose each"
        )
    for column, what, remedy in _CHANGED:
        rows = np.flatnonzero(columns.numbers_or(column, 0.0) != 0.0)
        if len(rows):
            raise InputError(
                f"{columns.path} row {rows[0] + 1}: lists {what} ({column} 1, {len(rows)} such "
                f"rows): {remedy}"
            )


def star_remarks(columns: ParticleColumns) -> tuple[str, ...]:
    """One sentence a kind of thing that the file says and the fit leaves out."""
    path = columns.path
    said = []
    terms = _unmodelled(columns)
    if terms:
        said.append(
            f"{path} has {', '.join(terms)}, which the imaging model leaves out: the highest "
            "shells may suffer"
        )
    priors = [n for n in columns.names if n.startswith(("rlnAngle", "rlnOrigin")) and "Prior" in n]
    if priors:
        said.append(
            f"{path} has priors on poses ({', '.join(priors)}), which the fit does not use: poses "
            "are drawn about the input's own"
        )
    if columns.has("rlnHelicalTubeID"):
        said.append(
            f"{path} has helical segments (rlnHelicalTubeID): they are taken as single particles, "
            "without helical symmetry, and overlapping segments as independent"
        )
    if columns.has("rlnMtfFileName") and len(set(columns.text("rlnMtfFileName"))) > 1:
        said.append(
            f"{path} has several detectors' MTFs (rlnMtfFileName), which the imaging model leaves "
            "out"
        )
    said += _scales(columns) + _said_twice(columns) + _not_finite(columns)
    return tuple(said)


def _unmodelled(columns: ParticleColumns) -> list[str]:
    found = [
        term
        for term, neutral in _UNMODELLED.items()
        for name, value in neutral.items()
        if columns.has(name) and any(_differs(text, value) for text in set(columns.text(name)))
    ]
    return list(dict.fromkeys(found))


def _differs(text: object, neutral: float) -> bool:
    """Whether a number, or any number of a list such as [0.1,0,-0.3], is not `neutral`."""
    numbers = str(text).strip("[]").split(",")
    try:
        return any(abs(float(number) - neutral) > _NEUTRAL_TOLERANCE for number in numbers)
    except ValueError:
        return False


def _scales(columns: ParticleColumns) -> list[str]:
    """RELION divides images by rlnNormCorrection; here the contrast takes it up."""
    norm = columns.numbers_or("rlnNormCorrection", 1.0)
    low, high = np.quantile(norm, [0.05, 0.95])
    if low > 0.0 and high <= _WIDE_SCALES * low:
        return []
    return [
        f"{columns.path} has rlnNormCorrection from {low:g} to {high:g} (5 % to 95 %), by which "
        "the images are not divided: each image's contrast takes up what it can"
    ]


def _said_twice(columns: ParticleColumns) -> list[str]:
    """Columns that contradict another one, which is used in silence otherwise."""
    said = []
    for name in columns.in_both_blocks():
        particles, optics = columns.both(name)
        rows = np.flatnonzero(particles != optics)
        if len(rows) and _apart(particles[rows], optics[rows]):
            said.append(
                f"{columns.path} row {rows[0] + 1}: {name} is {particles[rows[0]]} in the particle "
                f"block, which is used, but {optics[rows[0]]} in data_optics"
            )
    if columns.has("rlnImagePixelSize") and columns.has("rlnPixelSize"):
        used, other = (columns.numbers_or(n, 0.0) for n in ("rlnImagePixelSize", "rlnPixelSize"))
        if np.any(np.abs(used - other) > _DIFFERENT * np.abs(used)):
            said.append(
                f"{columns.path} has rlnImagePixelSize {used[0]:g}, which is used, but "
                f"rlnPixelSize {other[0]:g}"
            )
    return said


def _apart(first: np.ndarray, second: np.ndarray) -> bool:
    try:
        a, b = first.astype(np.float64), second.astype(np.float64)
    except ValueError:
        return True
    return bool(np.any(np.abs(a - b) > _DIFFERENT * np.maximum(np.abs(a), np.abs(b))))


def _not_finite(columns: ParticleColumns) -> list[str]:
    """Columns that nothing here reads and that hold nan or inf: where they are, others may be."""
    words = {"nan", "inf", "-inf", "+inf", "<na>"}
    found = [
        name
        for name in columns.names
        if any(str(text).lower() in words for text in set(columns.text(name)))
    ]
    if not found:
        return []
    return [
        f"{columns.path} has values that are not finite in {', '.join(found)}, which the fit does "
        "not use"
    ]
