"""What was asked of a trained run and has not ended yet, so that `resume` can go on with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tunewright.core.errors import Interrupted, UserError
from tunewright.core.store import Run

_ASKED = "evaluations/asked.json"


@contextmanager
def under_way(run: Run, verb: str, **how: Any) -> Iterator[None]:
    """Within it `resume` knows what is asked; what turns out to be the user's fault is not asked again.

    Args:
        run: Of whom it is asked.
        verb: What.
        how: The arguments to ask it with, as JSON values.
    """
    run.write(_ASKED, {"verb": verb, **how})
    try:
        with gone_on_from(run):
            yield
    except Interrupted:
        raise
    except UserError:
        (run.folder / _ASKED).unlink()
        raise
    (run.folder / _ASKED).unlink()


def asked_of(run: Run) -> dict[str, Any]:
    """The verb that is under way and its arguments; empty where there is none."""
    return dict(run.read(_ASKED) or {})


@contextmanager
def gone_on_from(run: Run) -> Iterator[None]:
    """Within it whatever stops in a run inside the run names the run itself, which finishes all that was asked."""
    try:
        yield
    except Interrupted as stopped:
        inside = str(run.children)
        told = (str(run.folder) if word.startswith(inside) else word for word in str(stopped).split(" "))
        raise Interrupted(" ".join(told)) from None
