"""Threads that wait spin while nobody else is busy, and sleep while somebody is."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tunewright.pipeline import waiting
from tunewright.pipeline.waiting import Manners

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there is told who is busy")


def test_others_send_them_to_sleep_at_once_and_a_while_without_others_wakes_them():
    said: list[str] = []
    manners = Manners(lambda: said.append("sleep") or (lambda: said.append("spin")))
    for others in (0.0, 0.2, 0.1):
        manners.see(others)
    assert said == []
    assert not manners.asleep
    manners.see(0.6)
    assert said == ["sleep"]
    assert manners.asleep
    manners.see(0.9)
    for _ in range(waiting._QUIET - 1):
        manners.see(0.0)
    manners.see(0.5)  # it was a pause
    for _ in range(waiting._QUIET - 1):
        manners.see(0.0)
    assert said == ["sleep"], "one look too early"
    manners.see(0.0)
    assert said == ["sleep", "spin"]
    assert not manners.asleep


TEAM = """
import os, time, torch
from tunewright.pipeline import waiting
now = lambda: len(os.listdir("/proc/self/task"))
torch.set_num_threads(2)
torch.zeros(waiting._REGION).add_(1)
before = now()
end = waiting.one_team_more()
print(now() - before)
end()
deadline = time.monotonic() + 10
while now() > before and time.monotonic() < deadline:
    time.sleep(0.01)
print(now() - before)
"""


@linux
def test_a_team_more_is_there_until_it_is_ended():
    """In a process of its own, in which nobody watches."""
    said = subprocess.run([sys.executable, "-c", TEAM], capture_output=True, text=True, check=True, timeout=120)
    assert said.stdout.split() == ["2", "0"], "a thread and its companion"


@linux
def test_the_work_of_others_is_told_from_its_own():
    code = "import os, time\nos.sched_setaffinity(0, {CORE})\nend = time.time() + 20\nwhile time.time() < end: pass"
    code = code.replace("CORE", str(min(os.sched_getaffinity(0))))
    before = waiting._times()
    while time.process_time() - before[2] < 0.3:
        pass
    now = waiting._times()
    own, work = now[2] - before[2], now[1] - before[1]
    assert work >= own - 0.1, "its own work is among all work"
    with subprocess.Popen([sys.executable, "-c", code]) as other:
        try:
            time.sleep(0.3)
            before = waiting._times()
            time.sleep(1.0)
            now = waiting._times()
        finally:
            other.kill()
    assert (now[1] - before[1] - (now[2] - before[2])) / (now[0] - before[0]) > waiting._BUSY


def test_it_is_watched_once(monkeypatch):
    monkeypatch.setattr(waiting, "_watched", [])
    monkeypatch.setattr(waiting, "_watch", lambda: None)
    waiting.look_around()
    first = list(waiting._watched)
    waiting.look_around()
    assert waiting._watched == first
    assert len(first) == (1 if sys.platform.startswith("linux") else 0)
