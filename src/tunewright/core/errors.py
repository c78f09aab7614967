"""What a user can mend is a `UserError`; everything else is a fault of ours.

UserError            the user's input: exit code 2, printed without a traceback
`- MissingPart       an optional package, a model or data set is not installed or not fetched
`- NotMeasured       a probe cannot be asked here; in a run that is a finding, not an end
`- Interrupted       the run stopped in a state from which `resume` goes on
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class UserError(Exception):
    """One or more faults in what the user gave, all told at once.

    Args:
        problems: One sentence or several; each says what was found, what is allowed and what to do.
    """

    exit_code = 2

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class MissingPart(UserError):
    """Something optional is not there; the sentence names the command that brings it."""


class NotMeasured(UserError):
    """What was to be measured cannot be here; the sentence says why. It is never told as 0, and passes no gate."""


class Interrupted(UserError):
    """The run was stopped and can go on; the sentence says how."""

    exit_code = 130


def nearest(word: str, allowed: Sequence[str]) -> str:
    """Returns ' Did you mean X?' for the closest allowed word, or an empty string."""
    close = get_close_matches(word, allowed, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def unknown(what: str, word: str, allowed: Iterable[str]) -> UserError:
    """An unknown name: what was found, what is allowed, the nearest one."""
    names = sorted(allowed)
    return UserError(f"Unknown {what} '{word}'.{nearest(word, names)} Allowed: {', '.join(names)}.")


SHOWN = 20
"""Faults of one kind that are told one by one."""


def first_of(faults: Sequence[str]) -> list[str]:
    """The first faults, and how many more there are."""
    more = len(faults) - SHOWN
    return [*faults[:SHOWN], *([f"... and {more} more like these."] if more > 0 else [])]
