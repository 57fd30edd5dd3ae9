"""Every option of every verb is in docs/cli.md."""

from pathlib import Path

import pytest
import typer

from hypermol.cli.main import app

_TEXT = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text()


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
