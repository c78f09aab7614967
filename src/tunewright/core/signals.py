"""Signals that end a program, and what is done with them for a while."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

CLOSED: int | None = getattr(signal, "SIGHUP", None)
"""Of a terminal that is closed, or a shell that goes, which sends it twice; Windows does not have it."""


def heard() -> list[int]:
    """Signals that end this program; a terminal that is closed does not where that is ignored (`nohup`)."""
    closes = CLOSED is not None and signal.getsignal(CLOSED) != signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([CLOSED] if CLOSED is not None and closes else [])]


@contextmanager
def handled(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within it these signals are handled so, afterwards as before; outside the main thread they go elsewhere."""
    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in numbers} if here else {}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)
