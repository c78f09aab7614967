"""Early stopping on validation loss, and stopping on a signal; both as plain values."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
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


_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


@contextmanager
def _handled(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within it these signals are handled so, afterwards as before; outside the main thread they go elsewhere."""
    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in numbers} if here else {}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)


@contextmanager
def ending() -> Iterator[None]:
    """Within it a signal raises `Interrupted`, so that what must not stay behind is deleted; further ones are too late.

    Signals that are ignored (`nohup`) stay so.
    """
    heard = [number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN]

    def end(number: int, frame: FrameType | None) -> None:
        for one in heard:
            signal.signal(one, signal.SIG_IGN)
        raise Interrupted("Stopped.")

    with _handled(heard, end):
        yield


class StopRequest:
    """Set by SIGTERM or Ctrl-C; the loop looks at it between steps."""

    def __init__(self, then: str = "") -> None:
        """Takes what to do after a second signal, a sentence for the user."""
        self.requested, self._then = False, then

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Listens for signals; a second one ends the process at once."""

        def ask(number: int, frame: FrameType | None) -> None:
            if self.requested:
                raise Interrupted(f"Stopped at the second signal. {self._then}".rstrip())
            self.requested = True

        with _handled((signal.SIGTERM, signal.SIGINT), ask):
            yield self
