"""Greedy answers: batched with padding as alone, and the stop is seen."""

from __future__ import annotations

import pytest
import torch

from tiny import KINDS
from tunewright.core.records import Example, Turn, text_part


@pytest.mark.parametrize("kind", KINDS)
def test_batched_answers_equal_answers_alone(open_tiny, kind):
    model = open_tiny(kind, torch.float32)
    asked = [Example((Turn("user", (text_part(text),)),), ()) for text in ("Which code?", "bread " * 9, "a")]
    together = list(model.family.generate(model, asked, 6))
    alone = [next(iter(model.family.generate(model, [one], 6))) for one in asked]
    if kind != "mamba":  # a state-space model reads the padding on the left too, within transformers
        assert together == alone
    assert len(together) == 3


def test_next_log_probs_are_those_of_the_first_answer_token(open_tiny):
    model = open_tiny("llama", torch.float32)
    asked = [Example((Turn("user", (text_part(text),)),), ()) for text in ("Which code?", "bread " * 9)]
    found = list(model.family.next_log_probs(model, asked))
    for example, row in zip(asked, found, strict=True):
        (alone,) = model.family.next_log_probs(model, [example])
        assert abs(row - alone).max() < 1e-4
        assert abs(float(torch.from_numpy(row).exp().sum()) - 1) < 1e-4
