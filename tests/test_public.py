"""The public face: `hypermol` holds what users need, docs/api.md says it, docs use no more."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import hypermol
from hypermol import MoleculeSource, Noise, Settings, pretzel, simulate, write_dataset

ROOT = Path(__file__).resolve().parents[1]
API = ROOT / "docs" / "api.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ROW = re.compile(r"^\| (?:\[`(\w+)`\]\((.*?)\)|`(__version__)`) \| (.+) \|$", re.MULTILINE)


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def rows() -> dict[str, tuple[str, str]]:
    """Of docs/api.md: name to link and description."""
    found = ROW.findall(API.read_text())
    names = [name or version for name, _, version, _ in found]
    assert len(names) == len(set(names))
    return {name or version: (link, text) for name, link, version, text in found}


def test_every_public_name_has_its_line_and_nothing_else_has():
    assert set(rows()) == set(hypermol.__all__)
    assert hypermol.__all__ == sorted(hypermol.__all__)


@pytest.mark.parametrize("name", sorted(set(hypermol.__all__) - {"__version__"}))
def test_a_line_leads_to_the_file_of_its_name(name: str):
    value = getattr(hypermol, name)
    link, text = rows()[name]
    assert (API.parent / link).resolve() == Path(inspect.getfile(value)).resolve()
    assert text.strip() and inspect.getdoc(value)


def imports(text: str) -> set[str]:
    """What a piece of Python imports of this package: "hypermol.name", "hypermol.module.name"."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hypermol":
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "hypermol"}
    return found


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_pages_use_the_public_face_only(page: Path):
    used = set().union(*(imports(text) for text in python_blocks(page)))
    assert used <= {f"hypermol.{name}" for name in hypermol.__all__}


def test_names_in_pages_exist():
    """`hypermol.name` in the text is public, and longer paths are modules, classes or functions."""
    missing = []
    for page in PAGES:
        for path in re.findall(r"`hypermol\.([\w.]+)", page.read_text()):
            value: Any = hypermol
            for name in path.split("."):
                value = getattr(value, name, None)
            if value is None:
                missing.append(f"{page.name}: hypermol.{path}")
    assert missing == []


def test_nothing_inside_imports_the_public_face():
    """It imports from every layer: a module that imported it would close a circle."""
    found = []
    for path in sorted((ROOT / "src" / "hypermol").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "hypermol":
                found.append(str(path))
            if isinstance(node, ast.Import) and any(a.name == "hypermol" for a in node.names):
                found.append(str(path))
    assert found == []


def test_import_does_nothing_but_import():
    """No device is taken, no option of JAX set; what only commands or extras need stays out."""
    script = """
import sys, jax
before = dict(jax.config.values)
import hypermol
assert before == jax.config.values
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
loaded = {"typer", "rich", "gemmi", "arviz", "matplotlib.pyplot", "hypermol.cli"} & set(sys.modules)
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run_page(page: str, skip: int = 0) -> dict[str, Any]:
    """Run a page's Python, block after block as a reader would; its names at the end."""
    names: dict[str, Any] = {}
    for text in python_blocks(ROOT / page)[skip:]:
        exec(text, names)
    return names


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, of which modules are imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def particles(folder: Path) -> Path:
    """Images of one arm that curls, as `particles.star` in the working directory."""
    settings = Settings(n=60, box=16, pixel_size_angstrom=18.0, noise=Noise(0.5))
    return write_dataset(folder, simulate(MoleculeSource(pretzel(110.0, arms=1)), settings))


def test_every_page_with_python_is_run_below():
    ran = {"README.md", "api.md", "outputs.md", "own_molecule.md"}
    assert {page.name for page in PAGES if python_blocks(page)} == ran


def undocumented(run: Path) -> list[str]:
    """What lies in a run directory and is not in docs/outputs.md."""
    text = (ROOT / "docs" / "outputs.md").read_text()
    return [path.name for path in run.iterdir() if f"`{path.name}" not in text]


@pytest.mark.slow
def test_the_readme_and_posterior_nc_are_as_they_say(particles: Path):
    names = run_page("README.md")
    assert names["states"].shape[1:] == (60, 1)
    assert undocumented(particles.parent / "run") == []
    found = run_page("docs/outputs.md")
    assert found["data"].posterior["state"].shape[2:] == (60,)


@pytest.mark.slow
def test_the_api_page_runs(particles: Path):
    names = run_page("docs/api.md")
    assert names["states"].shape == (4, 60, 1)
    assert (particles.parent / "run" / "report.html").exists()


def own_model(folder: Path) -> str:
    """Save own_model.py and model.toml as own_molecule.md says; the text of the first."""
    page = ROOT / "docs" / "own_molecule.md"
    code = python_blocks(page)[0]
    (folder / "own_model.py").write_text(code)
    (recipe,) = re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
    (folder / "model.toml").write_text(recipe)
    return code


def test_a_molecule_of_ones_own_is_short_and_needs_the_public_face_only(folder: Path):
    code = own_model(folder)
    assert len(code.splitlines()) <= 25
    assert imports(code) == {"hypermol.Interval"}


def test_own_molecule_is_fitted_as_the_page_says(folder: Path):
    """From the class to a fit and its results: the width that the images were made with."""
    own_model(folder)
    names = run_page("docs/own_molecule.md", skip=1)
    assert names["width"].mean() == pytest.approx(12.0, abs=1.0)
    truth = np.load(folder / "data" / "truth" / "truth.npz")["t"]
    means = names["states"].mean(axis=(0, 1))
    assert abs(stats.spearmanr(means, truth).statistic) > 0.8
    assert (folder / "run" / "particles.star").exists()
    assert undocumented(folder / "run") == []
