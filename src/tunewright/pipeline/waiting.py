"""How threads wait for one another: spinning as long as nobody else wants their cores, asleep when somebody does.

A step is thousands of short parallel regions, and a thread that sleeps between them is woken late: training with
threads that sleep takes half as long again. A thread that spins keeps a core from whoever else wants it, its own
companions among them: beside one busy program training is ten times slower (benchmarks/notes.md). OpenMP's settings
are read once, when torch is loaded, but its GNU runtime spins less as soon as it manages more threads than there are
cores. So while others are busy here, an idle team of threads is kept: whoever waits then sleeps. No number changes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

_STAT = Path("/proc/stat")
_EVERY = 0.25
"""Seconds between looks."""
_BUSY = 0.25
"""Cores' worth of time that others take, from which on threads sleep."""
_QUIET = 8
"""Looks without others after which they spin again."""
_REGION = 1 << 20
"""Elements of an operation that torch gives to several threads."""


def look_around() -> None:
    """Watches who else is busy, from a thread of its own, until the process ends; where that can't be told, nothing.

    Called again it does nothing.
    """
    if not _watched and _STAT.is_file() and hasattr(os, "sched_getaffinity"):
        _watched.append(threading.Thread(target=_watch, name="tunewright-waiting", daemon=True))
        _watched[0].start()


_watched: list[threading.Thread] = []


@dataclass
class Manners:
    """Whether threads that wait sleep, by what others take."""

    sleep: Callable[[], Callable[[], None]]
    """Makes them sleep, and gives what makes them spin again."""
    _spin: Callable[[], None] | None = None
    _quiet: int = field(default=0)

    @property
    def asleep(self) -> bool:
        """Whether they sleep now."""
        return self._spin is not None

    def see(self, others: float) -> None:
        """Takes how many cores' worth of time others took since the last look."""
        self._quiet = self._quiet + 1 if others < _BUSY else 0
        if self._spin is None and self._quiet == 0:
            self._spin = self.sleep()
        elif self._spin is not None and self._quiet >= _QUIET:
            self._spin()
            self._spin = None


def one_team_more() -> Callable[[], None]:
    """A thread with OpenMP threads of its own that do nothing; what is given back ends them."""
    ended, there = threading.Event(), threading.Event()

    def hold() -> None:
        torch.zeros(_REGION).add_(1)  # the region for which the team is made
        there.set()
        ended.wait()

    thread = threading.Thread(target=hold, name="tunewright-idle-team", daemon=True)
    thread.start()
    there.wait()

    def end() -> None:
        ended.set()
        thread.join()

    return end


def _watch() -> None:
    manners, before = Manners(one_team_more), _times()
    while True:
        time.sleep(_EVERY)
        now = _times()
        manners.see((now[1] - before[1] - (now[2] - before[2])) / max(now[0] - before[0], 1e-3))
        before = now


def _times() -> tuple[float, float, float]:
    """Seconds by the clock, of work on the cores that this process may use, and of its own work."""
    mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    with _STAT.open(encoding="ascii") as file:
        lines = [line.split() for line in file if line.startswith("cpu")]
    # user, nice, system, idle, iowait, irq, softirq; what was stolen is another machine's
    ticks = sum(int(line[place]) for line in lines if line[0] in mine for place in (1, 2, 3, 6, 7))
    return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time()
