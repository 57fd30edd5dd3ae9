"""What optical and geometrical quantities can be, and which unit a number out of range may be in.

What no microscope has is refused; what is possible but odd comes back as a remark. Both guess the
unit aloud where another unit would make the number usual.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hypermol.io.errors import InputError
from hypermol.io.metadata import ParticleMetadata

_PHASE_PLATE_DEG = 1.0
_FEW_ROWS = 20


class Quantity(NamedTuple):
    """What a column may hold.

    Attributes:
        name: in words.
        unit: of the column.
        low, high: the least and the most that is possible.
        usual: (low, high) of nearly all experiments, by which other units are guessed.
        units: other units by name, with the factor that makes them the column's.
    """

    name: str
    unit: str
    low: float
    high: float
    usual: tuple[float, float] = (np.inf, np.inf)
    units: Mapping[str, float] = {}

    def guess(self, value: float) -> str:
        """What to do with a value that is out of range."""
        for unit, factor in self.units.items():
            if self.usual[0] <= abs(value) * factor <= self.usual[1]:
                return (
                    f"it looks like {unit}: multiply the column by {factor:g}, which makes this "
                    f"{value * factor:g} {self.unit}".rstrip()
                )
        return (
            f"correct it, between {self.low:g} and {self.high:g} {self.unit} is possible".replace(
                "  ", " "
            )
        )


_LENGTHS = {"nm": 1e1, "micrometres": 1e4, "mm": 1e7, "metres": 1e10, "pm": 1e-2}

VOLTAGE = Quantity(
    "voltage", "kV", 10.0, 3000.0, (60.0, 1300.0), {"volts": 1e-3, "MV": 1e3, "0.1 kV": 0.1}
)
ABERRATION = Quantity(
    "spherical aberration",
    "mm",
    -1.0,
    20.0,
    (0.5, 8.0),
    {"micrometres": 1e-3, "nm": 1e-6, "Angstrom": 1e-7, "metres": 1e3},
)
AMPLITUDE_CONTRAST = Quantity(
    "amplitude contrast", "", 0.0, 1.0, (0.01, 0.3), {"percent, not a fraction": 1e-2}
)
DEFOCUS = Quantity("defocus", "Angstrom", -2e5, 2e5, (2500.0, 1e5), _LENGTHS)
ANGLE_DEG = Quantity("angle", "degrees", -720.0, 720.0)
ANGLE_RAD = Quantity(
    "angle", "radians", -12.6, 12.6, (0.0, 6.4), {"degrees": float(np.deg2rad(1.0))}
)
B_FACTOR = Quantity("B-factor", "Angstrom^2", -1e3, 1e4, (0.0, 1e3), {"nm^2": 1e2})
SCALE = Quantity("scale of the CTF", "", 1e-3, 1e3)
PIXEL_SIZE = Quantity("pixel size", "Angstrom", 0.1, 100.0, (0.3, 20.0), _LENGTHS)

#: Below this no defocus is measured: all values this small are in another unit.
_LEAST_DEFOCUS_ANGSTROM = 50.0
_SMALL_DEFOCUS_ANGSTROM = 2500.0


def refuse_impossible(path: Path, column: str, values: np.ndarray, quantity: Quantity) -> None:
    """Refuse values [N] that the quantity cannot have.

    Raises:
        InputError: names file, row, column and value, and the unit that it looks like.
    """
    bad = np.flatnonzero(~((values >= quantity.low) & (values <= quantity.high)))
    if len(bad):
        _refuse(path, column, values, quantity, bad)


def _refuse(
    path: Path, column: str, values: np.ndarray, quantity: Quantity, bad: np.ndarray
) -> None:
    value = float(values[bad[0]])
    unit = f" {quantity.unit}" if quantity.unit else ""
    raise InputError(
        f"{path} row {bad[0] + 1}: {column}, the {quantity.name}, is {value:g}{unit} "
        f"({_rows(len(bad), len(values))}): {quantity.guess(value)}"
    )


def _rows(bad: int, n: int) -> str:
    return "all rows" if bad == n else f"{bad} of {n} rows"


def refuse_wrong_defocus(
    path: Path, column: str, values: np.ndarray, phase_shift_deg: np.ndarray
) -> None:
    """Refuse defoci [N] that are impossible, in another unit, or missing in single rows.

    Data without any defocus (all 0, as simulations have) pass, and single rows near focus where a
    phase plate was used.
    """
    refuse_impossible(path, column, values, DEFOCUS)
    small = np.abs(values) < _LEAST_DEFOCUS_ANGSTROM
    if np.all(values == 0.0):
        return
    if not np.all(small):
        small &= np.abs(phase_shift_deg) < _PHASE_PLATE_DEG
    if not np.any(small):
        return
    if np.any(values[small] != 0.0) or np.median(np.abs(values)) > _SMALL_DEFOCUS_ANGSTROM:
        named = small & (values != 0.0) if np.any(values[small] != 0.0) else small
        _refuse(path, column, values, DEFOCUS, np.flatnonzero(named))


def refuse_shifts_out_of_the_box(metadata: ParticleMetadata, box: int) -> None:
    """Refuse shifts that put a particle outside its own image.

    Raises:
        InputError: names file, row, shift and box.
    """
    half = 0.5 * box * metadata.pixel_size_angstrom
    largest = np.abs(metadata.shifts_angstrom).max(axis=1, initial=0.0)
    bad = np.flatnonzero(largest > half)
    if len(bad):
        raise InputError(
            f"{metadata.source} row {metadata.row_numbers[bad[0]]}: the shift (origin) is "
            f"{largest[bad[0]]:g} Angstrom, which puts the particle outside its image of "
            f"{2 * half:g} Angstrom ({_rows(len(bad), len(metadata))}): correct the unit of the "
            "origins (rlnOriginXAngst is in Angstrom, rlnOriginX and alignments3D/shift in "
            f"pixels) or of the pixel size ({metadata.pixel_size_angstrom:g} Angstrom), or extract "
            "the particles again, centred"
        )


def odd_optics(metadata: ParticleMetadata) -> tuple[str, ...]:
    """Remarks about optics that are possible but look like a mistake."""
    ctf, path = metadata.ctf, metadata.source
    said = []
    defocus = 0.5 * (ctf.defocus_u_angstrom + ctf.defocus_v_angstrom)
    median = float(np.median(np.abs(defocus)))
    plate = np.abs(ctf.phase_shift_deg) >= _PHASE_PLATE_DEG
    if median == 0.0:
        said.append(f"{path} has defocus 0 in most rows: right for simulated images only")
    elif median < _SMALL_DEFOCUS_ANGSTROM and not np.any(plate):
        said.append(
            f"{path} has a defocus of {median:g} Angstrom (median), which is little: if it is in "
            "nm, multiply the columns by 10"
        )
    negative = int(np.sum(defocus < 0.0))
    if negative:
        said.append(
            f"{path} has negative defocus in {negative} rows: taken as overfocus; if the program "
            "that wrote it counts underfocus as negative, multiply the columns by -1"
        )
    difference = np.abs(ctf.defocus_u_angstrom - ctf.defocus_v_angstrom)
    strong = int(np.sum((difference > np.abs(defocus)) & (np.abs(defocus) > 0)))
    if strong:
        said.append(
            f"{path} has an astigmatism larger than the defocus in {strong} rows: the two defoci "
            "(rlnDefocusU and rlnDefocusV, ctf/df1_A and ctf/df2_A) may be in different units"
        )
    said += _odd_constants(metadata)
    return tuple(said)


def _odd_constants(metadata: ParticleMetadata) -> list[str]:
    ctf, path = metadata.ctf, metadata.source
    said = []
    largest_cs = float(np.abs(ctf.spherical_aberration_mm).max())
    if 0.0 < largest_cs < 0.1:
        said.append(
            f"{path} has a spherical aberration of {largest_cs:g} mm: right only for an "
            "aberration-corrected microscope; if it is in metres, multiply it by 1000"
        )
    if float(np.median(ctf.amplitude_contrast)) > 0.5:
        said.append(
            f"{path} has an amplitude contrast of {np.median(ctf.amplitude_contrast):g}, a "
            "fraction: 0.07 to 0.1 is usual in ice; if it is in percent, divide by 100"
        )
    if np.any(ctf.b_factor_angstrom2 < 0.0):
        said.append(
            f"{path} has negative B-factors, by which RELION's formula amplifies fine detail: "
            "if the program that wrote them means decay, multiply the column by -1"
        )
    turn = float(np.abs(ctf.phase_shift_deg).max())
    if 0.1 < turn < 3.2:
        said.append(
            f"{path} has phase shifts of at most {turn:g} degrees: if they are in radians, "
            "multiply the column by 57.2958"
        )
    size = metadata.pixel_size_angstrom
    if size < 0.25:
        said.append(
            f"{path} has a pixel size of {size:g} Angstrom, which is small: if it is in nm, give "
            f"--pixel-size {10 * size:g}"
        )
    return said


def odd_euler_angles(path: Path, angles_deg: np.ndarray) -> tuple[str, ...]:
    """A remark where Euler angles [N, 3] all lie within a few degrees, as radians would."""
    rot, tilt, psi = np.asarray(angles_deg).T
    turned = np.ptp(rot) > 1.0 and np.ptp(psi) > 1.0
    within = max(np.abs(rot).max(), np.abs(psi).max(), np.abs(tilt).max()) <= 2 * np.pi
    if len(rot) < _FEW_ROWS or not (turned and within):
        return ()
    return (
        f"{path} has Euler angles that all lie within 6.3 degrees: if they are in radians, "
        "multiply the columns by 57.2958",
    )
