"""The report: a function of the run folder, finished or not. It knows kinds of block, never who wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunewright.core.blocks import Block, Text
from tunewright.core.files import write_atomic
from tunewright.core.store import Run
from tunewright.report.contracts import Report, Section
from tunewright.report.gather import gather
from tunewright.report.html import render_html
from tunewright.report.markdown import render_markdown

__all__ = ["Report", "Section", "gather", "write", "write_page"]


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


def write_page(path: Path, title: str, paragraphs: Sequence[str], blocks: Sequence[Block]) -> None:
    """Writes blocks that are no run's as a page: Markdown where the name ends in .md, else HTML."""
    chapter = Section("result", "Side by side", tuple(blocks))
    report = Report(path.stem, Text(title=title, paragraphs=list(paragraphs)), (), (chapter,))
    text = render_markdown(report) if path.suffix == ".md" else render_html(report)
    write_atomic(path, text.encode("utf-8", "replace"))
