"""The text of a STAR file as blocks of text; every value stays as the file has it.

A value is what stands between blanks, or in quotes where it contains blanks. `#` begins a comment
where a value could begin and belongs to the value anywhere else, so that a path may contain it, as
it may contain `@` and quotes.
"""

import re
from collections.abc import Iterator

import pandas as pd

#: A quoted value ends at a quote before a blank or the end; others at the next blank.
_VALUE = re.compile(r"""'(.*?)'(?=\s|$)|"(.*?)"(?=\s|$)|#.*|(\S+)""")
_NEEDS_PARSING = re.compile(r"""(?:^|\s)["'#]""")


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
