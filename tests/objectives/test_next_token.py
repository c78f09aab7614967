"""The next-token objective against sums written out, and the faults it finds in data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tiny import KINDS
from tunewright.core.errors import UserError
from tunewright.core.plugins import build, everything
from tunewright.core.records import Answer, Example, Part, Turn, text_part
from tunewright.models.contracts import Batch, LoadedModel, Origin, Segment, Targets

GOOD = Example((Turn("user", (text_part("Hi"),)),), (Answer((text_part("Hello"),)),), source="rows.jsonl:1")


class Given:
    """A stand-in for a family: its log-probabilities are given."""

    def __init__(self, log_prob_T: torch.Tensor) -> None:
        self.log_prob_T = log_prob_T

    def token_log_probs(self, model: object, batch: object) -> torch.Tensor:
        return self.log_prob_T


def loss_of(log_probs, weights, segments, count):
    """The loss of given log-probabilities."""
    log_prob_T = torch.as_tensor(log_probs)
    empty = torch.zeros(len(weights), dtype=torch.int64)
    targets = Targets(empty, empty, torch.tensor(weights, dtype=torch.float32), torch.tensor(segments).long())
    batch = Batch({}, tuple(Segment(i, None, i, i, i + 1) for i in range(count)), targets, ("",) * count, count)
    model = LoadedModel(torch.nn.Identity(), None, Given(log_prob_T), Origin("given", None, ""))
    return build("objectives", "next_token").loss(model, batch, seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_each_segment_is_its_own_sum_by_transformers_one_row_at_a_time(kind, open_tiny, rows):
    model = open_tiny(kind, torch.float64 if kind != "mamba" else torch.float32)
    loss = build("objectives", "next_token").loss(model, model.family.collate(model, rows), seed=0)
    plain = open_tiny(kind, model.module.dtype).module
    plain.set_attn_implementation("eager")
    for row, total, count in zip(rows, loss.sum_S, loss.count_S, strict=True):
        ids = torch.from_numpy(row.inputs["input_ids"])
        with torch.no_grad():
            log_probs = plain(input_ids=ids[None], use_cache=False).logits[0].double().log_softmax(-1)
        want = -sum(w * log_probs[p, t] for p, t, w in zip(row.positions, row.targets, row.weights, strict=True))
        assert float(total) == pytest.approx(float(want), rel=1e-4)
        assert float(count) == pytest.approx(float(row.weights.sum()))
    assert loss.separable


@given(st.lists(st.tuples(st.floats(-50, 0), st.floats(0, 4, width=32), st.integers(0, 4)), max_size=30))
def test_sums_and_counts_are_what_a_loop_adds_up(targets):
    log_probs, weights, segments = ([t[i] for t in targets] for i in range(3))
    loss = loss_of(torch.tensor(log_probs, dtype=torch.float64), weights, segments, 5)
    for s in range(5):
        mine = [(lp, w) for lp, w, segment in targets if segment == s]
        assert float(loss.sum_S[s]) == pytest.approx(-sum(lp * w for lp, w in mine), abs=1e-9)
        assert float(loss.count_S[s]) == pytest.approx(sum(w for _, w in mine), abs=1e-9)


def test_bfloat16_log_probabilities_are_added_in_float32():
    """A thousand and one ones: bfloat16 would stop counting at 256."""
    loss = loss_of(torch.full((1001,), -1.0, dtype=torch.bfloat16), [1.0] * 1001, [0] * 1001, 1)
    assert loss.sum_S.dtype == loss.count_S.dtype == torch.float32
    assert (float(loss.sum_S), float(loss.count_S)) == (1001.0, 1001.0)


def test_a_segment_without_targets_counts_nothing():
    loss = loss_of(torch.tensor([-2.0]), [1.0], [1], 3)
    assert loss.sum_S.tolist() == [0.0, 2.0, 0.0]
    assert loss.count_S.tolist() == [0.0, 1.0, 0.0]


def test_the_count_carries_no_gradient():
    log_prob_T = torch.tensor([-1.0, -2.0], requires_grad=True)
    loss = loss_of(log_prob_T, [1.0, 0.5], [0, 0], 1)
    assert not loss.count_S.requires_grad
    loss.sum_S.sum().backward()
    assert log_prob_T.grad.tolist() == [-1.0, -0.5]


def test_good_data_passes():
    for loss_on in ("answers", "last", "all"):
        assert build("objectives", {"name": "next_token", "loss_on": loss_on}).check([GOOD]) == []


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"answers": ()}, "no answer"),
        ({"answers": (Answer((Part("image", b""),)),)}, "kind image"),
        ({"answers": (Answer((text_part(""),)),)}, "empty answer"),
        ({"answers": (Answer((text_part("a"),), weight=0.0),)}, "weight 0 on every answer"),
        ({"answers": (Answer((text_part("a"),), weight=-1.0),)}, "below 0"),
        ({"answers": (Answer((text_part("a"),), weight=float("nan")),)}, "not finite"),
    ],
)
def test_each_fault_is_one_sentence_with_its_count_and_place(fault, word):
    bad = replace(GOOD, source="rows.jsonl:2", **fault)
    problems = build("objectives", "next_token").check([GOOD, bad, replace(bad, source="rows.jsonl:3")])
    assert len(problems) == 1
    assert word in problems[0]
    assert problems[0].startswith("2 of 3 examples have")
    assert "rows.jsonl:2, rows.jsonl:3" in problems[0]
    assert "rows.jsonl:1" not in problems[0]


def test_a_tool_call_without_text_is_an_answer():
    call = Answer((), extra={"tool_calls": [{"name": "look_up"}]})
    assert build("objectives", "next_token").check([replace(GOOD, answers=(call,))]) == []


def test_an_earlier_turn_may_carry_the_weight_unless_only_the_last_trains():
    earlier = (*GOOD.context, Turn("assistant", (text_part("a"),), weight=1.0), *GOOD.context)
    example = replace(GOOD, context=earlier, answers=(replace(GOOD.answer, weight=0.0),))
    counts = {
        loss_on: len(build("objectives", {"name": "next_token", "loss_on": loss_on}).check([example]))
        for loss_on in ("answers", "last", "all")
    }
    assert counts == {"answers": 0, "last": 1, "all": 0}


def test_only_the_wanted_answer_is_looked_at():
    worse = Answer((Part("audio", b""),), rank=1)
    assert build("objectives", "next_token").check([replace(GOOD, answers=(worse, GOOD.answer))]) == []


def test_unknown_loss_on_is_refused():
    with pytest.raises(UserError, match="loss_on"):
        build("objectives", {"name": "next_token", "loss_on": "anwsers"})


def test_every_objective_states_what_it_needs():
    found = everything("objectives")
    assert found
    assert all(isinstance(objective.needs, frozenset) and objective.needs for objective in found)
