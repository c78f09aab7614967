"""Early stopping on validation loss, and stopping on a signal; both as plain values."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from tunewright.core.errors import Interrupted
from tunewright.core.signals import CLOSED, handled, heard


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


@contextmanager
def ending() -> Iterator[None]:
    """Within it a signal raises `Interrupted`, so that what must go is deleted; further ones come too late."""
    numbers = heard()

    def end(number: int, frame: FrameType | None) -> None:
        for one in numbers:
            signal.signal(one, signal.SIG_IGN)
        raise Interrupted("Stopped.")

    with handled(numbers, end):
        yield


class StopRequest:
    """Set by Ctrl-C, SIGTERM, or a terminal that is closed; the loop looks at it between steps."""

    def __init__(self, then: str = "") -> None:
        """Takes what to do after a second signal, a sentence for the user."""
        self.requested, self._then = False, then

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Listens for signals; a second one ends the process at once."""

        def ask(number: int, frame: FrameType | None) -> None:
            if self.requested and number != CLOSED:
                raise Interrupted(f"Stopped at the second signal. {self._then}".rstrip())
            self.requested = True

        with handled(heard(), ask):
            yield self
