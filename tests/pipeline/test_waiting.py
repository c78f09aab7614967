"""Threads that wait spin while nobody else is busy, and sleep while somebody is."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tunewright.pipeline import waiting
from tunewright.pipeline.waiting import Manners, Times, teams_needed, times, wanted

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there is told who is busy")


def test_others_send_them_to_sleep_at_once_and_a_while_without_others_wakes_them():
    said: list[str] = []
    manners = Manners(lambda: said.append("sleep") or (lambda: said.append("spin")))
    for _ in range(20):
        manners.see(False)
    assert said == []
    assert not manners.asleep
    manners.see(True)
    assert said == ["sleep"]
    assert manners.asleep
    manners.see(True)
    for _ in range(waiting._QUIET - 1):
        manners.see(False)
    manners.see(True)  # it was a pause
    for _ in range(waiting._QUIET - 1):
        manners.see(False)
    assert said == ["sleep"], "one look too early"
    manners.see(False)
    assert said == ["sleep", "spin"]
    assert not manners.asleep


@pytest.mark.parametrize("cores", range(1, 20))
@pytest.mark.parametrize("threads", range(2, 20))
def test_there_are_as_many_teams_as_bring_the_threads_over_the_cores_and_no_more(threads, cores):
    """OpenMP counts the main thread and, of every team, those beside its owner."""
    teams = teams_needed(threads, cores) if threads <= cores else 0
    managed = threads + teams * (threads - 1)
    assert managed > cores or threads == cores == 1
    assert teams == 0 or managed - (threads - 1) <= cores
    assert teams_needed(1, cores) == 0


@pytest.mark.parametrize(
    ("work", "own", "threads", "cores", "wants"),
    [
        (0.5, 0.5, 2, 2, False),  # all of it its own
        (0.5, 0.2, 2, 2, True),  # 1.2 cores of others in a quarter of a second
        (0.54, 0.5, 2, 2, False),  # a daemon
        (0.75, 0.5, 2, 4, False),  # one of the two cores that are left to others
        (1.1, 0.5, 2, 4, True),  # more than those
        (8.2, 8.0, 32, 32, True),
        (8.1, 8.0, 32, 32, False),  # 0.4 of 32 cores, as something or other always takes
    ],
)
def test_others_are_busy_when_they_take_what_its_threads_need(work, own, threads, cores, wants):
    start = Times(100.0, 50.0, 7.0)
    assert wanted(start, Times(100.25, 50.0 + work, 7.0 + own), threads, cores) is wants


def test_where_the_system_does_not_count_nobody_can_tell(tmp_path):
    start = Times(100.0, 0.0, 7.0)
    with pytest.raises(ValueError, match="does not count"):
        wanted(start, Times(100.25, 0.0, 7.5), 2, 2)
    stat = tmp_path / "stat"
    stat.write_text("cpu  9 9 9 9 9 9 9\ncpu0 100 1 10 900 5 2 3 70\ncpu1 50 0 5 900 5 0 0 0\nintr 5\n")
    tick = os.sysconf("SC_CLK_TCK")
    assert times(stat, (0,)).work == pytest.approx(116 / tick)
    assert times(stat, (0, 1)).work == pytest.approx(171 / tick)
    with pytest.raises(ValueError, match="no line of a core"):
        times(stat, (7,))


@pytest.mark.parametrize("error", [OSError, ValueError, RuntimeError])
def test_in_doubt_they_sleep(error, monkeypatch):
    made = []
    monkeypatch.setattr(waiting, "idle_teams", lambda: made.append(True) or (lambda: None))
    monkeypatch.setattr(waiting, "times", lambda: (_ for _ in ()).throw(error("unknown")))
    waiting._watch()
    assert made == [True]


TEAM = """
import os, time, torch
from tunewright.pipeline import waiting
now = lambda: len(os.listdir("/proc/self/task"))
torch.set_num_threads(2)
torch.zeros(waiting._REGION).add_(1)
before = now()
end = waiting._idle_team()
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
    before = times()
    while time.process_time() - before.own < 0.3:
        pass
    now = times()
    assert now.work - before.work >= now.own - before.own - 0.1, "its own work is among all work"
    with subprocess.Popen([sys.executable, "-c", code]) as other:
        try:
            time.sleep(0.3)
            before = times()
            time.sleep(1.0)
            now = times()
        finally:
            other.kill()
    cores = len(os.sched_getaffinity(0))
    assert wanted(before, now, cores, cores)


def test_it_is_watched_once_and_only_where_the_user_said_nothing(monkeypatch):
    monkeypatch.setattr(waiting, "_watched", [])
    monkeypatch.setattr(waiting, "_watch", lambda: None)
    monkeypatch.setattr(waiting, "settled", lambda: False)
    waiting.look_around()
    assert waiting._watched == []
    monkeypatch.setattr(waiting, "settled", lambda: True)
    waiting.look_around()
    first = list(waiting._watched)
    waiting.look_around()
    assert waiting._watched == first
    assert len(first) == (1 if hasattr(os, "sched_getaffinity") else 0)
