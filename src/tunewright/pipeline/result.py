"""What a verb gives back to whoever called it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Result:
    """Exit code, lines to print, and the run that was made or read."""

    exit_code: int = 0
    lines: tuple[str, ...] = ()
    run: Path | None = None


def together(results: Sequence[Result]) -> Result:
    """What several verbs on one run end with: all their lines, and the highest exit code."""
    lines = tuple(line for result in results for line in result.lines)
    return Result(max(result.exit_code for result in results), lines, results[-1].run)
