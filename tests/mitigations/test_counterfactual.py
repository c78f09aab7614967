"""Rows once more in a dialect: only what the user says changes, and only where a rule fits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunewright.core.plugins import build
from tunewright.core.records import Answer, Example, Turn, text_part


def row(asked: str, answer: str = "He is working.", number: int = 0) -> Example:
    turns = (Turn("system", (text_part("He is working."),)), Turn("user", (text_part(asked),)))
    return Example(turns, (Answer((text_part(answer),)),), id=f"r{number}", unit="u")


def test_only_the_users_words_change_and_the_answer_stays() -> None:
    (found,) = build("mitigations", "counterfactual").more_rows([row("He is working today. Why?"), row("Why?")])
    assert [turn.text for turn in found.context] == ["He is working.", "He workin today. Why?"]
    assert found == replace(row("x"), context=found.context, id="r0-counterfactual")


@pytest.mark.parametrize(("share", "rows"), [(1.0, 40), (0.1, 4), (0.01, 1)])
def test_a_share_is_a_fixed_choice(share, rows) -> None:
    train = [row(f"She isn't number {number}.", number=number) for number in range(40)]
    one = build("mitigations", {"name": "counterfactual", "share": share})
    assert len({example.id for example in one.more_rows(train)}) == rows
    assert one.more_rows(train) == one.more_rows(train)


def test_rows_without_a_counterpart_are_told() -> None:
    assert build("mitigations", "counterfactual").check([row("Why?")], None, "lora")
    assert not build("mitigations", "counterfactual").check([row("They aren't?")], None, "lora")
