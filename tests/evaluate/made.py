"""Small outcomes and examples made by hand."""

from collections.abc import Sequence

import numpy as np

from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.evaluate.contracts import Floats, Outcome

LABELS = ["bad", "fine", "good"]


def example(
    id: str, answer: str | Sequence[str] = "good", asked: str = "How was it?", unit: str | None = None
) -> Example:
    answers = [answer] if isinstance(answer, str) else answer
    return Example(
        (Turn("user", (text_part(asked),)),),
        tuple(Answer((text_part(text),)) for text in answers),
        id=id,
        source=f"rows.csv:{id}",
        unit=unit,
        label=True,
    )


def chooses(id: str, said: str, answer: str = "good", unit: str | None = None, sure: float = 2.0) -> Outcome:
    """An outcome whose choices favour one label."""
    scores = np.array([sure if label == said else 0.0 for label in LABELS])
    return Outcome(example(id, answer, unit=unit), choices=scores)


def summary(metric, records, weights=None) -> float:
    records = np.asarray(records, float)
    weights = np.ones((1, len(records))) if weights is None else np.asarray(weights, float)[None]
    return float(metric.summarise(records, weights)[0])


def records_of(metric, outcomes, labels=LABELS) -> Floats:
    return np.array([metric.record(outcome, labels) for outcome in outcomes])
