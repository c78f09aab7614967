"""How far a long step is: one live line in a terminal, sparse plain lines in a log file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

from tunewright.cli.pipes import unread

_LOG_SECONDS = 10.0
_LOG_SHARE, _LOG_SHARE_SECONDS = 0.1, 1.0
_LIVE_SECONDS = 0.1


class Progress:
    """Called with what is going on, done, total and a detail; a new name starts a new line.

    Args:
        stream: Where to write; a terminal gets a live line, anything else plain lines.
        clock: Seconds; replaced in tests.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream = stream
        self.clock = clock
        self.live: Any = _live_line(stream) if stream.isatty() else None
        self.what = ""
        self.started = self.said_at = 0.0
        self.begun_with = self.said_done = 0

    @classmethod
    def on_stderr(cls) -> Progress:
        """On the error stream, so that what a command prints can be piped."""
        return cls(sys.stderr or open(os.devnull, "w", encoding="utf-8"))  # (`2>&-` leaves None)

    def __call__(self, what: str, done: int, total: int, detail: str = "") -> None:
        """Shows it when there is something new to see; `detail` stands beside it (a loss, a speed)."""
        now = self.clock()
        first = what != self.what
        if first:
            self._end_line()
            self.what, self.started, self.begun_with = what, now, done
        last = 0 < total <= done
        if not (first or last or self._due(now, done, total)):
            return
        self.said_at, self.said_done = now, done
        line = f"{what}: {self._figures(done, total, now)}" + (f", {detail}" if detail else "")
        with unread(self.stream):
            if self.live is not None:
                self.live.update(line, refresh=True)
            else:
                self.stream.write(line + "\n")
                self.stream.flush()

    def _due(self, now: float, done: int, total: int) -> bool:
        if self.live is not None:
            return now - self.said_at >= _LIVE_SECONDS
        waited = now - self.said_at
        tenth = total > 0 and (done - self.said_done) / total >= _LOG_SHARE
        return waited >= _LOG_SECONDS or (tenth and waited >= _LOG_SHARE_SECONDS)

    def _figures(self, done: int, total: int, now: float) -> str:
        if total <= 0:
            return str(done)
        if total == 1 and done <= 0:
            return "..."
        text = f"{done}/{total} ({100 * done // total} %)"
        gained, spent = done - self.begun_with, now - self.started
        if gained > 0 and done < total:
            text += f", {duration(spent * (total - done) / gained)} left"
        elif done >= total and spent >= 1:
            text += f", took {duration(spent)}"
        return text

    def _end_line(self) -> None:
        if self.live is not None and self.what:
            with unread(self.stream):
                self.live.stop()
            self.live = _live_line(self.stream)

    def __enter__(self) -> Self:
        """Nothing to open: the live line starts with the first call."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leaves the last line standing and gives the cursor back."""
        if self.live is not None:
            with unread(self.stream):
                self.live.stop()


def duration(seconds: float) -> str:
    """Seconds as a person says them: 9 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _live_line(stream: TextIO) -> Any:
    from rich.console import Console
    from rich.live import Live

    return _Line(Live(console=Console(file=stream), auto_refresh=False))


class _Line:
    """A rich live line that starts when it first has something to show; texts are literal, not markup."""

    def __init__(self, live: Any) -> None:
        self.live = live

    def update(self, text: str, refresh: bool) -> None:
        from rich.text import Text

        if not self.live.is_started:
            self.live.start()
        self.live.update(Text(text, overflow="ellipsis", no_wrap=True), refresh=refresh)

    def stop(self) -> None:
        if self.live.is_started:
            self.live.stop()
