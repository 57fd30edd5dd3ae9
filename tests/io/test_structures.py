"""Structures: PDB, mmCIF and DCD of other programs, and small files written here."""

import builtins
from pathlib import Path

import gemmi
import numpy as np
import pytest

from hypermol.io.errors import InputError
from hypermol.io.structures import read_dcd, read_structure

ATOMS = [("N", "N"), ("CA", "C"), ("C", "C"), ("O", "O"), ("H", "H")]


def pdb_text(frames: np.ndarray, water: bool = False) -> str:
    lines = []
    for number, frame in enumerate(frames, start=1):
        lines.append(f"MODEL     {number:4d}")
        for i, ((name, element), (x, y, z)) in enumerate(zip(ATOMS, frame, strict=False), start=1):
            lines.append(
                f"ATOM  {i:5d}  {name:<3s} GLY A   1    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00"
                f"          {element:>2s}"
            )
        if water:
            lines.append(
                "HETATM   99  O   HOH A   2       1.000   1.000   1.000  1.00  0.00           O"
            )
        lines.append("ENDMDL")
    return "\n".join([*lines, "END", ""])


def frames_of(n_frames: int, n_atoms: int = 5) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n_frames, n_atoms, 3)).round(3) * 10


def dcd_bytes(frames: np.ndarray, order: str, cell: bool, fixed: int = 0) -> bytes:
    """A CHARMM trajectory, record by record."""

    def record(content: bytes) -> bytes:
        mark = np.array([len(content)], order + "i4").tobytes()
        return mark + content + mark

    control = np.zeros(20, order + "i4")
    control[0], control[8], control[10], control[19] = 0, fixed, int(cell), 24
    out = record(b"CORD" + control.tobytes())
    out += record(np.array([1], order + "i4").tobytes() + b"title".ljust(80))
    out += record(np.array([frames.shape[1]], order + "i4").tobytes())
    for frame in frames:
        if cell:
            out += record(np.arange(6).astype(order + "f8").tobytes())
        for axis in range(3):
            out += record(frame[:, axis].astype(order + "f4").tobytes())
    return out


def test_models_are_frames(tmp_path: Path):
    frames = frames_of(3)
    (tmp_path / "a.pdb").write_text(pdb_text(frames))
    found = read_structure(tmp_path / "a.pdb", hydrogens=True)
    np.testing.assert_allclose(found.positions_angstrom, frames, atol=1e-3)
    assert found.n_frames == 3
    assert found.elements.tolist() == ["N", "C", "C", "O", "H"]
    assert found.atomic_numbers.tolist() == [7, 6, 6, 8, 1]
    np.testing.assert_allclose(found.masses, [14.007, 12.011, 12.011, 15.999, 1.008], atol=1e-3)


def test_hydrogens_and_waters_are_dropped(tmp_path: Path):
    (tmp_path / "a.pdb").write_text(pdb_text(frames_of(1), water=True))
    assert read_structure(tmp_path / "a.pdb").elements.tolist() == ["N", "C", "C", "O"]
    with_water = read_structure(tmp_path / "a.pdb", waters=True)
    assert with_water.elements.tolist() == ["N", "C", "C", "O", "O"]


def test_mmcif_gives_the_same_atoms(tmp_path: Path):
    (tmp_path / "a.pdb").write_text(pdb_text(frames_of(2)))
    structure = gemmi.read_structure(str(tmp_path / "a.pdb"))
    structure.setup_entities()
    structure.make_mmcif_document().write_file(str(tmp_path / "a.cif"))
    pdb, cif = read_structure(tmp_path / "a.pdb"), read_structure(tmp_path / "a.cif")
    np.testing.assert_allclose(cif.positions_angstrom, pdb.positions_angstrom)
    assert cif.elements.tolist() == pdb.elements.tolist()


def test_alternative_locations_are_read_once(tmp_path: Path):
    text = pdb_text(frames_of(1))
    line = next(x for x in text.splitlines() if " CA " in x)
    both = line[:16] + "A" + line[17:] + "\n" + line[:16] + "B" + line[17:]
    (tmp_path / "a.pdb").write_text(text.replace(line, both))
    assert read_structure(tmp_path / "a.pdb").elements.tolist() == ["N", "C", "C", "O"]


def test_elements_of_files_without_their_column(tmp_path: Path):
    """CA at the wrong column is the alpha carbon, not calcium; a calcium ion stays one."""
    text = pdb_text(frames_of(1)).replace("  CA  GLY", " CA   GLY")
    text = "\n".join(line[:76] for line in text.splitlines() if line != "ENDMDL" and line != "END")
    text += "\nHETATM   98 CA    CA A   3       1.000   1.000   1.000  1.00  0.00\nENDMDL\nEND\n"
    (tmp_path / "a.pdb").write_text(text)
    assert read_structure(tmp_path / "a.pdb").elements.tolist() == ["N", "C", "C", "O", "Ca"]


@pytest.mark.parametrize("cell", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_trajectories_of_both_byte_orders(tmp_path: Path, order: str, cell: bool):
    frames = frames_of(4)
    (tmp_path / "a.dcd").write_bytes(dcd_bytes(frames, order, cell))
    (tmp_path / "a.pdb").write_text(pdb_text(frames[:1]))
    np.testing.assert_allclose(read_dcd(tmp_path / "a.dcd"), frames, rtol=1e-6)
    found = read_structure(tmp_path / "a.dcd", tmp_path / "a.pdb")
    np.testing.assert_allclose(found.positions_angstrom, frames[:, :4], rtol=1e-6)


def test_a_trajectory_cut_off_gives_its_whole_frames(tmp_path: Path):
    frames = frames_of(4)
    (tmp_path / "a.dcd").write_bytes(dcd_bytes(frames, "<", True)[:-30])
    np.testing.assert_allclose(read_dcd(tmp_path / "a.dcd"), frames[:3], rtol=1e-6)


def test_adenylate_kinase(shared_data: Path):
    """98 frames; the last is near the closed structure, the first near the open one."""
    folder = shared_data / "structures"
    moving = read_structure(folder / "adk_dims.dcd", folder / "adk.psf")
    assert moving.positions_angstrom.shape == (98, 1656, 3)
    opened = read_structure(folder / "adk_open.pdb")
    closed = read_structure(folder / "adk_closed.pdb")
    for still in (opened, closed):
        assert still.elements.tolist() == moving.elements.tolist()

    def radius(positions: np.ndarray) -> np.ndarray:
        centred = positions - positions.mean(axis=-2, keepdims=True)
        return np.sqrt((centred**2).sum(axis=-1).mean(axis=-1))

    ends = radius(moving.positions_angstrom)[[0, -1]]
    stills = [radius(closed.positions_angstrom)[0], radius(opened.positions_angstrom)[0]]
    np.testing.assert_allclose(sorted(ends), sorted(stills), atol=0.3)
    with_hydrogens = read_structure(folder / "adk_dims.dcd", folder / "adk.psf", hydrogens=True)
    assert with_hydrogens.positions_angstrom.shape == (98, 3341, 3)
    antibody = read_structure(folder / "1hzh.pdb")
    assert set(antibody.elements) == {"C", "N", "O", "S"}


def test_topology_faults(tmp_path: Path):
    frames = frames_of(2)
    (tmp_path / "a.dcd").write_bytes(dcd_bytes(frames, "<", False))
    with pytest.raises(InputError, match=r"a\.dcd holds positions only: pass"):
        read_structure(tmp_path / "a.dcd")
    (tmp_path / "few.pdb").write_text(pdb_text(frames[:, :3]))
    with pytest.raises(InputError, match=r"a\.dcd has 5 atoms and .*few\.pdb has 3: pass"):
        read_structure(tmp_path / "a.dcd", tmp_path / "few.pdb")
    atom = "       1 A 1 GLY N 56 -0.3 {} 0"
    (tmp_path / "a.psf").write_text("PSF\n\n 1 !NATOM\n" + atom.format("8.0") + "\n")
    with pytest.raises(InputError, match=r"a\.psf atom 1: mass 8 is no element's: pass"):
        read_structure(tmp_path / "a.dcd", tmp_path / "a.psf")
    (tmp_path / "a.psf").write_text("PSF\n\n 2 !NATOM\n" + atom.format("14.0") + "\n")
    with pytest.raises(InputError, match=r"a\.psf lists 1 of 2 atoms: write"):
        read_structure(tmp_path / "a.dcd", tmp_path / "a.psf")
    with pytest.raises(InputError, match=r"topology .*a\.dcd is neither"):
        read_structure(tmp_path / "a.dcd", tmp_path / "a.dcd")


def test_file_faults(tmp_path: Path):
    with pytest.raises(InputError, match=r"no\.pdb does not exist: check"):
        read_structure(tmp_path / "no.pdb")
    (tmp_path / "a.xyz").write_text("1\n")
    with pytest.raises(InputError, match=r"a\.xyz is none of \.pdb, \.cif, \.dcd: convert"):
        read_structure(tmp_path / "a.xyz")
    (tmp_path / "empty.pdb").write_text("END\n")
    with pytest.raises(InputError, match=r"empty\.pdb has no atoms: check"):
        read_structure(tmp_path / "empty.pdb")
    frames = frames_of(2)
    text = pdb_text(frames)
    before, after = text.rsplit("ATOM", 1)
    (tmp_path / "differ.pdb").write_text(before + after.split("\n", 1)[1])
    with pytest.raises(InputError, match=r"differ\.pdb model 2 has 4 atoms that differ from the 5"):
        read_structure(tmp_path / "differ.pdb")
    (tmp_path / "text.dcd").write_text("hello" * 50)
    with pytest.raises(InputError, match=r"text\.dcd is not a DCD trajectory"):
        read_dcd(tmp_path / "text.dcd")
    (tmp_path / "fixed.dcd").write_bytes(dcd_bytes(frames, "<", False, fixed=2))
    with pytest.raises(InputError, match=r"fixed\.dcd leaves out fixed atoms: write"):
        read_dcd(tmp_path / "fixed.dcd")
    (tmp_path / "none.dcd").write_bytes(dcd_bytes(frames[:0], "<", False))
    with pytest.raises(InputError, match=r"none\.dcd has no whole frame"):
        read_dcd(tmp_path / "none.dcd")


def test_gemmi_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.pdb").write_text(pdb_text(frames_of(1)))
    plain_import = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name == "gemmi":
            raise ImportError(name)
        return plain_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=r"pip install 'hypermol\[structures\]'"):
        read_structure(tmp_path / "a.pdb")
