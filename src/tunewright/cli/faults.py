"""From exceptions to exit codes: what the user can mend, what was interrupted, what is a fault of ours."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import typer

from tunewright.cli.app import app
from tunewright.cli.pipes import unread
from tunewright.core.begun import WRITTEN
from tunewright.core.errors import Interrupted, UserError
from tunewright.core.files import system_error
from tunewright.core.signals import handled, heard
from tunewright.core.words import command

_FULL = "the disk is full. Make room there, or name a place on another disk."
_RIGHTS = "the rights do not allow it. Mend them, or name another place."
_REFUSED = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "it lies on a disk that can only be read. Name another place.",
    errno.ENOTDIR: "a file stands where a folder is needed. Name another place.",
    errno.EISDIR: "it is a folder, and a file is needed. Name a file.",
    errno.ENAMETOOLONG: "the name is too long. Name a shorter one.",
    errno.EBUSY: "it is in use. End what uses it.",
    errno.EIO: "the disk does not answer as it should. Name a place on another disk.",
}
"""What the system refuses because of what was named or the machine, in words that say what to do."""

INTERNAL, USER, INTERRUPTED = 1, 2, 130
_MAKING = ("train", "tune", "resume")
"""Verbs that make a run, which would be in the way of a second start."""
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""The base of typer's own findings (unknown option, missing argument); it has no public name in every version."""


def guarded(argv: Sequence[str] | None) -> int:
    """Runs the command line; no exception leaves, and no traceback is shown unless TUNEWRIGHT_DEBUG=1."""
    words = list(sys.argv[1:] if argv is None else argv)
    WRITTEN.clear()
    try:
        with handled(heard(), _interrupted):
            return _called(words)
    except typer.Exit as error:
        return error.exit_code
    except UserError as error:
        for problem in error.problems:
            _say(problem if isinstance(error, Interrupted) else f"error: {problem}")
        return error.exit_code
    except _UsageError as error:
        error.show()  # type: ignore[attr-defined]
        return USER
    except (KeyboardInterrupt, typer.Abort):
        _say(f"Stopped. {_gone_on(words)}")
        return INTERRUPTED
    except BrokenPipeError:
        # Of a verb that only says something (list, --schema); what is done tells its own end (`app._call`).
        with unread(sys.stdout):
            raise
        return 0
    except Exception as error:  # noqa: BLE001  (the one place where nothing may pass)
        if refused := _refused(error):
            _say_if_debugging(error)
            known = f" {_gone_on(words)}" if _begun(words) or words[:1] == ["predict"] else ""
            _say(f"error: {refused}{known}")
            return USER
        return _ours(error, next((run for run in WRITTEN if run.is_dir()), None))


def _called(words: list[str]) -> int:
    """The exit code of the verb."""
    if unwritten := [word for word in words if not _is_text(word)]:
        raise UserError([
            f"{one!r}: a name with bytes that are no UTF-8, as old archives leave them. Rename the file or folder."
            for one in unwritten
        ])  # fmt: skip
    # Not `app()`: it turns Ctrl-C into an exit code, and then nothing could be said.
    verbs = typer.main.get_command(app)
    with verbs.make_context("tunewright", words) as context:
        code = verbs.invoke(context)
    sys.stdout.flush()
    return int(code or 0)


def _interrupted(number: int, frame: FrameType | None) -> None:
    """A polite end (`timeout`, a container that stops, a terminal that is closed) is told as Ctrl-C is."""
    raise KeyboardInterrupt


def _gone_on(words: Sequence[str]) -> str:
    """How what this command began is gone on with."""
    if _begun(words):
        return f"Go on with `{command('resume', WRITTEN[0])}`."
    return f"Give the same command again{' to go on' if words[:1] == ['predict'] else ''}."


def _begun(words: Sequence[str]) -> bool:
    """Whether it made a run, or goes on with one, that is there to be gone on with."""
    return bool(WRITTEN) and words[0] in _MAKING and (WRITTEN[0] / "plan.yaml").is_file()


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refused(error: Exception) -> str:
    """What the system refused, as a sentence; empty when this error is of another kind."""
    number = system_error(error)
    place = str((error.filename if isinstance(error, OSError) else "") or "A file")
    return f"{place} cannot be used: {_REFUSED[number]}" if number in _REFUSED else ""


def _say_if_debugging(error: Exception) -> None:
    if os.environ.get("TUNEWRIGHT_DEBUG") == "1":
        _say(_details(error))


def _hidden() -> bool:
    """Whether rows are private; as long as their readers are not loaded, none was read."""
    readers = sys.modules.get("tunewright.data.formats")
    return readers is not None and bool(readers.HIDDEN.get())


def _details(error: BaseException) -> str:
    """The traceback; of private rows without messages, which may hold what stands in a row."""
    if not _hidden():
        return "".join(traceback.format_exception(error))
    before = error.__cause__ or error.__context__
    own = f"{type(error).__name__} (its message is not shown: the rows are private)\n"
    return (_details(before) if before else "") + own + "".join(traceback.format_tb(error.__traceback__))


def _summary(error: Exception) -> str:
    """The kind of fault with its message in a line, or with its place alone."""
    if not _hidden():
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} in {Path(frames[-1].filename).name}, line {frames[-1].lineno}"


def _ours(error: Exception, run: Path | None) -> int:
    _say_if_debugging(error)
    try:
        file, name = tempfile.mkstemp(prefix="tunewright-fault-", suffix=".txt", dir=run)
        with open(file, "w", encoding="utf-8") as out:
            out.write(_details(error))
        kept = f"The details are in {name}; please report them."
    except OSError as unwritable:
        kept = f"The details could not be written ({unwritable.strerror}); TUNEWRIGHT_DEBUG=1 shows them."
    _say(f"This is a fault of ours ({_summary(error)}). {kept}")
    return INTERNAL


def _say(text: str) -> None:
    with unread(sys.stderr):
        typer.echo(text, err=True)
