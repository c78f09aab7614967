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


def test_the_portion_trained_leaves_turns_with_held_out_verbs_as_they_are() -> None:
    held_out = ("He isn't laughing.", "She isn't going to drive.", "He Smiles, isn't he?")
    asked = ("He is cooking.", *held_out[:2], "They're usually late.", held_out[2])
    train = [row(text, number=number) for number, text in enumerate(asked)]
    one = build("mitigations", {"name": "counterfactual", "portion": "trained"})
    assert {example.id for example in one.more_rows(train)} == {"r0-counterfactual", "r3-counterfactual"}
    assert len(build("mitigations", "counterfactual").more_rows(train)) == 5
    (fault,) = one.check(train[1:3], None, "lora")
    assert "held-out verb" in fault
    assert not one.check(train, None, "lora")


def test_labels_and_the_rows_own_answer_stay_in_what_the_user_says():
    asked = "She is choosing. Is it cooking or singing?"
    labelled = [replace(row(asked, answer, k), label=True) for k, answer in enumerate(("cooking", "singing"))]
    found = build("mitigations", "counterfactual").more_rows(labelled)
    assert {one.context[-1].text for one in found} == {"She choosin. Is it cooking or singing?"}
    (quoted,) = build("mitigations", "counterfactual").more_rows(
        [row("Quote: he is working late. Bring it.", "working late")]
    )
    assert quoted.context[-1].text == "Quote: he working late. Bring it."
