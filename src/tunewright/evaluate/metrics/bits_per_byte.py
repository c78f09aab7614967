"""Bits per byte of the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tunewright.core.plugins import Plugin
from tunewright.evaluate.contracts import Floats, Need, Outcome
from tunewright.evaluate.metrics._ratio import ratio


class BitsPerByte(Plugin):
    """Bits the model needs per UTF-8 byte of the answer: comparable between tokenizers."""

    needs: ClassVar[Need] = "answer"
    higher_is_better: ClassVar[bool] = False
    closed_set: ClassVar[bool] = False

    def record(self, outcome: Outcome, labels: Sequence[str]) -> tuple[float, ...] | None:
        """(bits, bytes); None when the answer was not scored or is empty."""
        if outcome.answer_log_prob is None or outcome.answer_bytes <= 0:
            return None
        return -outcome.answer_log_prob / math.log(2), float(outcome.answer_bytes)

    def summarise(self, records: Floats, weights: Floats) -> Floats:
        """[resamples] all bits over all bytes."""
        return ratio(records, weights)

    def sizes(self, records: Floats) -> Floats:
        """[n] bytes: how much each example counts."""
        return np.asarray(records[:, 1])
