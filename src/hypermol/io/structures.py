"""Atomic structures: PDB and mmCIF (all models), and DCD trajectories with their topology."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hypermol.io.errors import InputError

_STRUCTURE_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif", ".pdb.gz", ".ent.gz", ".cif.gz")
_MASS_TOLERANCE = 0.5
#: Elements of biological simulations, for the mass to element reading of PSF files.
_PSF_ELEMENTS = ["H", "C", "N", "O", "F", "Na", "Mg", "P", "S", "Cl", "K", "Ca", "Mn", "Fe"]
_PSF_ELEMENTS += ["Co", "Ni", "Cu", "Zn", "Se", "Br", "I"]
_POLYMER_ELEMENTS = ("H", "D", "C", "N", "O", "S", "P", "Se")
_RESIDUE_ATOMS = ("CA", "C1'", "C1*")
_WATERS = ("TIP3", "HOH", "WAT", "SOL", "TIP")
#: Entries of a DCD file's control record.
_N_FIXED, _HAS_CELL, _HAS_FOURTH = 8, 10, 11


@dataclass(frozen=True, eq=False)
class Structure:
    """Atoms in one or more frames.

    Attributes:
        positions_angstrom: float64 [F, n_atoms, 3], (x, y, z).
        elements: str [n_atoms], element symbols such as "C" or "Zn".
        atomic_numbers: int64 [n_atoms].
        masses: float64 [n_atoms], standard atomic weights.
    """

    positions_angstrom: np.ndarray
    elements: np.ndarray
    atomic_numbers: np.ndarray
    masses: np.ndarray

    @property
    def n_frames(self) -> int:
        """Number of frames F."""
        return len(self.positions_angstrom)


def read_structure(
    path: str | Path,
    topology: str | Path | None = None,
    *,
    hydrogens: bool = False,
    waters: bool = False,
) -> Structure:
    """Read a PDB or mmCIF file (each model a frame) or a DCD trajectory.

    Of alternative locations only the first is kept.

    Args:
        path: .pdb, .ent, .cif, .mmcif (also with .gz) or .dcd.
        topology: for .dcd, the .psf or .pdb/.cif file that names its atoms in the same order.
        hydrogens: keep hydrogen atoms.
        waters: keep water molecules.

    Raises:
        InputError: the file cannot be read, the topology is missing or has another number of
            atoms, models differ in their atoms, or gemmi is not installed.
    """
    path = Path(path)
    _require_file(path)
    if path.suffix.lower() == ".dcd":
        if topology is None:
            raise InputError(f"{path} holds positions only: pass its .psf or .pdb file as topology")
        symbols, is_water = _read_topology(Path(topology))
        positions = read_dcd(path)
        if positions.shape[1] != len(symbols):
            raise InputError(
                f"{path} has {positions.shape[1]} atoms and {topology} has {len(symbols)}: pass "
                "the topology that the trajectory was written with"
            )
    elif _is_structure(path):
        positions, symbols, is_water = _read_models(path, first_only=False)
    else:
        raise InputError(f"{path} is none of .pdb, .cif, .dcd: convert it to one of these")
    return _build(path, positions, symbols, ~is_water | waters, hydrogens)


@dataclass(frozen=True, eq=False)
class Residues:
    """One point a residue, of the first model.

    Attributes:
        positions_angstrom: float64 [n, 3], (x, y, z) of C-alpha (proteins) or C1' (nucleic acids).
        electrons: float64 [n], sum of the atomic numbers of the residue's atoms in the file.
    """

    positions_angstrom: np.ndarray
    electrons: np.ndarray


def read_residues(path: str | Path) -> Residues:
    """Read the residues of a PDB or mmCIF file's first model; waters and ligands are left out.

    Raises:
        InputError: the file cannot be read, or has no C-alpha and no C1' atom with finite
            coordinates, or gemmi is not installed.
    """
    path = Path(path)
    _require_file(path)
    if not _is_structure(path):
        raise InputError(f"{path} is neither .pdb nor .cif: convert it to one of these")
    model = _open_structure(path)[:1]
    positions, electrons = [], []
    for residue in [residue for chain in (model[0] if model else []) for residue in chain]:
        found = {atom.name: atom for atom in residue}
        place = next((found[name] for name in _RESIDUE_ATOMS if name in found), None)
        # a residue named CA is a calcium ion
        if place is None or residue.name == "CA":
            continue
        positions.append(place.pos.tolist())
        electrons.append(float(sum(max(atom.element.atomic_number, 1) for atom in residue)))
    if not positions or not np.all(np.isfinite(positions)):
        raise InputError(
            f"{path} has no residue with coordinates of C-alpha or C1': check that it holds a "
            "protein or nucleic acid"
        )
    return Residues(np.array(positions), np.array(electrons))


def read_dcd(path: str | Path) -> np.ndarray:
    """Positions float64 [F, n_atoms, 3] in Angstrom of a CHARMM or NAMD trajectory.

    Frames are counted by the file's length, so that a run that was cut off gives its whole
    frames.

    Raises:
        InputError: not a DCD file, or one with fixed atoms or a fourth dimension.
    """
    path = Path(path)
    _require_file(path)
    content = np.fromfile(path, dtype=np.uint8)
    order = _byte_order(path, content)
    control = np.frombuffer(content[8:88].tobytes(), dtype=order + "i4")
    if control[_N_FIXED] != 0:
        raise InputError(f"{path} leaves out fixed atoms: write it again with all atoms")
    if control[_HAS_FOURTH] != 0:
        raise InputError(f"{path} has a fourth dimension: write it again without")
    offset = 4 + 84 + 4
    offset += _record_length(content, offset, order) + 8
    n_atoms = int(np.frombuffer(content[offset + 4 : offset + 8].tobytes(), order + "i4")[0])
    offset += 12
    frame: list[Any] = []
    if control[_HAS_CELL] != 0:
        frame += [("cell_start", "i4"), ("cell", "f8", (6,)), ("cell_end", "i4")]
    for axis in "xyz":
        frame += [(f"{axis}_start", "i4"), (axis, "f4", (n_atoms,)), (f"{axis}_end", "i4")]
    dtype = np.dtype(frame).newbyteorder(">" if order == ">" else "<")
    n_frames = (len(content) - offset) // dtype.itemsize
    if n_atoms < 1 or n_frames < 1:
        raise InputError(f"{path} has no whole frame: write the trajectory again")
    frames = np.frombuffer(content, dtype=dtype, count=n_frames, offset=offset)
    if np.any(frames["x_start"] != 4 * n_atoms) or np.any(frames["z_end"] != 4 * n_atoms):
        raise InputError(f"{path} has frames of unequal length: write the trajectory again")
    return np.stack([frames[axis] for axis in "xyz"], axis=-1).astype(np.float64)


def _build(
    path: Path, positions: np.ndarray, symbols: np.ndarray, keep: np.ndarray, hydrogens: bool
) -> Structure:
    gemmi = _import_gemmi(path)
    table = {symbol: gemmi.Element(symbol) for symbol in np.unique(symbols)}
    numbers = np.array([table[s].atomic_number for s in symbols], dtype=np.int64)
    unknown = np.flatnonzero(keep & (numbers == 0))
    if len(unknown):
        raise InputError(
            f"{path} atom {unknown[0] + 1}: its element is not known ({len(unknown)} such atoms): "
            "fill in the element column"
        )
    if not hydrogens:
        keep = keep & (numbers != 1)
    if not np.any(keep):
        raise InputError(f"{path} has no atoms left: keep hydrogens or waters, or check the file")
    kept = positions[:, keep]
    if not np.all(np.isfinite(kept)):
        raise InputError(f"{path} has positions that are not finite: write it again")
    names = np.array([table[s].name for s in symbols[keep]])
    masses = np.array([table[s].weight for s in symbols[keep]])
    return Structure(kept, names, numbers[keep], masses)


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} does not exist: check the path")


def _is_structure(path: Path) -> bool:
    return path.name.lower().endswith(_STRUCTURE_SUFFIXES)


def _import_gemmi(path: Path) -> Any:
    try:
        import gemmi  # noqa: PLC0415 - optional extra
    except ImportError as error:
        raise InputError(
            f"{path} needs the package gemmi: pip install 'hypermol[structures]'"
        ) from error
    return gemmi


def _open_structure(path: Path) -> list[Any]:
    """Models of a PDB or mmCIF file, only the first of alternative locations."""
    gemmi = _import_gemmi(path)
    try:
        structure = gemmi.read_structure(str(path))
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(f"{path} cannot be read as a structure ({error}): check it") from error
    structure.remove_alternative_conformations()
    # models hold memory of their structure: clone them to outlive it
    return [model.clone() for model in structure]


def _read_models(path: Path, first_only: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions [F, n, 3], symbols str [n] and water mask bool [n] of a PDB or mmCIF file."""
    structure = _open_structure(path)
    frames: list[list[list[float]]] = []
    names: list[list[tuple[str, bool]]] = []
    for model in structure[: 1 if first_only else None]:
        residues = [residue for chain in model for residue in chain]
        frames.append([atom.pos.tolist() for residue in residues for atom in residue])
        names.append([entry for residue in residues for entry in _residue_elements(residue)])
        if names[-1] != names[0]:
            raise InputError(
                f"{path} model {len(names)} has {len(names[-1])} atoms that differ from the "
                f"{len(names[0])} of model 1: give models of the same atoms"
            )
    if not frames or not frames[0]:
        raise InputError(f"{path} has no atoms: check the file")
    symbols = np.array([symbol for symbol, _ in names[0]])
    return np.array(frames), symbols, np.array([water for _, water in names[0]])


def _residue_elements(residue: Any) -> list[tuple[str, bool]]:
    """(element symbol, whether water) of a residue's atoms.

    PDB files without the element column, with names out of their columns, make CA calcium and HG1
    mercury. In a polymer's residue (N, CA and C, or C1') an element that polymers do not have is
    therefore read from the first letter of the atom's name.
    """
    atom_names = {atom.name for atom in residue}
    is_polymer = {"N", "CA", "C"} <= atom_names or not atom_names.isdisjoint({"C1'", "C1*"})
    is_water = residue.is_water() or residue.name in _WATERS
    elements = []
    for atom in residue:
        symbol = atom.element.name
        if is_polymer and symbol not in _POLYMER_ELEMENTS:
            symbol = atom.name.lstrip("0123456789")[:1] or "X"
        elements.append((symbol, is_water))
    return elements


def _read_topology(path: Path) -> tuple[np.ndarray, np.ndarray]:
    _require_file(path)
    if path.suffix.lower() == ".psf":
        return _read_psf(path)
    if _is_structure(path):
        _, symbols, is_water = _read_models(path, first_only=True)
        return symbols, is_water
    raise InputError(f"topology {path} is neither .psf nor .pdb nor .cif: pass one of these")


def _read_psf(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Symbols str [n], told from the masses, and water mask bool [n] of a PSF file."""
    lines = path.read_text(errors="replace").splitlines()
    start = next((i for i, line in enumerate(lines) if "!NATOM" in line), None)
    if start is None or not lines[0].startswith("PSF"):
        raise InputError(f"{path} has no !NATOM section: pass a PSF file")
    try:
        n_atoms = int(lines[start].split()[0])
        rows = [line.split() for line in lines[start + 1 : start + 1 + n_atoms]]
        masses = np.array([float(row[7]) for row in rows])
        residues = np.array([row[3] for row in rows])
    except (ValueError, IndexError) as error:
        raise InputError(f"{path} has an atom line that cannot be read: write it again") from error
    if len(rows) != n_atoms:
        raise InputError(f"{path} lists {len(rows)} of {n_atoms} atoms: write it again")
    gemmi = _import_gemmi(path)
    weights = np.array([gemmi.Element(symbol).weight for symbol in _PSF_ELEMENTS])
    distance = np.abs(masses[:, None] - weights)
    nearest = distance.argmin(axis=1)
    far = np.flatnonzero(distance.min(axis=1) > _MASS_TOLERANCE)
    if len(far):
        raise InputError(
            f"{path} atom {far[0] + 1}: mass {masses[far[0]]:g} is no element's: pass a PDB file "
            "of the same atoms as topology"
        )
    return np.array(_PSF_ELEMENTS)[nearest], np.isin(residues, _WATERS)


def _byte_order(path: Path, content: np.ndarray) -> str:
    start = content[:8].tobytes()
    for order, marker in (("<", b"\x54\0\0\0CORD"), (">", b"\0\0\0\x54CORD")):
        if start == marker and len(content) >= 4 + 84 + 4:
            return order
    raise InputError(
        f"{path} is not a DCD trajectory with 32-bit record marks: write it again as DCD"
    )


def _record_length(content: np.ndarray, offset: int, order: str) -> int:
    return int(np.frombuffer(content[offset : offset + 4].tobytes(), dtype=order + "i4")[0])
