"""A better and a worse answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from tunewright.core.records import Answer, Example, Turn
from tunewright.data.formats import Flaw, How, Row
from tunewright.data.formats._common import ByColumns
from tunewright.data.formats._turns import answer_of, prompt, reply, turns, with_system


class Preference(ByColumns):
    """Preferences: `prompt`, `chosen`, `rejected`, as text or messages; the prompt may stand in both answers."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {"chosen": (), "rejected": ()}
    optional: ClassVar[tuple[str, ...]] = ("prompt", "system", "system_prompt")
    answers: ClassVar[tuple[str, ...]] = ("chosen", "rejected")
    sure: ClassVar[float] = 1.0

    def parse(self, row: Row, how: How) -> Example:
        """The chosen answer has rank 0, the rejected one rank 1."""
        chosen, rejected = row.get("chosen"), row.get("rejected")
        if chosen is None and rejected is None and not how.answers_needed:
            return Example(with_system(prompt(row.get("prompt"), "prompt", how), row), ())
        if row.get("prompt") is None:
            context, better, worse = _shared(chosen, rejected, how)
        else:
            context = prompt(row["prompt"], "prompt", how)
            better, worse = reply(chosen, "chosen", how), reply(rejected, "rejected", how)
        if better.parts == worse.parts and better.extra == worse.extra:
            raise Flaw("rejected", "the same answer as chosen", "another answer", "delete the row or correct it")
        return Example(with_system(context, row), (better, replace(worse, rank=1)))


def _shared(chosen: Any, rejected: Any, how: How) -> tuple[tuple[Turn, ...], Answer, Answer]:
    """The implicit prompt: both are whole chats that differ in their last message alone."""
    if not isinstance(chosen, list):
        raise Flaw("prompt", "nothing", "a prompt, or chosen and rejected as whole chats", "add the prompt")
    one, other = turns(chosen, "chosen", how), turns(rejected, "rejected", how)
    if one[:-1] != other[:-1] or not one[:-1]:
        found = "chats that differ before their last message" if one[:-1] else "no prompt"
        raise Flaw("rejected", found, "the same messages but for the last", "correct them, or give a prompt column")
    for name, given in (("chosen", one), ("rejected", other)):
        if given[-1].role != "assistant":
            raise Flaw(name, f"role {given[-1].role} as the last message", "assistant", "end with the answer")
    untrained = tuple(replace(turn, weight=0.0) for turn in one[:-1])
    return untrained, answer_of(one[-1], "chosen"), answer_of(other[-1], "rejected")
