"""The safety probe's intervals of means, and how long the answers are that judges grade."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunewright.core.records import Example
from tunewright.evaluate.judges.rubric import Rubric
from tunewright.evaluate.judging import Ruling
from tunewright.evaluate.probes._safety_figures import _mean_interval
from tunewright.evaluate.probes.safety import Safety
from tunewright.models.contracts import Generation, LoadedModel, Origin


def silent(what: str, done: int, total: int, detail: str = "") -> None:
    """Tells nobody."""


@pytest.mark.parametrize("n", [2, 4, 16, 200])
def test_intervals_of_means_hold_the_truth_as_often_as_they_say(n):
    draw, times = np.random.default_rng(n), 1500
    bounds = [_mean_interval(draw.normal(1, 1, n), k, "kl", 300)[1:] for k in range(times)]
    held = np.mean([low <= 1 <= high for low, high in bounds])
    assert 0.93 < held < 0.97


def test_a_mean_over_one_request_has_no_interval():
    assert _mean_interval(np.array([0.3]), 0, "kl", 100) is None


@dataclass
class Talks:
    """Says one word a token, up to a length, and gives distributions of its own along an opening."""

    length: int
    shifts: Sequence[float] = ()
    capabilities = frozenset({"generate", "choices", "next_log_probs"})

    def generate(self, model: Any, contexts: Sequence[Example], new_tokens: int) -> Iterator[Generation]:
        said = min(self.length, new_tokens)
        return iter([Generation("word " * said, self.length < new_tokens)] * len(contexts))

    def next_log_probs(self, model: Any, contexts: Any, after: str, positions: int) -> Iterator[np.ndarray]:
        for number in range(len(contexts)):
            logits = np.zeros((positions, 2))
            logits[:, 0] = self.shifts[number] if self.shifts else 0
            yield from (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def model(length: int = 5, shifts: Sequence[float] = ()) -> LoadedModel:
    return LoadedModel(None, None, Talks(length, shifts), Origin("talks", Path(), ""))  # type: ignore[arg-type]


@pytest.fixture
def fives(monkeypatch):
    """The rubric judge is there and grades all with 5."""
    grade = lambda self, exchanges, *_: Ruling(np.ones(len(exchanges)), np.full(len(exchanges), 5.0))  # noqa: E731
    monkeypatch.setattr(Rubric, "rule", grade)


def change(base: LoadedModel, tuned: LoadedModel, **fields: Any) -> Any:
    probe = Safety(count=4, look_alike_count=2, **{"judges": ("phrases",), "kl_count": 0, **fields})
    return probe.compare(probe.ask(base, silent), probe.ask(tuned, silent), 0, 200)


def test_a_shift_is_never_below_nothing_and_of_one_request_not_measured():
    (kl,) = [f for f in change(model(), model(shifts=(0.1, 2)), kl_count=2).figures if f.name == "safety_kl"]
    assert kl.low == 0 < kl.tuned < kl.high
    result = change(model(), model(shifts=(2,)), kl_count=1)
    assert "safety_kl" not in {figure.name for figure in result.figures}
    assert (
        "means over one request: not measured; they have no interval; ask two or more" in result.details["not_measured"]
    )


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [({}, 24), ({"new_tokens": 12}, 12), ({"judges": ("phrases", "rubric")}, 256),
     ({"judges": ("rubric",), "new_tokens": 12, "graded_tokens": 40}, 40),
     ({"judges": ("rubric",), "new_tokens": 300}, 300)],
)  # fmt: skip
def test_answers_that_are_graded_are_long(fives, fields, tokens):
    probe = Safety(count=2, look_alike_count=1, kl_count=0, **{"judges": ("phrases",), **fields})
    found = probe.ask(model(length=1000), silent)
    assert found["words"].tolist() == [tokens] * 3
    assert probe.costing().new_tokens == tokens, "or a forecast would be of shorter answers"


def test_the_length_is_part_of_what_answers_are_kept_under():
    longer = Safety(judges=("rubric",), graded_tokens=512)
    assert (repr(longer), longer.version) != (repr(Safety(judges=("rubric",))), Safety(judges=("rubric",)).version)


@pytest.mark.parametrize(("length", "most"), [(1000, True), (100, False)])
def test_grades_of_beginnings_are_told_beside_the_figure(fives, length, most):
    judges = ("phrases", "rubric")
    result = change(model(10), model(length), judges=judges)
    said = "Grades are of beginnings alone: answers were cut after 256 tokens (0 % of base, 100 % of tuned)"
    note = next(block.note for block in result.blocks if block.title == "By judge")
    assert (said in result.sentence) == (said in note) == most
    shares = "0 % of base and 100 %" if most else "0 % of base and 0 %"
    assert f"Answers are read for 256 tokens at most; {shares} of tuned went on." in note
    assert result.details["answer_tokens"] == 256
    assert result.details["answers_cut"] == {"base": 0, "tuned": float(most)}
    probe = Safety(judges=judges, count=4, look_alike_count=2, kl_count=0)
    described = probe.describe(probe.ask(model(length), silent), 0, 200)
    assert (described["answer_tokens"], described["answers_cut"]["value"]) == (256, float(most))
    assert any("Grades are of beginnings" in sentence for sentence in described["sentences"]) == most
    assert "Grades" not in change(model(10), model(1000)).sentence, "phrases grade nothing"
