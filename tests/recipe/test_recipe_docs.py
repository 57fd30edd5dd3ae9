"""docs/recipe.md says every key, and the recipes of all pages build."""

import re
from pathlib import Path

import numpy as np
import pytest

from hypermol.io.mrc import write_volume
from hypermol.molecule.check import check_model
from hypermol.molecule.state_basis import BASES
from hypermol.recipe.design import Grid
from hypermol.recipe.options import make_design
from hypermol.recipe.own_class import load_model
from hypermol.recipe.part_tables import (
    COPY_KEYS,
    PART_KEYS,
    PLACE_KEYS,
    REGION_KEYS,
    TRAJECTORY_KEYS,
)
from hypermol.recipe.toml import TABLES, read_recipe

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "recipe.md").read_text()
#: Images whose box holds every example.
BOX, PIXEL = 64, 5.0


def blocks(kind: str) -> list[tuple[str, str]]:
    found = []
    for path in sorted(DOCS.glob("*.md")):
        texts = re.findall(rf"```{kind}\n(.*?)```", path.read_text(), re.DOTALL)
        found += [(f"{path.stem} {i}", text) for i, text in enumerate(texts, start=1)]
    return found


def test_every_key_is_documented():
    keys = {*PART_KEYS, *COPY_KEYS, *REGION_KEYS, *PLACE_KEYS, *TRAJECTORY_KEYS}
    keys |= {key for kind in TRAJECTORY_KEYS.values() for key in kind}
    keys |= {f"{table}.{name}" for table, names in TABLES.items() for name in names} - {
        "model.part"
    }
    assert [key for key in sorted(keys) if f"`{key}`" not in TEXT] == []


def test_every_state_basis_is_documented_with_its_states_and_terms():
    for page in (TEXT, (DOCS / "cli.md").read_text()):
        (row,) = re.findall(r"^\| `(?:model\.basis|--basis)` \|.*$", page, re.MULTILINE)
        for name, known in BASES.items():
            after = row[row.index(f"`{name}`") :]
            assert known.states in after[: after.index(")")], name
    (row,) = re.findall(r"^\| `model\.n_terms` \|.*\|(.*)\|$", TEXT, re.MULTILINE)
    for name, known in BASES.items():
        numbers = [int(text) for text in re.findall(rf"(\d+) for [^,)]*`{name}`", row)]
        assert numbers in ([known.n_terms], []), name
        assert numbers or row.strip().startswith(f"{known.n_terms} ")


def test_every_trajectory_has_all_its_keys():
    table = TEXT[TEXT.index("| `type` | key |") : TEXT.index("A rigid body and a hinged part")]
    rows = re.split(r"\n\| (?=`)", table)[1:]
    written = {row.split("`")[1]: set(re.findall(r"`(\w+)`", row)) for row in rows}
    for kind, keys in TRAJECTORY_KEYS.items():
        assert set(keys) <= written[kind], kind


def write_own_model(folder: Path) -> None:
    """Save own_model.py as own_molecule.md says; tests/test_public.py runs the whole page."""
    texts = dict(blocks("python"))
    (folder / "own_model.py").write_text(texts["own_molecule 1"])


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in blocks("toml")])
def test_toml_examples_build(tmp_path, text):
    path = tmp_path / "model.toml"
    path.write_text(text)
    for name in re.findall(r'mask = "(.*?)"', text):
        write_volume(tmp_path / name, np.ones((BOX,) * 3, np.float32), PIXEL)
    options = read_recipe(path)
    if options.type is None:
        design = make_design(options, BOX, PIXEL)
        molecule = design.molecule(Grid(BOX, PIXEL, 6, 150.0), 3)
        assert molecule.state_space.dim > 0
        return
    write_own_model(tmp_path)
    report = check_model(
        load_model(options.type, options.arguments, tmp_path),
        radius_angstrom=options.radius_angstrom,
    )
    assert report.ok, str(report)
