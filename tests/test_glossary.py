"""Words and files of the documentation: one row a word, retired words gone, named files there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "hypermol"
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CONVENTIONS.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
WORDS = re.findall(r"^\| \*\*(.+?)\*\*.*? \| .+ \|$", GLOSSARY, re.MULTILINE)
#: Words that said what another word says now.
RETIRED = {
    "nuisance": "mu, or hyperparameters",
    "turning state": "position",
    "turning knob": "position",
    "blackbox": "a class of one's own",
    "black boxes": "classes of one's own, or molecules that are not linear",
}


def test_one_row_a_word_in_order():
    assert len(WORDS) > 30
    assert [word.lower() for word in WORDS] == sorted({word.lower() for word in WORDS})
    assert GLOSSARY.count("\n| ") == len(WORDS) + 1  # every row has its word; and the head


#: Without these nobody can read the code.
NEEDED = (
    "block candidates chain consensus contrast draw frame gauge kernel knob latents level march "
    "molecule mu occupancy place position sample spectrum stage start state sweep theta view"
)


@pytest.mark.parametrize("word", [*NEEDED.split(), "burn-in", "half sets", "held-out score"])
def test_words_of_the_architecture_are_there(word):
    assert word in WORDS


@pytest.mark.parametrize("retired", RETIRED)
def test_retired_words_are_gone(retired):
    """Where the code had a word of its own and the paper, or a plainer name, took its place."""
    paths = [*SOURCE.rglob("*.py"), *PAGES]
    found = [
        f"{path.relative_to(ROOT)}:{number}: say {RETIRED[retired]}"
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if retired in line.lower().replace("-", " ")
    ]
    assert found == []


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_files_that_a_page_names_are_there(page):
    """`folder/file.py` from the root or from the package; `file.py` alone from anywhere in it."""
    missing = []
    for name in re.findall(r"`([\w/.]+\.(?:py|toml|md))`", page.read_text()):
        here = [folder / name for folder in (ROOT, ROOT / "docs", SOURCE, SOURCE / "fitting")]
        if "/" in name and not any(path.exists() for path in here):
            missing.append(name)
        if "/" not in name and name.endswith(".py") and not any(SOURCE.rglob(name)):
            missing.append(name)
    assert [name for name in missing if name not in WRITTEN_BY_USERS] == []


#: Files of a reader's own, and those that a run leaves.
WRITTEN_BY_USERS = {"own_model.py", "run/recipe.toml"}


def test_every_block_of_a_sweep_is_in_the_method_page():
    text = (ROOT / "docs" / "method.md").read_text()
    files = {path.name for path in (SOURCE / "fitting" / "blocks").glob("*.py")}
    unnamed = files - {"__init__.py"} - set(re.findall(r"(\w+\.py)`", text))
    assert unnamed == set()
