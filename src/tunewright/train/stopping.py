"""Early stopping on validation loss, and stopping on a signal; both as plain values."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from tunewright.core.errors import Interrupted


@dataclass(frozen=True, slots=True)
class Best:
    """The best validation so far and how many have passed since."""

    loss: float = float("inf")
    step: int = 0
    since: int = 0

    def after(self, loss: float, step: int) -> Best:
        """The state after one more validation."""
        return Best(loss, step, 0) if loss < self.loss else Best(self.loss, self.step, self.since + 1)

    def to_json(self) -> dict[str, Any]:
        """For checkpoints; an infinite loss is null."""
        return {"loss": None if self.loss == float("inf") else self.loss, "step": self.step, "since": self.since}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Best:
        """What `to_json` wrote."""
        return cls(float("inf") if value["loss"] is None else value["loss"], value["step"], value["since"])


_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def ending() -> Iterator[None]:
    """Within it a signal raises `Interrupted`, so that what must not stay behind is deleted; further ones are too late.

    Signals that are ignored (`nohup`) stay so.
    """

    def end(number: int, frame: FrameType | None) -> None:
        for heard in before:
            signal.signal(heard, signal.SIG_IGN)
        raise Interrupted("Stopped.")

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    if threading.current_thread() is not threading.main_thread():  # signals go elsewhere
        before = {}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopRequest:
    """Set by SIGTERM or Ctrl-C; the loop looks at it between steps."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Listens for signals; a second one ends the process at once."""

        def ask(number: int, frame: FrameType | None) -> None:
            if self.requested:
                raise Interrupted("Stopped at the second signal.")
            self.requested = True

        try:
            before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:  # not in the main thread: signals go elsewhere
            before = {}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
