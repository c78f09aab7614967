"""Negative log-likelihood of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tunewright.evaluate.contracts import Need, Outcome
from tunewright.evaluate.metrics._ratio import Cost, answer_nats


class Nll(Cost):
    """Negative log-likelihood of the answer, nats per token (stop token included)."""

    needs: ClassVar[Need] = "answer"

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(nats, tokens); None when the answer was not scored."""
        return answer_nats(outcome)
