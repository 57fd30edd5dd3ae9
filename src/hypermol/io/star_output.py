"""STAR files as text: values as they are, quoted only where a reader would take them apart."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from hypermol.io.errors import InputError

#: Text that a reader would take for several values, or for something else than a value.
_UNSAFE = re.compile(r"\s|^$|^[\"'#_;]|^(data_|loop_|save_|global_|stop_)", re.IGNORECASE)


def star_text(blocks: Mapping[str, Any]) -> str:
    """Blocks of a STAR file by name: DataFrames of text as loops, mappings as single values.

    Raises:
        InputError: a value has a line break, or blanks after quotes of both kinds.
    """
    lines: list[str] = []
    for name, block in blocks.items():
        lines += ["", f"data_{name}", ""]
        lines += _loop(block) if isinstance(block, pd.DataFrame) else _single(block)
        lines.append("")
    return "\n".join(lines) + "\n"


def _loop(block: pd.DataFrame) -> Iterator[str]:
    yield "loop_"
    for place, column in enumerate(block.columns, start=1):
        yield f"_{column} #{place}"
    columns = [[quoted(value) for value in block[column]] for column in block.columns]
    for row in zip(*columns, strict=True):
        yield "\t".join(row)


def _single(block: Mapping[str, Any]) -> Iterator[str]:
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
    marks = [mark for mark in "\"'" if re.search(rf"{mark}(\s|$)", text) is None]
    mark = next((mark for mark in marks if mark not in text), marks[0] if marks else None)
    if mark is None or "\n" in text or "\r" in text:
        raise InputError(
            f"{text!r} cannot be written in a STAR file, where a value has no line breaks and "
            "ends at a quote before a blank: rename it in the input"
        )
    return f"{mark}{text}{mark}"
