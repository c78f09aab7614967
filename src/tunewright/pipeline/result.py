"""What a verb gives back to whoever called it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Result:
    """Exit code, lines to print, and the run that was made or read."""

    exit_code: int = 0
    lines: tuple[str, ...] = ()
    run: Path | None = None
