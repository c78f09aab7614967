"""What must be told of encoded rows before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tunewright.core.blocks import Mask, Span
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.data.checks import measure_encoding
from tunewright.data.encoder import Encoded, Overlong, Unencodable


def example(n: int, context: bool = True, weight: float = 1.0) -> Example:
    turns = (Turn("user", (text_part(f"q{n}"),)),) if context else ()
    return Example(turns, (Answer((text_part("a"),), weight=weight),), id=f"id{n}", source=f"rows.jsonl:{n}")


def encoded(row: Example, length: int = 10, trained: int = 3, **notes: Any) -> Encoded:
    positions = np.arange(length - 1 - trained, length - 1)
    arrays = {"input_ids": np.zeros(length, np.int64)}
    weights = np.full(trained, row.answer.weight, np.float32)
    return Encoded(row, arrays, length, positions, positions, weights, {"stop_trained": True, **notes})


def measure(pieces: Sequence[Encoded], **more: Any) -> Any:
    return measure_encoding(iter(pieces), max_length=16, **more)


def test_sound_rows_have_no_problems_and_these_facts() -> None:
    found = measure([encoded(example(n), length=4 + n) for n in range(8)])
    assert found.problems == []
    assert found.facts["rows"] == 8
    assert found.facts["tokens"] == sum(range(4, 12))
    assert found.facts["trained_share"] == 24 / 60
    assert found.facts["stop_trained"] == 1
    assert (found.facts["shortest"], found.facts["longest"]) == (4, 11)
    assert found.facts["over_max_length"] == 0


@pytest.mark.parametrize(("missing", "stopped"), [(1, False), (2, True)])
def test_stop_tokens_must_be_trained_in_99_percent(missing: int, stopped: bool) -> None:
    found = measure([encoded(example(n), stop_trained=n >= missing) for n in range(100)])
    assert bool(found.problems) is stopped
    assert found.facts["stop_trained"] == pytest.approx(1 - missing / 100)
    if stopped:
        assert "rows.jsonl:0, rows.jsonl:1" in found.problems[0]


def test_models_without_a_stop_token_are_not_blamed() -> None:
    bare = replace(encoded(example(0)), notes={})
    found = measure([bare])
    assert (found.problems, found.facts["stop_trained"]) == ([], None)


def test_an_empty_mask_is_named() -> None:
    found = measure([encoded(example(0)), encoded(example(1), trained=0)])
    assert any("loss mask is empty" in problem and "rows.jsonl:1" in problem for problem in found.problems)


@pytest.mark.parametrize(
    ("loss_on", "context", "problem"), [("answers", True, True), ("all", True, False), ("answers", False, False)]
)
def test_trained_prompts_are_a_problem_unless_meant(loss_on: str, context: bool, problem: bool) -> None:
    found = measure([encoded(example(n, context), trained=9) for n in range(3)], loss_on=loss_on)
    assert any("prompts too" in one for one in found.problems) is problem
    assert len(found.problems) == problem


def test_rows_that_the_user_weighs_zero_are_no_fault_unless_all_are() -> None:
    idle = encoded(example(1, weight=0.0), stop_trained=False)
    assert measure([encoded(example(0)), idle]).problems == []
    assert any("weight 0" in problem for problem in measure([idle]).problems)


def test_pieces_of_one_row_count_as_one() -> None:
    row = example(0, context=False)
    found = measure([encoded(row, stop_trained=False, trained=9), encoded(row, trained=9)])
    assert found.problems == []
    assert found.facts["rows"] == 1


def test_all_refused_rows_are_told_at_once() -> None:
    refused = [(example(7), Overlong(40, 16)), (example(8), Unencodable("role tool; allowed are user, assistant"))]
    dropped = {"train": ["rows.jsonl:9"], "test": ["rows.jsonl:3", "rows.jsonl:4"]}
    found = measure([encoded(example(0))], refused=refused, dropped=dropped)
    assert any("rows.jsonl:7: 40 tokens, allowed are 16" in problem for problem in found.problems)
    assert any("rows.jsonl:8: role tool" in problem for problem in found.problems)
    assert any("data.on_overlong" in problem for problem in found.problems)
    assert found.facts["over_max_length_rows"] == ["rows.jsonl:7 (40 tokens)"]
    assert found.facts["dropped_rows"] == ["rows.jsonl:9"]
    assert found.facts["dropped_test_rows"] == ["rows.jsonl:3", "rows.jsonl:4"]
    assert found.facts["overlong_dropped"] == {"train": 1, "valid": 0, "test": 2}
    assert found.facts["over_max_length"] == 4


@pytest.mark.parametrize(
    ("chosen", "context", "advice"),
    [
        ("error", True, "to drop or truncate-context."),
        ("error", False, "to drop or split."),
        ("split", True, "to drop or truncate-context."),
        ("truncate-context", False, "to drop or split."),
    ],
)
def test_what_is_advised_for_long_rows_would_help_and_is_not_set_already(
    chosen: str, context: bool, advice: str
) -> None:
    refused = [(example(7, context), Overlong(40, 16))]
    (_, said) = measure([encoded(example(0, context))], refused=refused, on_overlong=chosen).problems
    assert said.endswith(advice)
    assert (f"data.on_overlong: {chosen} cuts" in said) is (chosen != "error")


def test_nothing_left_is_a_problem() -> None:
    assert any("No training row is left" in problem for problem in measure([]).problems)


def test_double_starts_and_cuts_are_counted() -> None:
    found = measure([encoded(example(0), double_bos=True), encoded(example(1), cut=5), encoded(example(2))])
    assert found.facts["double_bos"] == 1
    assert found.facts["cut_rows"] == ["rows.jsonl:1 (5 tokens of context)"]


@pytest.mark.parametrize("lengths", [[1], [31, 32, 33], [5, 64, 1000, 1024], [2] * 7])
def test_the_histogram_counts_every_piece_once(lengths: list[int]) -> None:
    bins = measure([encoded(example(n), length=k, trained=0) for n, k in enumerate(lengths)]).facts["length_histogram"]
    for name, count in bins.items():
        low, high = map(int, name.split(" to "))
        assert count == sum(low <= length <= high for length in lengths)
    assert sum(bins.values()) == len(lengths)


def test_one_row_is_shown_with_its_mask() -> None:
    spans = [Span(text="q", trained=False), Span(text="a", trained=True)]
    (block,) = measure([encoded(example(0))], render=lambda piece: spans).blocks
    assert isinstance(block, Mask)
    assert block.spans == spans
