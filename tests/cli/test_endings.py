"""How a command ends: exit codes, and what is said to whom."""

import errno
import os
import signal
import subprocess
import sys
from types import ModuleType

import pytest

from tunewright.cli import main
from tunewright.core.errors import Interrupted, MissingPart, UserError

RUN = "import sys; from tunewright.cli import main; code = main(sys.argv[1:]); "


def test_all_problems_are_printed_and_it_ends_with_2(pipeline, capsys):
    pipeline.answer = UserError(["First thing.", "Second thing."])
    assert main(["tune", "x"]) == 2
    shown = capsys.readouterr()
    assert shown.err == "error: First thing.\nerror: Second thing.\n"
    assert shown.out == ""


def test_a_missing_part_is_a_users_matter(pipeline, capsys):
    pipeline.answer = MissingPart("Run `tunewright fetch x`.")
    assert main(["tune", "x"]) == 2
    assert "fetch x" in capsys.readouterr().err


def test_several_faults_of_a_real_plan_at_once(tmp_path, monkeypatch, capsys):
    from tunewright.core import plugins
    from tunewright.core.config import plan_of

    monkeypatch.setattr(plugins, "build", lambda kind, setting: None)  # the real ones need torch
    fake = ModuleType("tunewright.pipeline.train")
    fake.train = lambda request, progress: plan_of(request)
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    assert main(["train", "x", "--set", "train.max_step=3", "--set", "seed=x", "--map", "text", "--plan", "no"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4
    assert all(line.startswith("error: ") for line in said)
    assert any("Did you mean 'train.max_steps'?" in line for line in said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tnue", "x"], "Did you mean 'tune'?"), (["tune", "--ot", "x"], "--out"), (["tune", "a", "b"], "unexpected"),
        (["compare", "one"], "two or more"), (["compare"], "RUN"), (["predict", "r"], "ROWS"),
        (["predict", "r", "x", "--out", "o", "--min-accuracy", "2"], "--min-accuracy"),
        (["check", "x", "--show-mask", "-1"], "--show-mask"), (["check", "x", "--show-mask", "many"], "--show-mask"),
        (["score", "--rows", "r", "--json", "o"], "--model M or --run"),
        (["score", "--rows", "r", "--json", "o", "--model", "m", "--run", "r"], "either"),
        (["score", "--rows", "r", "--json", "o", "--model", "m", "--precision", "float8"], "bfloat16"),
        (["list", "methds"], "Did you mean 'methods'?"), (["tune", "--set"], "--set"),
    ],
)  # fmt: skip
def test_wrong_words_end_with_2_and_say_what_is_allowed(pipeline, words, said, capsys):
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert pipeline.calls == []


def test_no_words_print_the_help(capsys):
    assert main([]) == 2
    shown = capsys.readouterr()
    assert "Commands:" in shown.out + shown.err


def test_an_interrupted_run_says_how_to_go_on(pipeline, capsys):
    pipeline.answer = Interrupted("Stopped at step 4. Go on with `tunewright resume runs/a`.")
    assert main(["tune", "x"]) == 130
    assert capsys.readouterr().err == "Stopped at step 4. Go on with `tunewright resume runs/a`.\n"


@pytest.mark.parametrize("words", [["tune", "x"], ["train", "x", "--out=runs/my first"], ["resume", "runs/my first"]])
def test_ctrl_c_names_the_run_that_was_being_written_as_a_shell_takes_it(pipeline, run, words, capsys):
    run.rename(run.with_name("my first"))
    pipeline.writing, pipeline.answer = "runs/my first", KeyboardInterrupt()
    assert main(words) == 130
    assert "`tunewright resume 'runs/my first'`" in capsys.readouterr().err


def test_what_another_process_writes_is_not_taken_for_the_own_run(pipeline, run, capsys):
    """A training in another window had touched its folder just now, and a check was told to resume it."""
    (run / "events.jsonl").touch()
    pipeline.answer = KeyboardInterrupt()
    assert main(["check", "x"]) == 130
    assert capsys.readouterr().err == "Stopped. Give the same command again.\n"


def test_what_asks_a_run_is_asked_again_and_predict_goes_on(pipeline, run, capsys):
    pipeline.writing, pipeline.answer = "runs/one", KeyboardInterrupt()
    assert main(["evaluate", "runs/one"]) == 130
    assert "Give the same command again.\n" in capsys.readouterr().err
    pipeline.writing = None
    assert main(["predict", "runs/one", "rows.csv", "--out", "o.csv"]) == 130
    assert "Give the same command again to go on." in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_every_signal_that_ends_a_program_is_told_as_ctrl_c_is(pipeline, run, number, capsys):
    before = signal.signal(number, signal.SIG_DFL)  # the tests may run where it is ignored
    try:
        pipeline.writing, pipeline.answer = "runs/one", lambda: os.kill(os.getpid(), number)
        assert main(["tune", "x"]) == 130
        assert "`tunewright resume runs/one`" in capsys.readouterr().err
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_closed_terminal_ends_nothing_that_was_told_to_stay(pipeline, run):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    done = []
    try:
        pipeline.answer = lambda: (os.kill(os.getpid(), signal.SIGHUP), done.append(1))
        main(["check", "x"])
    finally:
        signal.signal(signal.SIGHUP, before)
    assert done == [1]


def test_a_name_that_is_no_text_is_the_users_matter(pipeline, capsys):
    assert main(["check", os.fsdecode(b"Daten-\xe4.csv")]) == 2
    assert "no UTF-8" in capsys.readouterr().err
    assert pipeline.calls == []


def test_ctrl_c_before_a_run_promises_nothing(pipeline, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pipeline.answer = KeyboardInterrupt()
    assert main(["tune", "x"]) == 130
    assert "resume" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["tune", "x", "--out", "ro/x"], ["check", "x", "--out", "ro/x"], ["compare", "a", "b", "--out", "ro/x"],
        ["score", "--model", "m", "--rows", "r", "--json", "ro/x"], ["evaluate", "runs/one"], ["report", "runs/one"],
        ["delete", "runs/one", "--yes"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_place_that_cannot_be_written_is_the_users_matter_in_every_verb(pipeline, run, words, number, capsys):
    pipeline.answer = OSError(number, os.strerror(number), "ro/x")
    assert main(words) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith("error: ro/x cannot be used: ")
    assert "ame another place" in said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full. Make room"), (errno.EDQUOT, "the disk is full"), (errno.EIO, "another disk"),
        (errno.ENOTDIR, "a file stands where a folder is needed"), (errno.EISDIR, "Name a file"),
        (errno.ENAMETOOLONG, "shorter"), (errno.EBUSY, "in use"),
    ],
)  # fmt: skip
def test_what_the_system_refuses_is_said_in_words(pipeline, run, number, said, capsys):
    pipeline.answer = OSError(number, os.strerror(number), "there")
    assert main(["evaluate", "runs/one"]) == 2
    assert said in capsys.readouterr().err


def test_a_full_disk_is_known_though_a_library_has_its_own_exception_and_the_run_can_go_on(pipeline, run, capsys):
    pipeline.writing = "runs/one"
    pipeline.answer = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert main(["tune", "x"]) == 2
    said = capsys.readouterr().err
    assert "the disk is full" in said
    assert "Go on with `tunewright resume runs/one`." in said


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file", "x"), OSError("odd"), RuntimeError("error 28")])
def test_other_failures_of_the_system_stay_faults_of_ours(pipeline, run, error, capsys):
    pipeline.answer = error
    assert main(["tune", "x"]) == 1
    assert "fault of ours" in capsys.readouterr().err


def test_a_fault_of_ours_is_one_sentence_and_a_file_in_the_run(pipeline, run, capsys, monkeypatch):
    monkeypatch.delenv("TUNEWRIGHT_DEBUG", raising=False)
    pipeline.writing = "runs/one"
    pipeline.answer = ZeroDivisionError("of nothing\nsecond line")
    assert main(["tune", "x", "--set", "instruction=" + "long " * 200]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("This is a fault of ours (ZeroDivisionError: of nothing). ")
    assert shown.err.count("\n") == 1
    [kept] = run.glob("tunewright-fault-*.txt")
    assert str(kept.relative_to(run.parent.parent)) in shown.err
    assert "Traceback" in kept.read_text()
    assert "second line" in kept.read_text()


@pytest.mark.parametrize("debugging", ["", "1"])
def test_a_fault_on_private_rows_carries_no_message(pipeline, run, capsys, monkeypatch, debugging):
    from tunewright.data.formats import HIDDEN

    monkeypatch.setenv("TUNEWRIGHT_DEBUG", debugging)
    HIDDEN.set(True)
    pipeline.writing = "runs/one"
    name = "".join(("Cas", "tro"))  # lines of code are shown, this one too
    try:
        raise KeyError(f"{name}, born 1926") from ValueError(f"{name}'s note")
    except KeyError as error:
        pipeline.answer = error
    assert main(["tune", "x"]) == 1
    said = capsys.readouterr().err
    [kept] = run.glob("tunewright-fault-*.txt")
    told = kept.read_text()
    assert "Castro" not in said
    assert "This is a fault of ours (KeyError in " in said
    assert "Castro" not in told
    for word in ("KeyError", "ValueError", "not shown", "line "):
        assert word in told


def test_a_fault_without_a_run_is_kept_in_the_temporary_folder(pipeline, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pipeline.answer = RuntimeError()
    assert main(["tune", "x"]) == 1
    [kept] = tmp_path.glob("tunewright-fault-*.txt")
    assert str(kept) in capsys.readouterr().err


def test_a_fault_with_nowhere_to_write_still_ends_well(pipeline, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    pipeline.answer = RuntimeError("x")
    assert main(["tune", "x"]) == 1
    assert "could not be written" in capsys.readouterr().err


def test_the_traceback_is_shown_only_when_asked_for(pipeline, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TUNEWRIGHT_DEBUG", "1")
    pipeline.answer = RuntimeError("x")
    assert main(["tune", "x"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_fault():
    code = "import sys, tunewright.cli.listing as l; l.kinds = lambda: ['x' * 100] * 20000\n" + RUN + "sys.exit(code)"
    command = f"{sys.executable} -c {subprocess.list2cmdline([code])} list | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.startswith("xxx")


@pytest.mark.parametrize("shut", ["2>&1 | head -n 1", "2>&1 >/dev/null | true", "2>&-"])
def test_a_reader_that_goes_away_changes_nothing_of_how_it_ended(shut, tmp_path):
    """Neither is what is under way stopped, nor is an unproven model called a better one."""
    code = (
        "import sys, time, types\n"
        "from pathlib import Path\n"
        "from tunewright.pipeline.result import Result\n"
        "tuning = sys.modules['tunewright.pipeline.tune'] = types.ModuleType('tune')\n"
        "def tune(request, progress):\n"
        "    for number in range(2000):\n"
        "        progress(f'step {number} ' + 'x' * 100, number, 2000)\n"
        "    Path('done').touch()\n"
        "    return Result(3, ('y' * 100,) * 2000)\n"
        "tuning.tune = tune\n" + RUN.replace("sys.argv[1:]", "['tune', 'x']") + "sys.exit(code)"
    )
    (tmp_path / "ended_so.py").write_text(code)
    command = f"{{ {sys.executable} ended_so.py; echo $? > ending; }} {shut}"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, timeout=60)
    assert (tmp_path / "done").exists()
    assert (tmp_path / "ending").read_text() == "3\n"
