"""The constrained loss against its published vectors, its gradient, and a loop over rows."""

from __future__ import annotations

import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tiny import KINDS
from tunewright.core.errors import UserError
from tunewright.core.plugins import build
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.core.settings import PlanSettings
from tunewright.core.store import Run
from tunewright.data.encoder import Encoded
from tunewright.data.sequences import OnDemand
from tunewright.models.collate import packed
from tunewright.models.contracts import EncodeSettings
from tunewright.models.reference import Reference
from tunewright.models.stored import Stored
from tunewright.objectives.constrained import places, weights
from tunewright.pipeline import scratch
from tunewright.pipeline.prepare import encode_settings


def test_it_has_its_name_beside_its_reference():
    """By which a worker process knows that it makes the same job."""
    assert build("objectives", "constrained").against(None).plugin_name() == "constrained"


@pytest.mark.parametrize(
    ("beta", "rise", "weight"), [(0.1, 0, 1), (2, 0, 1), (2, 1, 0.2384), (2, 2, 0.0360), (0.1, 2, 0.9003), (2, 9, 1e-3)]
)
def test_published_weights(beta, rise, weight):
    assert float(weights(torch.tensor([float(rise)]), torch.tensor([float(beta)]))) == pytest.approx(weight, abs=6e-5)


def test_the_gradient_is_that_of_the_paper_s_loss():
    log_p = torch.tensor([-1.0, -0.2, -3.0], dtype=torch.float64, requires_grad=True)
    before, beta = torch.tensor([-1.5, -1.0, -1.0], dtype=torch.float64), torch.tensor([0.5, 2.0, 0.1])
    (-weights((log_p - before).detach(), beta) * log_p).sum().backward()
    ours = log_p.grad.clone()
    log_p.grad = None
    (-(2 / beta) * torch.nn.functional.logsigmoid(beta * (log_p - before))).sum().backward()
    # d/dx of -(2/b) log sigmoid(b x) is -2 (1 - sigmoid(b x)), our weight.
    assert torch.allclose(ours, log_p.grad)


@pytest.mark.parametrize("loss_on", ["answers", "last", "all"])
def test_where_prompts_are_trained_it_is_refused_as_answers_begin_nowhere(loss_on):
    row = Example((Turn("user", (text_part("Why?"),)),), (Answer((text_part("So."),)),))
    faults = build("objectives", {"name": "constrained", "loss_on": loss_on}).check([row])
    assert ["Use 'answers' or 'last'" in fault for fault in faults] == ([True] if loss_on == "all" else [])


def test_the_hold_begins_with_each_answer_not_with_the_prompt(open_tiny):
    model = open_tiny("qwen2")
    turns = [("user", "Why is that so?"), ("assistant", "One two three four five six seven."), ("user", "And then?")]
    context = tuple(Turn(who, (text_part(text),), weight=float(who == "assistant")) for who, text in turns)
    row = Example(context, (Answer((text_part("Eight nine ten eleven twelve thirteen."),)),))
    (encoded,) = model.family.encoder(model, EncodeSettings()).encode(row)
    batch = model.family.collate(model, [encoded])
    beta_T = build("objectives", "constrained").beta_T(batch)
    text = [model.tokenizer.decode([int(token)]).strip() for token in batch.targets.target_T]
    firsts = [k for k, beta in enumerate(beta_T.tolist()) if beta == pytest.approx(0.5)]
    starts = [0, 1 + int(np.flatnonzero(np.diff(encoded.positions) > 1)[0])]
    assert firsts == starts
    assert ["One".startswith(text[firsts[0]]), "Eight".startswith(text[firsts[1]])] == [True, True]


def test_what_a_template_opens_answers_with_takes_no_place_of_the_answer():
    settings = PlanSettings.model_validate({"data": {"path": "x"}, "model": "y"})
    for name, trains in (("constrained", False), ("next_token", True)):
        assert encode_settings(settings, build("objectives", name), None).trains_opening is trains


def filled(model, rows, folder):
    reference = Reference.of(model, folder)
    assert list(reference.fill([rows]))[-1] == len(rows)
    return build("objectives", "constrained").against(reference)


@pytest.mark.parametrize("kind", KINDS)
def test_before_training_it_is_the_next_token_loss(kind, open_tiny, rows, tmp_path):
    model = open_tiny(kind)
    batch = model.family.collate(model, rows)
    held = filled(model, rows, tmp_path).loss(model, batch, 0)
    plain = build("objectives", "next_token").loss(model, batch, 0)
    assert torch.allclose(held.sum_S, plain.sum_S, rtol=1e-4)
    assert torch.equal(held.count_S, plain.count_S)


def test_after_training_each_row_is_weighed_as_a_loop_would(open_tiny, rows, tmp_path):
    model = open_tiny("qwen2")
    objective = filled(model, rows, tmp_path)
    before = [model.family.token_log_probs(model, model.family.collate(model, [row])) for row in rows]
    with torch.no_grad():
        for weight in model.module.parameters():
            weight.add_(0.05 * torch.randn_like(weight, generator=torch.Generator().manual_seed(1)))
    loss = objective.loss(model, model.family.collate(model, rows), 0)
    for row, was, total in zip(rows, before, loss.sum_S, strict=True):
        now = model.family.token_log_probs(model, model.family.collate(model, [row]))
        place, want = 0, 0.0
        for k, position in enumerate(row.positions):
            place = place + 1 if k and position == row.positions[k - 1] + 1 else 1
            beta = 0.5 if place == 1 else 2.0 if place <= 5 else 0.1
            held = max(1e-3, 2 * (1 - 1 / (1 + np.exp(-beta * float(now[k] - was[k])))))
            want -= float(row.weights[k]) * held * float(now[k])
        assert float(total) == pytest.approx(want, rel=1e-3)


def test_rows_that_share_a_beginning_have_the_places_they_have_alone(rows):
    from dataclasses import replace

    first = rows[6]
    ids = first.inputs["input_ids"].copy()
    ids[-1] += 1
    twin = replace(first, inputs={"input_ids": ids}, targets=np.where(first.positions == 18, ids[-1], first.targets))
    together = packed([first, twin, rows[0]])
    assert together.shared
    assert places(together).tolist() == [p for row in (first, twin, rows[0]) for p in places(packed([row])).tolist()]


def test_what_was_kept_is_not_computed_again_and_equal_rows_may_differ_in_what_is_trained(open_tiny, rows, tmp_path):
    from dataclasses import replace

    model = open_tiny("qwen2")
    half = replace(
        rows[6], positions=rows[6].positions[::2], targets=rows[6].targets[::2], weights=rows[6].weights[::2]
    )
    every = [*rows, half]
    reference = Reference.of(model, tmp_path)
    list(reference.fill([every]))
    batch = model.family.collate(model, every)
    with torch.no_grad():
        assert torch.allclose(reference.log_probs(batch), model.family.token_log_probs(model, batch), atol=1e-4)
    calls = []
    again = Reference.of(model, tmp_path)
    original = model.family.token_log_probs
    try:
        type(model.family).token_log_probs = lambda *a: calls.append(1) or original(*a[1:])
        list(again.fill([every]))
    finally:
        type(model.family).token_log_probs = original.__func__
    assert not calls
    assert torch.equal(again.log_probs(batch), reference.log_probs(batch))


class Read(OnDemand):
    """Rows as from disk, made anew whenever one is asked for; knows how many are alive."""

    def __init__(self, count):
        self.count, self.made = count, []

    def __len__(self):
        return self.count

    def at(self, place):
        ids = np.full(256, place % (self.count - 1))  # the last row is the first again
        self.made.append(weakref.ref(ids))
        nothing = np.zeros(0, np.int64)
        return Encoded(Example((), ()), {"input_ids": ids}, len(ids), nothing, nothing, np.zeros(0, np.float32))

    def alive(self):
        return sum(one() is not None for one in self.made)


def test_rows_are_read_a_file_at_a_time(tmp_path, monkeypatch):
    rows, alive, computed = Read(200), [], []

    def compute(self, given):
        alive.append(rows.alive())
        computed.extend(row.inputs["input_ids"][0] for row in given)
        return [torch.zeros(row.length) for row in given]

    monkeypatch.setattr(Reference, "_compute", compute)
    assert list(Reference(None, Stored(tmp_path, "recipe")).fill([rows, rows[:3]]))[-1] == 199
    assert computed == list(range(199)), "each content once, as they came"
    assert max(alive) < 30


def test_a_row_that_was_not_kept_stops_the_run_and_so_does_no_reference(open_tiny, rows, tmp_path):
    model = open_tiny("qwen2")
    objective = filled(model, rows[:3], tmp_path)
    with pytest.raises(UserError, match="row 3"):
        objective.loss(model, model.family.collate(model, rows), 0)
    with pytest.raises(UserError, match="before training"):
        build("objectives", "constrained").loss(model, model.family.collate(model, rows), 0)


def test_from_scratch_there_is_nothing_to_hold_to_so_the_plain_loss_trains(open_tiny, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(scratch, "loop", lambda job, *_: asked.append(job.objective))
    run = Run(tmp_path)
    run.append({"type": "end", "step": 2})
    held = build("objectives", {"name": "constrained", "loss_on": "last"})
    prepared = SimpleNamespace(
        model=open_tiny("qwen2"), settings=PlanSettings(), objective=held, train=(), test=(), mixed=None
    )  # fmt: skip
    scratch.scratch_outcomes(prepared, run, SimpleNamespace(ask=lambda *_: []), lambda *_: None)
    assert asked == [build("objectives", {"name": "next_token", "loss_on": "last"})]
