"""How far it is: a live line in a terminal, few plain lines in a file."""

import errno
import io
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.cli.pipes import unread
from tunewright.cli.progress import Progress, duration


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def log_of(steps: int, seconds: float) -> list[str]:
    """What a log holds after `steps` steps of so many seconds each."""
    clock, stream = Clock(), io.StringIO()
    with Progress(stream, clock) as progress:
        for done in range(steps + 1):
            progress("training", done, steps)
            clock.now += seconds
    return stream.getvalue().splitlines()


def test_a_log_gets_a_line_each_tenth():
    lines = log_of(1000, 0.02)
    assert len(lines) == 11
    assert lines[0] == "training: 0/1000 (0 %)"
    assert lines[1] == "training: 100/1000 (10 %), 18 s left"
    assert lines[-1] == "training: 1000/1000 (100 %), took 20 s"


def test_a_short_step_fills_no_log():
    assert log_of(1000, 0.0001) == ["training: 0/1000 (0 %)", "training: 1000/1000 (100 %)"]


def test_one_thing_that_takes_long_is_named():
    assert log_of(1, 60) == ["training: ...", "training: 1/1 (100 %), took 1 min 00 s"]


def test_a_slow_log_gets_a_line_each_ten_seconds():
    assert len(log_of(100, 2)) == 1 + 20
    assert log_of(100, 60)[1] == "training: 1/100 (1 %), 1 h 39 min left"


def test_the_same_count_again_is_told_only_when_time_has_passed():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(stream, clock)
    for _ in range(5):
        progress("waiting", 0, 10)
    assert stream.getvalue() == "waiting: 0/10 (0 %)\n"


def test_each_step_by_name_begins_anew():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(stream, clock)
    progress("base", 10, 10)
    clock.now += 1000
    progress("tuned", 0, 10)
    clock.now += 10
    progress("tuned", 5, 10)
    assert stream.getvalue().splitlines()[-1] == "tuned: 5/10 (50 %), 10 s left"


def test_time_left_does_not_count_what_was_done_before_it_went_on():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(stream, clock)
    progress("training", 500, 1000)
    clock.now += 100
    progress("training", 600, 1000)
    assert stream.getvalue().splitlines()[-1] == "training: 600/1000 (60 %), 6 min 40 s left"


def test_an_unknown_total_counts_up():
    stream = io.StringIO()
    Progress(stream, Clock())("reading", 7, 0)
    assert stream.getvalue() == "reading: 7\n"


def test_a_terminal_gets_one_line_that_is_redrawn():
    clock, stream = Clock(), Terminal()
    with Progress(stream, clock) as progress:
        for done in range(11):
            progress("training [bold]", done, 10)
            clock.now += 1
    text = stream.getvalue()
    assert "training [bold]: 10/10 (100 %), took 10 s" in text
    assert text.count("\n") <= 2


def test_a_terminal_is_not_redrawn_more_often_than_eyes_see():
    clock, stream = Clock(), Terminal()
    with Progress(stream, clock) as progress:
        for done in range(1, 1000):
            progress("training", done, 1000)
            clock.now += 0.001
    assert stream.getvalue().count("training") <= 12


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_durations_are_said_as_people_do(seconds, said):
    assert duration(seconds) == said


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 50), st.integers(-1, 50), st.floats(0, 100))))
def test_no_order_of_calls_breaks_it(calls):
    clock = Clock()
    progress = Progress(io.StringIO(), clock)
    for what, done, total, later in calls:
        progress(what, done, total)
        clock.now += later


def test_a_terminal_that_is_closed_ends_what_is_shown_and_nothing_else():
    """A closed ssh: the step that is running ends, and its checkpoint is written."""
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as stream, Progress(stream) as progress:
        progress("training", 1, 10)
        os.close(master)
        for done in range(2, 11):
            progress("training", done, 10)
        with unread(stream):
            stream.write("Stopped after step 10.\n")
            stream.flush()


def test_a_disk_that_fails_under_a_log_is_no_closed_terminal(tmp_path):
    with open(tmp_path / "log", "w") as stream, pytest.raises(OSError, match="disk"), unread(stream):
        raise OSError(errno.EIO, "disk")
