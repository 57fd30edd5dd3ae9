"""The page: HTML from escaped text, tables and pictures."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from hypermol.report.style import data_uri
from hypermol.report.verdict import Finding

_CSS = """
:root { --ink: #1f2937; --soft: #6b7280; --line: #e5e7eb; --accent: #0072B2; }
* { box-sizing: border-box; }
body { margin: 0; background: #f3f4f6; color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 28px 40px 60px; background: #fff;
  min-height: 100vh; box-shadow: 0 0 24px rgba(0, 0, 0, .06); }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 44px 0 8px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 15.5px; margin: 24px 0 6px; }
p { margin: 6px 0 10px; }
.soft { color: var(--soft); overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 14px 0 0; font-size: 14px; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.facts { display: grid; grid-template-columns: repeat(5, 1fr); gap: 10px 20px;
  border: solid var(--line); border-width: 1px 0; padding: 12px 0; margin: 18px 0; }
.facts div { overflow-wrap: anywhere; }
@media (max-width: 760px) { .facts { grid-template-columns: repeat(2, 1fr); } }
.facts span { display: block; color: var(--soft); font-size: 12.5px; }
.verdict { border: 1px solid var(--line); border-left: 5px solid #009E73; padding: 12px 18px 6px;
  margin: 18px 0; }
.verdict.warning { border-left-color: #D55E00; }
.verdict p.lead { font-size: 17px; font-weight: 600; margin: 0 0 10px; }
.verdict ul { list-style: none; margin: 0; padding: 0; }
.verdict li { margin: 0 0 8px; padding-left: 28px; position: relative; }
.mark { position: absolute; left: 0; top: 2px; width: 19px; height: 19px; border-radius: 50%;
  color: #fff; font-size: 12px; line-height: 19px; text-align: center; font-weight: 700; }
li.good .mark, td.good::before { background: #009E73; }
li.note .mark, td.note::before { background: #E69F00; }
li.warning .mark, td.warning::before { background: #D55E00; }
td.good::before, td.note::before, td.warning::before { content: ""; display: inline-block;
  width: 9px; height: 9px; border-radius: 50%; margin-right: 7px; }
figure { margin: 14px 0 22px; }
figure img { display: block; max-width: 100%; margin: 0 auto; }
figcaption { color: #4b5563; font-size: 13.5px; margin-top: 6px; }
.missing { background: #fef3c7; border: 1px solid #fcd34d; padding: 8px 14px; margin: 12px 0;
  overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; margin: 10px 0 18px; font-size: 14px; }
th { text-align: left; color: var(--soft); font-weight: 600; }
th, td { padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
code { font-size: 13.5px; }
@media print { body { background: #fff; } main { box-shadow: none; padding: 0; } }
"""

_MARKS = {"good": "✓", "note": "i", "warning": "!"}


class Section(NamedTuple):
    """A part of the page: anchor, title, and HTML."""

    anchor: str
    title: str
    body: str


def paragraph(text: str, css: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{css}">{escape(text)}</p>' if css else f"<p>{escape(text)}</p>"


def missing(text: str) -> str:
    """A visible note about something left out."""
    return f'<p class="missing">{escape(text)}</p>'


def picture(content: bytes, caption: str, kind: str = "png") -> str:
    """A figure with its caption; the caption is its alternative text too."""
    return (
        f'<figure><img alt="{escape(caption)}" src="{data_uri(content, kind)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]], weights: Sequence[str] = ()) -> str:
    """A table of plain text: the first column left, others right; `weights` mark the rows."""
    head = "".join(
        f'<th class="number">{escape(name)}</th>' if i else f"<th>{escape(name)}</th>"
        for i, name in enumerate(header)
    )
    body = []
    for index, row in enumerate(rows):
        mark = f' class="{weights[index]}"' if index < len(weights) else ""
        cells = "".join(
            f'<td class="number">{escape(cell)}</td>' if i else f"<td{mark}>{escape(cell)}</td>"
            for i, cell in enumerate(row)
        )
        body.append(f"<tr>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values side by side."""
    cells = "".join(
        f"<div><span>{escape(name)}</span>{escape(value)}</div>" for name, value in pairs
    )
    return f'<div class="facts">{cells}</div>'


def verdict_box(lead: str, found: Sequence[Finding]) -> str:
    """The verdict: one sentence, then every finding with its mark."""
    css = "warning" if any(finding.weight == "warning" for finding in found) else "good"
    items = "".join(
        f'<li class="{f.weight}"><span class="mark">{_MARKS[f.weight]}</span>'
        f"<b>{escape(f.title)}.</b> {escape(f.text)}</li>"
        for f in found
    )
    return f'<div class="verdict {css}"><p class="lead">{escape(lead)}</p><ul>{items}</ul></div>'


def file_links(names: Iterable[tuple[str, str]]) -> str:
    """Links to files that lie beside the page, each with what it is."""
    items = "".join(
        f'<li><a href="{escape(name)}">{escape(name)}</a>: {escape(what)}</li>'
        for name, what in names
    )
    return f"<ul>{items}</ul>"


def render(title: str, top: str, sections: Sequence[Section]) -> str:
    """The whole document; it refers to nothing outside itself but the run's files."""
    menu = "".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in sections)
    body = "".join(
        f'<section id="{s.anchor}"><h2>{escape(s.title)}</h2>{s.body}</section>' for s in sections
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_CSS}</style></head>"
        f"<body><main><header>{top}<nav>{menu}</nav></header>{body}</main></body></html>"
    )
