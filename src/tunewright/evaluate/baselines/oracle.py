"""The law that the rows were drawn from, where it is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tunewright.core.records import Example
from tunewright.data.spelling import whole
from tunewright.evaluate.baselines._labels import FLOOR
from tunewright.evaluate.contracts import Baseline, Outcome


class Oracle(Baseline):
    """The true probabilities, where test rows bring them (simulated data): nothing can be foreseen better than this."""

    def applies(self, train: Sequence[Example], test: Sequence[Example]) -> bool:
        """Whether every test row brings its probabilities."""
        return bool(test) and all(_law(example) for example in test)

    def outcomes(self, train: Sequence[Example], test: Sequence[Example], labels: Sequence[str]) -> list[Outcome]:
        """One outcome a test example; what the law gives to titles beyond the label list is nobody's, and what it holds
        impossible gets a floor."""
        found = []
        for example in test:
            shares = np.array([float(_law(example).get(label, 0.0)) for label in labels])
            logs = np.log(shares, out=np.full(len(labels), FLOOR), where=shares > 0)
            found.append(Outcome(example, choices=np.maximum(logs, FLOOR)))
        return found


def _law(example: Example) -> dict[str, Any]:
    law = example.context[-1].extra.get("oracle") if example.context else None
    return {whole(str(title)): share for title, share in (law or {}).items()}
