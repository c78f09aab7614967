"""The report as one HTML file that loads nothing: a template for the page, and one for each kind of block."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tunewright.core import words
from tunewright.core.blocks import Block
from tunewright.report import charts, tables
from tunewright.report.contracts import Report

_TEMPLATES = Path(__file__).parent / "templates"
_PLAYABLE = ("data:image/png;", "data:image/jpeg;", "data:image/webp;", "data:image/gif;", "data:audio/")


def render_html(report: Report) -> str:
    """The whole page; equal reports give equal text."""
    style = Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8"))  # ours, not the user's
    return _environment().get_template("report.html.j2").render(report=report, style=style)


def render_block(block: Block) -> Markup:
    """One block; a kind is known when `templates/blocks/<kind>.html.j2` exists."""
    return Markup(_environment().get_template(f"blocks/{block.kind}.html.j2").render(block=block))


def data_uri(uri: str) -> str:
    """The URI if it holds its picture or sound in itself, else an empty string: a report loads nothing."""
    return uri if uri.startswith(_PLAYABLE) else ""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(charts=charts, tables=tables, words=words, data_uri=data_uri, render_block=render_block)
    return environment
