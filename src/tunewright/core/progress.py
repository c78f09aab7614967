"""What long work tells of itself while it goes on."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told how far a long step is."""

    def __call__(self, what: str, done: int, total: int, detail: str = "") -> None:
        """What is going on, how much of how much, and what to show beside it (a loss, a speed)."""


def silent(what: str, done: int, total: int, detail: str = "") -> None:
    """A progress that tells nothing."""


def under(progress: Progress, name: str) -> Progress:
    """The same progress, which says first what the work is part of."""

    def told(what: str, done: int, total: int, detail: str = "") -> None:
        progress(f"{name}: {what}", done, total, detail)

    return told
