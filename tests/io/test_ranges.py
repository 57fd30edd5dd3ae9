"""Units and ranges: every quantity in every wrong unit is refused with the right guess, or said."""

import re
from collections.abc import Callable

import numpy as np
import pytest

from hypermol.io.errors import InputError
from hypermol.io.mrc import write_stack
from hypermol.io.star import read_particles_star

N = 4
OPTICS = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", "rlnImagePixelSize")

#: Column, its value in a wrong unit or out of range, and what the message must guess.
IMPOSSIBLE = [
    ("rlnVoltage", 300000, "looks like volts: multiply the column by 0.001, .* 300 kV"),
    ("rlnVoltage", 0.3, "looks like MV: multiply the column by 1000, which makes this 300 kV"),
    ("rlnVoltage", 0, "between 10 and 3000 kV is possible"),
    ("rlnVoltage", -300, "between 10 and 3000 kV is possible"),
    ("rlnSphericalAberration", 2700, "looks like micrometres.*2.7 mm"),
    ("rlnSphericalAberration", 2.7e7, "looks like Angstrom.*2.7 mm"),
    ("rlnSphericalAberration", 2.7e6, "looks like nm.*2.7 mm"),
    ("rlnAmplitudeContrast", 7, "looks like percent, not a fraction: .* makes this 0.07"),
    ("rlnAmplitudeContrast", -0.1, "between 0 and 1 is possible"),
    ("rlnDefocusU", 2.1, "looks like micrometres: multiply .* 10000, .* 21000 Angstrom"),
    ("rlnDefocusV", -1.7, "looks like micrometres: multiply .* -17000 Angstrom"),
    ("rlnDefocusU", 0.0021, "looks like mm"),
    ("rlnDefocusU", 2.1e-6, "looks like metres"),
    ("rlnDefocusU", 2.1e6, "looks like pm"),
    ("rlnDefocusAngle", 4000, "between -720 and 720 degrees"),
    ("rlnPhaseShift", 900, "between -720 and 720 degrees"),
    ("rlnCtfBfactor", 1e6, "between -1000 and 10000 Angstrom.2 is possible"),
    ("rlnCtfScalefactor", 0, "between 0.001 and 1000 is possible"),
    ("rlnCtfScalefactor", -1, "between 0.001 and 1000 is possible"),
    ("rlnAnglePsi", 7200, "between -720 and 720"),
    ("rlnImagePixelSize", 150, "looks like pm: .* 1.5 Angstrom"),
    ("rlnImagePixelSize", 1.5e-10, "looks like metres: .* 1.5 Angstrom"),
    ("rlnImagePixelSize", 0.05, "looks like nm: .* 0.5 Angstrom"),
]


def with_column(blocks: dict, column: str, value: object) -> dict:
    if column in OPTICS:
        blocks["optics"][column] = [value]
    else:
        blocks["particles"][column] = [value] * N
    return blocks


@pytest.mark.parametrize(("column", "value", "said"), IMPOSSIBLE)
def test_wrong_units_are_guessed(write_star: Callable, relion31: dict, column, value, said):
    path = write_star(with_column(relion31, column, value))
    with pytest.raises(InputError, match=rf"particles\.star row 1: {column}, .*all rows.*{said}"):
        read_particles_star(path)


def test_one_row_in_another_unit_is_named(write_star: Callable, relion31: dict):
    relion31["particles"]["rlnDefocusU"][2] = 1.9
    with pytest.raises(InputError, match=r"row 3: rlnDefocusU.* is 1\.9 .*1 of 4 rows.*micromet"):
        read_particles_star(write_star(relion31))


def test_one_row_without_defocus_is_named(write_star: Callable, relion31: dict):
    relion31["particles"]["rlnDefocusU"][1] = 0
    with pytest.raises(InputError, match=r"row 2: rlnDefocusU, the defocus, is 0 Angstrom .1 of 4"):
        read_particles_star(write_star(relion31))


#: Possible, but odd: column, value, and what is said.
ODD = [
    ("rlnDefocusU", 1900, "defocus of .* Angstrom .median., which is little: if it is in nm"),
    ("rlnDefocusU", -15000, "negative defocus in 4 rows: taken as overfocus"),
    ("rlnSphericalAberration", 0.0027, "right only for an aberration-corrected microscope"),
    ("rlnAmplitudeContrast", 0.93, "amplitude contrast of 0.93.* if it is in percent"),
    ("rlnCtfBfactor", -80, "negative B-factors"),
    ("rlnPhaseShift", 1.57, "if they are in radians"),
    ("rlnImagePixelSize", 0.15, "if it is in nm, give --pixel-size 1.5"),
]


@pytest.mark.parametrize(("column", "value", "said"), ODD)
def test_odd_values_are_said(write_star: Callable, relion31: dict, column, value, said):
    blocks = with_column(relion31, column, value)
    if column == "rlnDefocusU":
        blocks = with_column(blocks, "rlnDefocusV", value)
    (remark,) = read_particles_star(write_star(blocks)).remarks
    assert re.search(said, remark)


def test_usual_optics_have_no_remark(write_star: Callable, relion31: dict):
    for voltage, aberration, contrast in ((80, 1.3, 0.0), (200, 0, 0.1), (300, 2.7, 0.07)):
        relion31["optics"]["rlnVoltage"] = [voltage]
        relion31["optics"]["rlnSphericalAberration"] = [aberration]
        relion31["optics"]["rlnAmplitudeContrast"] = [contrast]
        assert read_particles_star(write_star(relion31)).remarks == ()


def test_a_phase_plate_goes_near_focus(write_star: Callable, relion31: dict):
    particles = relion31["particles"]
    particles["rlnPhaseShift"] = [90] * N
    particles["rlnDefocusU"] = particles["rlnDefocusV"] = [0, 30, -40, 200]
    assert "negative defocus" in " ".join(read_particles_star(write_star(relion31)).remarks)


def test_defoci_in_two_units_are_said(write_star: Callable, relion31: dict):
    relion31["particles"]["rlnDefocusV"] = [1500] * N
    (remark,) = read_particles_star(write_star(relion31)).remarks
    assert "astigmatism larger than the defocus in 4 rows" in remark


def test_angles_in_radians_are_said(write_star: Callable, relion31: dict):
    rng = np.random.default_rng(0)
    blocks = {"optics": relion31["optics"], "particles": {}}
    for name, values in relion31["particles"].items():
        blocks["particles"][name] = (values * 8)[:30]
    assert read_particles_star(write_star(blocks)).remarks == ()
    for name in ("Rot", "Tilt", "Psi"):
        blocks["particles"][f"rlnAngle{name}"] = rng.uniform(0, np.pi, 30).round(4).tolist()
    (remark,) = read_particles_star(write_star(blocks)).remarks
    assert "if they are in radians, multiply the columns by 57.2958" in remark


def test_the_headers_pixel_size_is_no_default(write_star: Callable, relion31: dict, tmp_path):
    del relion31["optics"]["rlnImagePixelSize"]
    path = write_star(relion31)
    write_stack(tmp_path / "stack.mrcs", np.zeros((N, 8, 8)), 1.0)
    with pytest.raises(InputError, match=r"voxel size 1 in its header, .*give --pixel-size"):
        read_particles_star(path)
    assert read_particles_star(path, pixel_size_angstrom=1.0).pixel_size_angstrom == 1.0
    write_stack(tmp_path / "stack.mrcs", np.zeros((N, 8, 8)), 400.0)
    with pytest.raises(InputError, match="voxel size, the pixel size, is 400 Angstrom"):
        read_particles_star(path)
