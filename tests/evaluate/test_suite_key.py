"""What a model answered is kept under a key that changes with everything the model is shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunewright.core.plugins import build
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.evaluate.kept import rows_key
from tunewright.evaluate.suite import Suite
from tunewright.models.contracts import EncodeSettings

SUITE = Suite(frozenset({"answer"}), (), EncodeSettings(), build("objectives", "next_token"), 0, 8)
TURN = Turn("user", (text_part("What is the weather?"),))
ROW = Example((TURN,), (Answer((text_part("Rain."),)),), id="own-1")


def with_turn(**fields: object) -> Example:
    return replace(ROW, context=(replace(TURN, **fields),))


def with_answer(**fields: object) -> Example:
    return replace(ROW, answers=(replace(ROW.answer, **fields),))


@pytest.mark.parametrize(
    "other",
    [
        with_turn(parts=(text_part("What is the time?"),)),
        with_turn(role="system"),
        with_turn(weight=1.0),
        with_turn(extra={"name": "Ann"}),
        with_answer(parts=(text_part("Sun."),)),
        with_answer(rank=1),
        with_answer(weight=0.5),
        with_answer(extra={"tool_calls": [{"name": "weather"}]}),
        replace(ROW, tools=({"name": "weather"},)),
        replace(ROW, id="own-2"),
    ],
)
def test_another_question_has_another_key(other):
    assert SUITE.key([other]) != SUITE.key([ROW])
    assert rows_key([other]) != rows_key([ROW])


def test_the_same_question_has_the_same_key_wherever_it_was_read():
    elsewhere = replace(ROW, source="elsewhere:7")
    assert SUITE.key([elsewhere]) == SUITE.key([ROW])
    assert rows_key([elsewhere]) == rows_key([ROW])
