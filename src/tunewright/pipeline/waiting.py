"""How threads wait for one another: spinning as long as nobody else wants their cores, asleep when somebody does.

A step is thousands of short parallel regions, and a thread that sleeps between them is woken late: training with
threads that sleep takes half as long again. A thread that spins keeps a core from whoever else wants it, its own
companions among them: beside one busy program training is ten times slower (benchmarks/notes.md). OpenMP's settings
are read once, when torch is loaded, but its GNU runtime spins less as soon as it manages more threads than there are
cores. So while others are busy here, idle teams of threads are kept: whoever waits then sleeps. No number changes.

Processes that share one step's work see one another as others, and sleep.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import torch

from tunewright.core.threads import settled

_STAT = Path("/proc/stat")
_EVERY = 0.25
"""Seconds between looks."""
_BUSY = 0.25
"""Cores' worth of time that others take beyond the cores that are left to them, from which on threads sleep."""
_DAEMONS = 0.02
"""The same for each core, which something or other always takes; the larger of both counts."""
_QUIET = 8
"""Looks without others after which they spin again."""
_REGION = 1 << 20
"""Elements of an operation that torch gives to several threads."""
_MOST_TEAMS = 8
"""Where more would be needed, so many cores are free that waiting threads are in nobody's way."""


def look_around() -> None:
    """Watches who else is busy, from a thread of its own, until the process ends.

    Called again it does nothing, and so it does where the user has said how threads wait, or has no such system.
    """
    if not _watched and settled() and hasattr(os, "sched_getaffinity"):
        _watched.append(threading.Thread(target=_watch, name="tunewright-waiting", daemon=True))
        _watched[0].start()


_watched: list[threading.Thread] = []


def teams_needed(threads: int, cores: int) -> int:
    """Idle teams of so many threads with which, beside the one at work, more are managed than there are cores."""
    return 0 if threads < 2 else (cores - threads) // (threads - 1) + 1  # a team is its owner and the others


@dataclass
class Manners:
    """Whether threads that wait sleep, by what others take."""

    sleep: Callable[[], Callable[[], None]]
    """Makes them sleep, and gives what makes them spin again."""
    _spin: Callable[[], None] | None = None
    _quiet: int = 0

    @property
    def asleep(self) -> bool:
        """Whether they sleep now."""
        return self._spin is not None

    def see(self, others: bool) -> None:
        """Takes whether others were busy since the last look."""
        self._quiet = 0 if others else self._quiet + 1
        if self._spin is None and others:
            self._spin = self.sleep()
        elif self._spin is not None and self._quiet >= _QUIET:
            self._spin()
            self._spin = None


def idle_teams() -> Callable[[], None]:
    """Threads with OpenMP threads of their own that do nothing; what is given back ends them."""
    needed = teams_needed(torch.get_num_threads(), len(os.sched_getaffinity(0)))
    ends = [_idle_team() for _ in range(needed)] if needed <= _MOST_TEAMS else []

    def end_all() -> None:
        for end in ends:
            end()

    return end_all


def _idle_team() -> Callable[[], None]:
    ended, there = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            torch.zeros(_REGION).add_(1)  # the region for which the team is made
        finally:
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
    manners = Manners(idle_teams)
    try:
        before = times()
        while True:
            time.sleep(_EVERY)
            now = times()
            manners.see(wanted(before, now, torch.get_num_threads(), len(os.sched_getaffinity(0))))
            before = now
    except (OSError, ValueError, RuntimeError):  # it can't be told: then they had better sleep
        manners.see(True)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds by the clock, of work on the cores that this process may use, and of its own work."""

    clock: float
    work: float
    own: float


def wanted(before: Times, now: Times, threads: int, cores: int) -> bool:
    """Whether others took time on the cores that this process's threads need.

    Raises:
        ValueError: No work was done on cores on which this process worked itself.
    """
    own, work = now.own - before.own, now.work - before.work
    if work <= 0 and own > 0.1:
        raise ValueError("the system does not count work")
    others = (work - own) / max(now.clock - before.clock, 1e-3)
    return others - (cores - threads) > max(_BUSY, _DAEMONS * cores)


def times(stat: Path = _STAT, cores: Collection[int] | None = None) -> Times:
    """Now.

    Raises:
        OSError: The system does not tell.
        ValueError: It tells nothing of these cores.
    """
    mine = {f"cpu{number}" for number in (os.sched_getaffinity(0) if cores is None else cores)}
    lines = [line.split() for line in stat.read_text(encoding="ascii").splitlines()]
    # user, nice, system, idle, iowait, irq, softirq; what was stolen is another machine's
    ticks = [int(line[place]) for line in lines if line and line[0] in mine for place in (1, 2, 3, 6, 7)]
    if not ticks:
        raise ValueError(f"{stat} has no line of a core of this process")
    return Times(time.monotonic(), math.fsum(ticks) / os.sysconf("SC_CLK_TCK"), time.process_time())
