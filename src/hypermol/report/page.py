"""The page: blocks of plain text, tables and pictures, laid out by the templates beside this file.

Blocks hold text as people read it; the templates escape all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined

from hypermol.report.finding import Finding

_MARKS = {"good": "✓", "note": "i", "warning": "!"}


class Block(Protocol):
    """A piece of a section; `kind` names the macro of templates/blocks.html.j2 that shows it."""

    kind: ClassVar[str]


@dataclass(frozen=True)
class Heading:
    """A title within a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Missing:
    """A visible note about something left out."""

    kind: ClassVar[str] = "missing"
    text: str


@dataclass(frozen=True)
class Picture:
    """A figure with its caption, which is its alternative text too; `source` is a data URI."""

    kind: ClassVar[str] = "picture"
    source: str
    caption: str


@dataclass(frozen=True)
class Table:
    """Rows of text: the first column left, others right; `weights`, if any, mark the rows."""

    kind: ClassVar[str] = "table"
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    weights: Sequence[str] = ()


@dataclass(frozen=True)
class Listing:
    """Sentences, one a bullet."""

    kind: ClassVar[str] = "listing"
    items: Sequence[str]


@dataclass(frozen=True)
class FileLinks:
    """Files that lie beside the page: path from there, and what it is."""

    kind: ClassVar[str] = "file_links"
    files: Sequence[tuple[str, str]]


class Section(NamedTuple):
    """A part of the page under its own title; the menu links to its anchor."""

    anchor: str
    title: str
    blocks: Sequence[Block]


class Top(NamedTuple):
    """What stands above the sections.

    Attributes:
        name: of the run.
        particles: the particle file.
        facts: names and values, shown side by side.
        headline: the verdict in one sentence.
        findings: the verdict, point by point.
    """

    name: str
    particles: str
    facts: Sequence[tuple[str, str]]
    headline: str
    findings: Sequence[Finding]


def render(top: Top, sections: Sequence[Section]) -> str:
    """The whole document; it refers to nothing outside itself but the run's files."""
    environment = Environment(
        loader=PackageLoader("hypermol.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.j2")
    return template.render(top=top, sections=sections, marks=_MARKS)
