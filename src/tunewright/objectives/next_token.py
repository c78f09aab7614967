"""Negative log-likelihood of each next token."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import ClassVar

from tunewright.core.records import Example
from tunewright.models.contracts import Batch, LoadedModel, Loss, Objective
from tunewright.objectives._likelihood import likelihood_loss, log_probs


class NextToken(Objective):
    """Negative log-likelihood of the trained tokens (cross-entropy), in nats."""

    needs: ClassVar[frozenset[str]] = frozenset({"token_log_probs"})

    def check(self, examples: Sequence[Example]) -> list[str]:
        """One sentence per kind of fault: how many examples, which is the first, what to do."""
        found: dict[str, list[str]] = defaultdict(list)
        for number, example in enumerate(examples, 1):
            for fault in self._faults(example):
                found[fault].append(example.source or example.id or f"example {number}")
        return [
            f"{len(places)} of {len(examples)} examples {fault} (first: {', '.join(places[:3])})."
            for fault, places in found.items()
        ]

    def loss(self, model: LoadedModel, batch: Batch, seed: int) -> Loss:
        """Weighted negative log-probability summed over each segment's targets; nothing here is random.

        Returns:
            `sum_S` and `count_S` [segments], float32 (float64 if the log-probabilities are); `count_S` is the sum of
            the targets' weights.
        """
        return likelihood_loss(batch, log_probs(model, batch))

    def _faults(self, example: Example) -> Iterator[str]:
        if not example.answers:
            yield "have no answer; next_token learns answers: add one, or leave the example out"
            return
        answer = example.answer
        kinds = sorted({part.kind for part in answer.parts} - {"text"})
        if kinds:
            yield f"have an answer of kind {', '.join(kinds)}; next_token learns text alone: use text answers"
        elif not answer.text and not answer.extra:
            yield "have an empty answer; write the answer, or leave the example out"
        weights = [turn.weight for turn in example.context] + [answer.weight]
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
            yield "have a weight below 0 or not finite; weights must be 0 or more"
        elif self.loss_on == "last" and answer.weight == 0:
            yield "have weight 0 on the last answer, all that loss_on 'last' trains; give it weight, or use 'answers'"
        elif not any(weights):
            yield "have weight 0 on every answer; give one a weight above 0, or leave the example out"
