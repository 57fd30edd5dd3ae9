"""Every option of every verb is in docs/cli.md; commands that pages show exist."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from hypermol.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
_TEXT = (ROOT / "docs" / "cli.md").read_text()


def verbs(command: object, name: str = "") -> list[tuple[str, object]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        return [(name, command)]
    return [leaf for key, sub in inner.items() for leaf in verbs(sub, f"{name} {key}".strip())]


@pytest.mark.parametrize(
    ("name", "command"), [pytest.param(*v, id=v[0]) for v in verbs(typer.main.get_command(app))]
)
def test_options_are_documented(name, command):
    if f"hypermol {name.split()[0]}" not in _TEXT:
        pytest.fail(f"docs/cli.md has no section on `hypermol {name.split()[0]}`")
    for parameter in command.params:
        for option in parameter.opts:
            if option.startswith("--") and option != "--help":
                assert f"`{option}" in _TEXT or f"{option} " in _TEXT, f"{name} {option}"
        assert getattr(parameter, "help", "x"), f"{name} {parameter.name} has no help"


SHOWN = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN += sorted((ROOT / "examples").glob("*.toml"))


def commands(text: str) -> list[list[str]]:
    """Command lines in blocks of code, indented lines and comments, as words; remarks cut off."""
    lines = re.findall(r"^(?:#? {3,}|)(?:\.venv/bin/)?hypermol (.*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


LINES = [(path.name, words) for path in SHOWN for words in commands(path.read_text())]


@pytest.mark.parametrize(("page", "words"), LINES, ids=[f"{p} {' '.join(w)}" for p, w in LINES])
def test_commands_that_pages_show_exist(page: str, words: list[str]):
    known = dict(verbs(typer.main.get_command(app)))
    name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
    assert name in known
    options = {option for parameter in known[name].params for option in parameter.opts}
    options |= {o for parameter in known[name].params for o in parameter.secondary_opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_commands_are_found():
    assert {page for page, _ in LINES} >= {"README.md", "own_molecule.md", "paper.toml"}
