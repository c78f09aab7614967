"""TF-IDF and logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from tunewright.core.records import Example
from tunewright.evaluate.baselines._labels import label_indices, survey_weights, targets
from tunewright.evaluate.baselines._text import question, text_log_probs
from tunewright.evaluate.contracts import Baseline, Outcome


class Tfidf(Baseline):
    """TF-IDF of words and word pairs with logistic regression: seconds on a laptop, and hard to beat on few rows."""

    needs: ClassVar[frozenset[str]] = frozenset({"text"})
    C: float = Field(10.0, gt=0)
    """Inverse of the penalty; L2-normed TF-IDF rows are short, so scikit-learn's 1.0 underfits."""

    def outcomes(self, train: Sequence[Example], test: Sequence[Example], labels: Sequence[str]) -> list[Outcome]:
        """One outcome a test example.

        Raises:
            UserError: No training row has a label of the list.
        """
        train = targets(train)
        indices = label_indices(train, labels)
        known = indices >= 0
        texts = [question(example) for example, keep in zip(train, known, strict=True) if keep]
        asked = [question(example) for example in test]
        weights = survey_weights([example for example, keep in zip(train, known, strict=True) if keep])
        answers = text_log_probs(texts, indices[known], asked, len(labels), self.C, weights)
        return [Outcome(example, choices=row) for example, row in zip(test, answers, strict=True)]
