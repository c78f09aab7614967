"""Signals that end a program, and what is done with them for a while."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType


def heard() -> list[int]:
    """Signals that end this program; a terminal that is closed does not where that is ignored (`nohup`)."""
    closed = [getattr(signal, name) for name in ("SIGHUP",) if hasattr(signal, name)]  # which Windows does not have
    return [signal.SIGTERM, signal.SIGINT, *(one for one in closed if signal.getsignal(one) != signal.SIG_IGN)]


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
