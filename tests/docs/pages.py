"""The documentation as tests read it: pages, fenced blocks, typed commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def text_of(page: Path | str) -> str:
    """A page's text; a name is taken from the root."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Contents of the fenced blocks in a language, in order."""
    return [found[2] for found in _FENCE.finditer(text) if found[1] == language]


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text)


def commands(text: str) -> list[list[str]]:
    """The words of every line that is typed (`$ ...`) in a console block."""
    lines = [line for block in blocks(text, "console") for line in block.splitlines()]
    return [shlex.split(line[2:]) for line in lines if line.startswith("$ ")]


def tunewright_commands(text: str) -> list[list[str]]:
    """The typed commands of ours, without the program's name."""
    return [words[1:] for words in commands(text) if words[0] == "tunewright"]
