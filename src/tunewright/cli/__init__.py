"""The command line: a thin face over the pipeline. Start-up imports neither torch nor pydantic."""

from __future__ import annotations

import os
from collections.abc import Sequence

BEFORE_TORCH = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "100000"}
"""Read by torch's threads when they start: those that wait spin for about a millisecond, or sleep at once where more
are managed than there are cores (`pipeline/waiting.py`). No number changes."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and gives its exit code; without `argv`, that of the process."""
    settle()
    from tunewright.cli.faults import guarded

    return guarded(argv)


def settle() -> None:
    """Sets `BEFORE_TORCH` unless the user has set any of it; too late once torch is imported."""
    if not BEFORE_TORCH.keys() & os.environ.keys():
        os.environ.update(BEFORE_TORCH)
