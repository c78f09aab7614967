"""The report: a function of the run folder, finished or not. It knows kinds of block, never who wrote them."""

from __future__ import annotations

from pathlib import Path

from tunewright.core.files import write_atomic
from tunewright.core.store import Run
from tunewright.report.contracts import Report, Section
from tunewright.report.gather import gather
from tunewright.report.html import render_html
from tunewright.report.markdown import render_markdown

__all__ = ["Report", "Section", "gather", "write"]


def write(run: Run) -> list[Path]:
    """Writes report.html and report.md into the run folder, each whole or not at all.

    Returns:
        The two files.
    """
    report = gather(run)
    pages = {"report.html": render_html(report), "report.md": render_markdown(report)}
    for name, text in pages.items():
        # Half a surrogate pair, which JSON may hold, has no UTF-8: it becomes a question mark.
        write_atomic(run.folder / name, text.encode("utf-8", "replace"))
    return [run.folder / name for name in pages]
