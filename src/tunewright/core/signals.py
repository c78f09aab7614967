"""Signals that end a program, and what is done with them for a while."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


def heard() -> list[int]:
    """Signals that end this program; one that is ignored (`nohup`) is to stay so."""
    return [number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN]


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
