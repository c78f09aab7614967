"""The command line in a process of its own, without the seconds in which torch is imported.

The process is forked from one that has imported everything and computed nothing, so that it can be killed, has its own
threads and environment, and leaves nothing behind. `from_nothing` starts Python as a user does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *(f"tunewright.pipeline.{verb}" for verb in ("tune", "resume", "predict", "compare", "score", "delete")),
        "tunewright.models.families.causal_lm",
        "transformers.models.auto.modeling_auto",
        "transformers.models.qwen2.modeling_qwen2",
        "transformers.generation.utils",
        "peft",
        "sklearn.linear_model",
        "sklearn.feature_extraction.text",
    ]
)
_PATIENCE = 300
"""Seconds after which a command has hung."""


class Started:
    """A command that is running; what it says goes to two files."""

    def __init__(
        self, words: Sequence[object], place: Path | None = None, first: Callable[[], None] | None = None
    ) -> None:
        """Starts it in the folder `place`; `first`, a function of a module, is called in the new process before."""
        self.words = [str(word) for word in words]
        self._said = tempfile.TemporaryDirectory()
        self._out, self._err = (Path(self._said.name, name) for name in ("out", "err"))
        told = (self.words, str(place or Path.cwd()), dict(os.environ), (self._out, self._err), first)
        self._process = _FORKS.Process(target=_command, args=told)
        self._process.start()

    def signal_when(self, ready: Callable[[], object], number: signal.Signals, group: bool = False) -> int:
        """Sends a signal as soon as something is so, unless the command has ended before; gives the exit code.

        To the whole group as a terminal does, if the command leads one.
        """
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and self._process.is_alive() and not ready():
            time.sleep(0.005)
        if self._process.is_alive():
            (os.killpg if group else os.kill)(self._process.pid or 0, number)
        return self.ended().returncode

    def ended(self) -> subprocess.CompletedProcess[str]:
        """Waits for the end: exit code (minus the signal's number if one ended it), output, and what went wrong."""
        self._process.join(_PATIENCE)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            raise AssertionError(f"{self.words} did not end in {_PATIENCE} s")
        said = [path.read_text() if path.exists() else "" for path in (self._out, self._err)]
        self._said.cleanup()
        return subprocess.CompletedProcess(self.words, code, *said)


def _command(
    words: list[str],
    place: str,
    environment: Mapping[str, str],
    said: tuple[Path, Path],
    first: Callable[[], None] | None,
) -> None:
    """Runs in the fork. Warnings are errors, as everywhere in the tests."""
    for number, path in enumerate(said, 1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    warnings.simplefilter("error")
    if first:
        first()
    from tunewright.cli import main

    sys.exit(main(words))


def tunewright(*words: object, expect: int | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return _as_expected(Started(words).ended(), expect)


def from_nothing(*words: object, expect: int | None = None) -> subprocess.CompletedProcess[str]:
    """The same from Python's own start, seconds slower: for what the imports might change or warn of."""
    start = "import sys; from tunewright.cli import main; sys.exit(main())"
    command = [sys.executable, "-W", "error", "-c", start, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    return _as_expected(done, expect)


def _as_expected(done: subprocess.CompletedProcess[str], expect: int | None) -> subprocess.CompletedProcess[str]:
    if expect is not None:
        assert done.returncode == expect, f"{done.args} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done


def signal_after_steps(words: list[object], run: Path, number: signal.Signals, steps: int) -> int:
    """Starts a command and sends it a signal when `run` has made so many steps; gives the exit code."""
    log = run / "events.jsonl"
    return Started(words).signal_when(
        lambda: log.exists() and log.read_bytes().count(b'"type": "step"') >= steps, number
    )
