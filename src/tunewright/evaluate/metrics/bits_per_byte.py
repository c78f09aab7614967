"""Bits per byte of the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from tunewright.evaluate.contracts import Need, Outcome
from tunewright.evaluate.metrics._ratio import Cost


class BitsPerByte(Cost):
    """Bits the model needs per UTF-8 byte of the answer: comparable between tokenizers."""

    needs: ClassVar[Need] = "answer"

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(bits, bytes); None when the answer was not scored or is empty."""
        if outcome.answer_log_prob is None or outcome.answer_bytes <= 0:
            return None
        return -outcome.answer_log_prob / math.log(2), float(outcome.answer_bytes)
