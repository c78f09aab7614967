"""What was asked of a trained run and has not ended yet, so that `resume` can go on with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tunewright.core.errors import Interrupted, UserError
from tunewright.core.store import Run
from tunewright.core.words import command

_ASKED = "evaluations/asked.json"


@contextmanager
def under_way(run: Run, verb: str, **how: Any) -> Iterator[None]:
    """Within it `resume` knows what is asked; what turns out to be the user's fault is not asked again.

    Another verb that was interrupted stays asked; the same one is asked as it is asked now.

    Args:
        run: Of whom it is asked.
        verb: What.
        how: The arguments to ask it with, as JSON values.
    """
    others = [one for one in asked_of(run) if one["verb"] != verb]
    run.write(_ASKED, [*others, {"verb": verb, **how}])
    try:
        with gone_on_from(run):
            yield
    except Interrupted:
        raise
    except UserError:
        _leave(run, others)
        raise
    _leave(run, others)


def asked_of(run: Run) -> list[dict[str, Any]]:
    """The verbs that are under way, each with its arguments, in the order in which they were asked."""
    found = run.read(_ASKED) or ()
    return [found] if isinstance(found, dict) else list(found)  # an older version knew one alone


def _leave(run: Run, asked: list[dict[str, Any]]) -> None:
    """What is still asked; a run of which nothing is asked has no such file."""
    if asked:
        run.write(_ASKED, asked)
    else:
        (run.folder / _ASKED).unlink()


@contextmanager
def gone_on_from(run: Run) -> Iterator[None]:
    """Within it whatever stops in a run inside the run names the run itself, which finishes all that was asked."""
    try:
        yield
    except Interrupted as stopped:
        raise Interrupted(_of_the_run(run, str(stopped))) from None
    except UserError as error:
        error.problems = [_of_the_run(run, problem) for problem in error.problems]
        error.args = ("\n".join(error.problems),)
        raise


def _of_the_run(run: Run, sentence: str) -> str:
    """The sentence with the run itself where it tells to resume a run inside it."""
    inside = re.escape(command("resume", run.children / "CHILD")).replace("CHILD", r"[\w-]+")
    return re.sub(inside, lambda _: command("resume", run.folder), sentence)
