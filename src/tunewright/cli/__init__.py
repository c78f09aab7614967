"""The command line: a thin face over the pipeline. Start-up imports neither torch nor pydantic."""

from __future__ import annotations

import os
from collections.abc import Sequence

BEFORE_TORCH = {"OMP_WAIT_POLICY": "passive"}
"""Read by torch's threads when they start. Threads that wait sleep, or a program beside ours slows training many times
over. No number changes."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and gives its exit code; without `argv`, that of the process."""
    settle()
    from tunewright.cli.faults import guarded

    return guarded(argv)


def settle() -> None:
    """Sets what the user has not set of `BEFORE_TORCH`; too late once torch is imported."""
    for name, value in BEFORE_TORCH.items():
        os.environ.setdefault(name, value)
