"""The text of a STAR file as blocks of text, and back; every value stays as the file has it.

A value is what stands between blanks, or in quotes where it contains blanks. `#` begins a comment
where a value could begin and belongs to the value anywhere else, so that a path may contain it, as
it may contain `@` and quotes.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from hypermol.io.errors import InputError

#: A quoted value ends at a quote before a blank or the end; others at the next blank.
_VALUE = re.compile(r"""'(.*?)'(?=\s|$)|"(.*?)"(?=\s|$)|#.*|(\S+)""")
_NEEDS_PARSING = re.compile(r"""(?:^|\s)["'#]""")

#: Text that a reader would take for several values, or for something else than a value.
_UNSAFE = re.compile(r"\s|^$|^[\"'#_;]|^(data_|loop_|save_|global_|stop_)", re.IGNORECASE)


def parse_star(text: str) -> dict[str, pd.DataFrame | dict[str, str]]:
    """Blocks by name: loops as DataFrames of text (maybe without rows), others as dicts of text.

    Raises:
        ValueError: what is wrong, with the number of the line.
    """
    blocks: dict[str, pd.DataFrame | dict[str, str]] = {}
    for name, lines in _split_blocks(text):
        if name in blocks:
            raise ValueError(f"the block data_{name} is there twice")
        place = next((i for i, (_, line) in enumerate(lines) if line.split()[0] == "loop_"), None)
        if place is None:
            if lines:
                blocks[name] = dict(_pair(number, line) for number, line in lines)
        else:
            blocks[name] = _loop(lines[place + 1 :])
    return blocks


def _split_blocks(text: str) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """Each block's name and its lines that say something, with their numbers in the file."""
    name: str | None = None
    lines: list[tuple[int, str]] = []
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("data_"):
            if name is not None:
                yield name, lines
            name, lines = line.split()[0][len("data_") :], []
        elif name is not None:
            lines.append((number, line))
    if name is not None:
        yield name, lines


def _loop(lines: list[tuple[int, str]]) -> pd.DataFrame:
    n_labels = next((i for i, (_, line) in enumerate(lines) if not line.startswith("_")), None)
    labels = [line.split()[0][1:] for _, line in lines[:n_labels]]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ValueError(f"the column {twice} is there twice")
    rows: list[list[str]] = []
    for number, line in lines[len(labels) :]:
        row = _values(line)
        if len(row) != len(labels):
            place = f"row {len(rows) + 1} (line {number})"
            raise ValueError(f"{place} has {len(row)} values for {len(labels)} columns")
        rows.append(row)
    return pd.DataFrame(rows, columns=labels, dtype=object)


def _pair(number: int, line: str) -> tuple[str, str]:
    values = _values(line)
    if not values[0].startswith("_") or len(values) > 2:
        raise ValueError(f"line {number} is not a label with one value")
    return values[0][1:], "".join(values[1:])


def _values(line: str) -> list[str]:
    if _NEEDS_PARSING.search(line) is None:
        return line.split()
    found = []
    for match in _VALUE.finditer(line):
        value = next((group for group in match.groups() if group is not None), None)
        if value is None:  # a comment
            break
        found.append(value)
    return found


def star_text(blocks: Mapping[str, Any]) -> str:
    """Blocks of a STAR file by name: DataFrames of text as loops, mappings as single values.

    Raises:
        InputError: a value has a line break, or needs quotes and has both kinds of its own.
    """
    lines: list[str] = []
    for name, block in blocks.items():
        lines += ["", f"data_{name}", ""]
        lines += _loop_lines(block) if isinstance(block, pd.DataFrame) else _single_lines(block)
        lines.append("")
    return "\n".join(lines) + "\n"


def _loop_lines(block: pd.DataFrame) -> Iterator[str]:
    yield "loop_"
    for place, column in enumerate(block.columns, start=1):
        yield f"_{column} #{place}"
    columns = [[quoted(value) for value in block[column]] for column in block.columns]
    for row in zip(*columns, strict=True):
        yield "\t".join(row)


def _single_lines(block: Mapping[str, Any]) -> Iterator[str]:
    for name, value in block.items():
        yield f"_{name}\t{quoted(value)}"


def quoted(value: Any) -> str:
    """A value as a STAR file must have it.

    Raises:
        InputError: it cannot be written.
    """
    text = str(value)
    if _UNSAFE.search(text) is None:
        return text
    mark = next((mark for mark in "\"'" if mark not in text), None)
    if mark is None or "\n" in text or "\r" in text:
        raise InputError(
            f"{text!r} cannot be written in a STAR file, which knows no line breaks and one kind "
            "of quotes in a value: rename it in the input"
        )
    return f"{mark}{text}{mark}"
