"""One self-contained HTML page about a run: figures, diagnostics, and what they mean."""

from hypermol.report.write import write_report

__all__ = ["write_report"]
