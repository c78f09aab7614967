"""What a model answered is kept under a key that changes with everything the model is shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunewright.core.plugins import build
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.evaluate.suite import Suite
from tunewright.models.contracts import EncodeSettings

SUITE = Suite(frozenset({"answer"}), (), EncodeSettings(), build("objectives", "next_token"), 0, 8, 0)
TURN = Turn("user", (text_part("What is the weather?"),))
ROW = Example((TURN,), (Answer((text_part("Rain."),)),), id="own-1")


def with_turn(**fields: object) -> Example:
    return replace(ROW, context=(replace(TURN, **fields),))


@pytest.mark.parametrize(
    "other",
    [
        with_turn(parts=(text_part("What is the time?"),)),
        with_turn(role="system"),
        with_turn(weight=1.0),
        with_turn(extra={"name": "Ann"}),
        replace(ROW, answers=(Answer((text_part("Sun."),)),)),
        replace(ROW, tools=({"name": "weather"},)),
        replace(ROW, id="own-2"),
    ],
)
def test_another_question_has_another_key(other):
    assert SUITE.key([other]) != SUITE.key([ROW])


def test_the_same_question_has_the_same_key_wherever_it_was_read():
    assert SUITE.key([replace(ROW, source="elsewhere:7")]) == SUITE.key([ROW])
