"""Rules of CONTRIBUTING.md that a machine can check: sizes, docstrings, imports, documentation."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "hypermol"
FILES = sorted(SOURCE.rglob("*.py"))
LINES_PER_FILE, LINES_PER_FUNCTION, PARAMETERS = 400, 60, 8
#: Packages of optional extras: the only ones that may be imported inside a function.
OPTIONAL = {"gemmi", "arviz"}
#: What draws figures: 50 MB that a fit need not hold, so that it is imported where it is used.
DRAWING = ("matplotlib", "hypermol.report")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def where(path: Path, node: ast.stmt) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno} {getattr(node, 'name', '')}".strip()


def parameters(node: Function) -> list[str]:
    given = node.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def length(node: Function) -> int:
    """Lines of a function, docstring left out."""
    assert node.end_lineno is not None
    lines = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is not None:
        text = node.body[0]
        assert text.end_lineno is not None
        lines -= text.end_lineno - text.lineno + 1
    return lines


def test_files_are_short():
    sizes = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: n for name, n in sizes.items() if n >= LINES_PER_FILE} == {}


def test_functions_are_short():
    found = [(where(p, f), length(f)) for p in FILES for f in functions(parse(p))]
    assert [item for item in found if item[1] >= LINES_PER_FUNCTION] == []


def is_verb(path: Path, node: Function) -> bool:
    """A command, whose parameters are its options: `fit` in cli/fit.py."""
    return path.parent == SOURCE / "cli" and node.name == path.stem


def test_functions_take_few_parameters():
    found = [
        (where(path, node), len(parameters(node)))
        for path in FILES
        for node in functions(parse(path))
        if not is_verb(path, node)
    ]
    assert [item for item in found if item[1] > PARAMETERS] == []


def test_no_imports_inside_functions_but_of_extras_and_of_what_draws():
    found = []
    for path in FILES:
        for function in functions(parse(path)):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    names = {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    drawing = (node.module or "").startswith(DRAWING)
                    names = set() if drawing else {(node.module or "").split(".")[0]}
                else:
                    continue
                if not names <= OPTIONAL:
                    found.append(where(path, node))
    assert found == []


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Public functions and classes of a module, and public methods of its public classes."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, prefix + node.name + ".")


def is_override(node: Function | ast.ClassDef) -> bool:
    """Says what the method it overrides says (mypy checks that there is one)."""
    return any(isinstance(d, ast.Name) and d.id == "override" for d in node.decorator_list)


def test_everything_public_has_a_docstring():
    found = []
    for path in FILES:
        tree = parse(path)
        if path.name != "__init__.py" and ast.get_docstring(tree) is None:
            found.append(str(path.relative_to(ROOT)))
        found += [
            where(path, node)
            for _, node in public(tree.body)
            if ast.get_docstring(node) is None and not is_override(node)
        ]
    assert found == []


def test_only_runtime_configures_jax():
    pattern = re.compile(r"jax\.config|from jax import config|JAX_ENABLE_X64|XLA_FLAGS")
    found = [str(p.relative_to(ROOT)) for p in FILES if pattern.search(p.read_text())]
    assert set(found) <= {"src/hypermol/runtime.py"}


#: The only files that touch the file system themselves; all others write through io/atomic.py.
_WRITERS = {"src/hypermol/io/atomic.py", "src/hypermol/io/stack_links.py"}
_WRITES = re.compile(
    r"os\.(replace|rename|makedirs)|\.(mkdir|write_text|write_bytes|rename)\(|[\"'][wa]b?[\"']\)"
)


def test_files_are_written_by_one_helper():
    """Whole or not at all, with a sentence where the system refuses.

    `partial` is a name that the helper gave, `whole` is in memory.
    """
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in FILES
        if str(path.relative_to(ROOT)) not in _WRITERS
        for line in path.read_text().splitlines()
        if _WRITES.search(line) and "open(partial," not in line and "File(whole," not in line
    ]
    assert found == []


def test_ci_runs_the_test_command_of_the_readme():
    shown = re.search(r"/bin/(pytest.*)", (ROOT / "README.md").read_text())
    run = re.search(r'/bin/pytest"(.*) "\$@"', (ROOT / ".ci" / "run").read_text())
    assert shown is not None and run is not None
    assert shown[1] == f"pytest{run[1]}"


def commands() -> dict[str, list]:
    """Parameters of every command, by its full name."""
    typer = pytest.importorskip("typer")
    main = pytest.importorskip("hypermol.cli.main", reason="the command line is not there yet")

    def walk(command, name: str) -> dict[str, list]:
        found = {name: list(command.params)}
        for sub, child in getattr(command, "commands", {}).items():
            found |= walk(child, f"{name} {sub}")
        return found

    return walk(typer.main.get_command(main.app), "hypermol")


#: What typer adds to every command by itself.
_OF_TYPER = {"install_completion", "show_completion", "help"}


def test_every_option_has_help():
    missing = [
        f"{name} {parameter.name}"
        for name, found in commands().items()
        for parameter in found
        if parameter.name not in _OF_TYPER and not (getattr(parameter, "help", None) or "").strip()
    ]
    assert missing == []


def test_every_option_is_documented():
    page = ROOT / "docs" / "cli.md"
    if not page.is_file():
        pytest.skip("docs/cli.md is absent")
    text = page.read_text()
    words = set(re.findall(r"--[a-z0-9][a-z0-9-]*", text))
    missing = []
    for name, found in commands().items():
        for parameter in found:
            long = [o for o in parameter.opts if o.startswith("--")]
            if parameter.name not in _OF_TYPER and long and not words & set(long):
                missing.append(f"{name} {long[0]}")
        verb = name.split()[-1]
        if verb not in text:
            missing.append(name)
    assert missing == []
