"""The command line: a thin face over the pipeline. Start-up imports neither torch nor pydantic."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.core.threads import settle


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and gives its exit code; without `argv`, that of the process."""
    settle()
    from tunewright.cli.faults import guarded

    return guarded(argv)
